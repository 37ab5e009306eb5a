"""A whole topic from its beginning, and all that comes after: for what is kept by the newest of each key."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.topics import Topic


class Tail:
    """Gives records in batches; an empty one says that all there was at the start has been given."""

    def __init__(self, kafka: Kafka, topic: Topic) -> None:
        self._kafka = kafka
        self._consumer: AIOKafkaConsumer = kafka.consumer()
        self._places = [TopicPartition(kafka.name(topic), number) for number in range(kafka.partitions(topic))]

    async def batches(self) -> AsyncGenerator[list[Any], None]:
        """For ever, each partition in its order."""
        self._consumer.assign(self._places)
        async with self._consumer as consumer:
            left = await self._ends(consumer)
            while True:
                batch = await consumer.getmany(timeout_ms=0 if not left else 100)
                if not batch and not left:
                    batch = await consumer.getmany(timeout_ms=1000)
                self._kafka.came(batch)
                records = [record for each in batch.values() for record in each]
                if records:
                    yield records
                if left:
                    # By the position, not by what came: the last of a compacted topic need not be a record.
                    left = {place: end for place, end in left.items() if await consumer.position(place) < end}
                    if not left:
                        yield []

    async def _ends(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        await consumer.seek_to_beginning(*self._places)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(self._places)
        begins = await consumer.beginning_offsets(self._places)
        left = {place: end for place, end in ends.items() if end > begins[place]}
        # One that is empty has been given already.
        return left or {self._places[0]: 0}


async def until_now(tail: Tail) -> list[Any]:
    """All that there is."""
    found: list[Any] = []
    async with aclosing(tail.batches()) as batches:
        async for records in batches:
            if not records:
                break
            found += records
    return found
