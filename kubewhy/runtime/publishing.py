"""Messages to Kafka: sent until the brokers have them."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from kubewhy.events import Message, decode, message
from kubewhy.records import DeadLetter
from kubewhy.runtime.cutting import smaller
from kubewhy.runtime.kafka import Kafka, forever

log = logging.getLogger(__name__)


class Publisher:
    """One producer, and the names that topics have here."""

    def __init__(self, kafka: Kafka, producer: AIOKafkaProducer) -> None:
        self._kafka, self._producer = kafka, producer

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
        """Those that have not arrived."""
        futures = []
        failed: list[Message] = []
        for each in messages:
            try:
                futures.append((each, await self.begin(each)))
            except KafkaError as error:
                self._last = error
                failed.append(each)
        for each, future in futures:
            try:
                await future
            except KafkaError as error:
                self._last = error
                failed.append(each)
        return failed

    async def begin(self, told: Message) -> "asyncio.Future[Any]":
        """Hands it over; the future is done once the brokers have it. What is too large is cut. Raises KafkaError."""
        topic, partition = self._kafka.name(told.topic), self._kafka.partition(told)
        future: asyncio.Future[Any]
        try:
            future = await self._producer.send(topic, told.value, told.key, partition, headers=told.headers)
        except MessageSizeTooLargeError:
            log.warning("a record of %s is too large, and goes without its least useful parts", told.topic.name)
            less = _cut(told)
            future = await self._producer.send(topic, less.value, less.key, partition, headers=less.headers)
        return future

    _last: KafkaError = KafkaError()


def _cut(told: Message) -> Message:
    record: msgspec.Struct = smaller(decode(told.topic, told.value, told.headers), told.topic.largest)
    return message(record, cluster=told.cluster, topic=told.topic)


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
