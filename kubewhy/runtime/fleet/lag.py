"""How far consumers are behind. To ask is also how to know whether the brokers answer."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from kubewhy.runtime.fleet.kafka import Kafka, Look
from kubewhy.topics import Topic

_POSITION_SECONDS = 0.5


async def lags(consumer: Any) -> dict[str, list[int]]:
    """By topic, how many records are still to come in each of its partitions; what it was given is not among them.

    Asks the brokers once, also where no partition is its own. Raises KafkaError where they do not answer.
    """
    found: dict[str, list[int]] = {topic: [] for topic in consumer.subscription()}
    places = list(consumer.assignment())
    ends = await consumer.end_offsets(places or [TopicPartition(topic, 0) for topic in found])
    for place in places:
        try:
            # Where it begins in a partition that has just become its own is not known at once.
            async with asyncio.timeout(_POSITION_SECONDS / len(places)):
                position = await consumer.position(place)
        except (TimeoutError, IllegalStateError):  # or it has just gone to another
            continue
        found.setdefault(place.topic, []).append(max(ends[place] - position, 0))
    return found


async def of_all(looks: Iterable[Look]) -> dict[str, list[int]]:
    """What they find, together. Raises KafkaError where there is nobody to ask, or one is not answered."""
    found: dict[str, list[int]] = {}
    asked = [look() for look in looks]
    if not asked:
        raise KafkaError("nobody is there yet who could ask")
    for each in await asyncio.gather(*asked):
        for topic, behind in each.items():
            found.setdefault(topic, []).extend(behind)
    return found


class Ends:
    """Where the partitions of a topic end, asked over a connection of its own: for readers that cannot be asked."""

    def __init__(self, kafka: Kafka, topic: Topic) -> None:
        self._kafka, self._topic = kafka, kafka.name(topic)
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()

    async def lags(self, positions: Mapping[int, int]) -> dict[str, list[int]]:
        """As `lags`, for a reader that is there in each of its partitions."""
        consumer = await self._started()
        ends = await consumer.end_offsets([TopicPartition(self._topic, place) for place in positions or (0,)])
        behind = [max(ends[TopicPartition(self._topic, place)] - position, 0) for place, position in positions.items()]
        return {self._topic: behind}

    async def _started(self) -> AIOKafkaConsumer:
        async with self._starting:
            if self._consumer is None:
                consumer = self._kafka.consumer()
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._consumer = consumer
            return self._consumer

    async def close(self) -> None:
        """Ends the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            with suppress(KafkaError):
                await consumer.stop()
