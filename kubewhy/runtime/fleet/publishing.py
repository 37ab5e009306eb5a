"""Messages to Kafka: sent until the brokers have them."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from kubewhy.events import Message, decode, message
from kubewhy.records import DeadLetter
from kubewhy.runtime.fleet.cutting import smaller
from kubewhy.runtime.fleet.kafka import Kafka, forever, place_of
from kubewhy.runtime.fleet.reaching import short
from kubewhy.topics import DEAD_LETTERS

log = logging.getLogger(__name__)

_FITS = 0.9  # of a topic's largest batch: the key and the headers come on top


class Publisher:
    """One producer, and the names that topics have here."""

    def __init__(self, kafka: Kafka, producer: AIOKafkaProducer) -> None:
        self._kafka, self._producer = kafka, producer

    @property
    def trouble(self) -> str:
        """Why the last message that has not arrived did not."""
        return short(self._last)

    async def send(self, messages: Iterable[Message]) -> None:
        """Returns once all have arrived, however long the brokers are away. Some may arrive twice then."""
        left = list(messages)

        async def attempt() -> None:
            nonlocal left
            left = await self.once(left)
            if left:
                raise self._last

        if left:
            await forever(attempt, f"sending to {self._kafka.settings.called}")

    async def once(self, messages: Sequence[Message]) -> list[Message]:
        """Those that have not arrived. In batches made here: a tenth of what it costs to hand over each by itself."""
        failed: list[Message] = []
        sent: list[tuple[list[Message], asyncio.Future[Any]]] = []
        for place, told in self._by_place(messages).items():
            await self._batches(place, told, sent, failed)
        for batch, future in sent:
            try:
                await future
            except KafkaError as error:
                self._last = error
                failed += batch
            else:
                self._arrived(batch)
        return failed

    async def begin(self, told: Message) -> "asyncio.Future[Any]":
        """Hands it over; the future is done once the brokers have it. Raises KafkaError."""
        told = fitting(told)
        topic, partition = self._kafka.name(told.topic), self._kafka.partition(told)
        future: asyncio.Future[Any] = await self._producer.send(
            topic, told.value, told.key, partition, headers=told.headers
        )
        return future

    def _arrived(self, batch: Sequence[Message]) -> None:
        topic, notes = batch[0].topic, self._kafka.notes
        notes.produced(self._kafka.name(topic), len(batch))
        for told in batch if topic is DEAD_LETTERS else ():
            notes.dead(decode(topic, told.value, told.headers).stage)

    def _by_place(self, messages: Iterable[Message]) -> dict[tuple[str, int], list[Message]]:
        places: dict[tuple[str, int], list[Message]] = {}
        for told in messages:
            partition = self._kafka.partition(told)
            if partition is None:
                partition = place_of(told.key, self._kafka.settings.partitions)
            places.setdefault((self._kafka.name(told.topic), partition), []).append(told)
        return places

    async def _batches(
        self,
        place: tuple[str, int],
        messages: Sequence[Message],
        sent: list[tuple[list[Message], "asyncio.Future[Any]"]],
        failed: list[Message],
    ) -> None:
        """Fills one batch after the other. What follows one that could not be handed over waits for it."""
        topic, partition = place
        begun = 0
        while begun < len(messages):
            builder, end = self._producer.create_batch(), begun
            for told in map(fitting, messages[begun:]):
                if not builder.append(key=told.key, value=told.value, timestamp=None, headers=told.headers):
                    break
                end += 1
            end = max(end, begun + 1)
            try:
                future = await self._producer.send_batch(builder, topic, partition=partition)
            except KafkaError as error:
                self._last = error
                failed += messages[begun:]
                return
            sent.append((list(messages[begun:end]), future))
            begun = end

    _last: KafkaError = KafkaError()


def fitting(told: Message) -> Message:
    """The message; or, where it is too large for its topic, one without its least useful parts."""
    if told.value is None or len(told.value) <= told.topic.largest * _FITS:
        return told
    log.warning("a record of %s is too large, and goes without its least useful parts", told.topic.name)
    record: msgspec.Struct = smaller(decode(told.topic, told.value, told.headers), told.topic.largest)
    return message(record, cluster=told.cluster, topic=told.topic)._replace(key=told.key, partition=told.partition)


def dead(stage: str, reason: str, record: Any) -> Message:
    """What becomes of a consumer's record that cannot be used."""
    return message(
        DeadLetter(
            stage=stage,
            reason=reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            at=appended(record),
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )
    )


def appended(record: Any) -> datetime:
    """When the broker had it."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
