"""Lanes to a sink, as they were when whoever had their partitions before ended."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition

from kubewhy.contracts import Sink
from kubewhy.runtime.delivery import warn
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.lanes import READ, Lane
from kubewhy.runtime.fleet.leases import Held, Lease, moment
from kubewhy.runtime.fleet.remembered import Remembered, Rows, Writer, placed, recall, restored
from kubewhy.runtime.fleet.shifts import Clock
from kubewhy.runtime.outbox import QUEUED
from kubewhy.settings import Settings

_BEGUN = "begun"


class Resuming:
    """Makes the lanes of one sink: one for all partitions, or one for each where workers share them."""

    def __init__(self, kafka: Kafka, settings: Settings, name: str, sink: Sink, clock: Clock) -> None:
        self._kafka, self._settings, self._name, self._sink, self._clock = kafka, settings, name, sink, clock

    async def lanes(
        self, consumer: AIOKafkaConsumer, parts: Sequence[TopicPartition], lease: Lease, writer: Writer
    ) -> list[Lane]:
        """Those of these partitions, from which the consumer goes on where that was not done yet.

        Raises RetryLater and KafkaError where they cannot be made now.
        """
        rows = await recall(self._kafka, self._name)
        committed = {part: await consumer.committed(part) or 0 for part in parts}
        begin = {part: max(committed[part], _read(rows.get(self._lane(part), {}), part)) for part in parts}
        # A topic that is shorter than what was read of it is another one.
        other = {part for part, end in (await consumer.end_offsets(parts)).items() if begin[part] > end}
        begin |= dict.fromkeys(other, 0)
        # It may have taken long. Whoever may commit is still one of the group.
        asked = moment()
        await consumer.commit(committed | dict.fromkeys(other, 0))
        lease.renew(asked)
        # Whether rows are taken, and how late it is by the brokers' clock.
        by = str(self._kafka.options["client_id"]).encode()
        self._clock.seen(await asyncio.to_thread(writer.write, "", {_BEGUN: by}))
        lanes = [
            await self._made(lane, rows.get(lane, {}), begin, other, lease, writer)
            for lane in dict.fromkeys(map(self._lane, parts))
        ]
        for part, offset in begin.items():
            consumer.seek(part, offset)
        return lanes

    def _lane(self, part: TopicPartition) -> str:
        return str(part.partition) if self._sink.manner.shared else ""

    async def _made(
        self,
        lane: str,
        rows: Mapping[str, bytes],
        begin: Mapping[TopicPartition, int],
        other: Collection[TopicPartition],
        lease: Lease,
        writer: Writer,
    ) -> Lane:
        places, strange = placed(rows), {part.partition for part in other}
        usable = {key: place for key, place in places.items() if place.partition not in strange}
        found, there = await restored(self._kafka, rows, usable)
        whole = {key: row for key, row in found.items() if key in there or key not in places}
        # Positions of our own: what one who was here before us writes late must not take the place of what is ours.
        last = max(int(whole.get(QUEUED + self._name, b"0"), 16), int(self._clock.now.timestamp() * 1_000_000))
        whole[QUEUED + self._name] = b"%016x" % last

        def keep(rows: Rows) -> None:
            lease.check()  # or rows of one who has taken over could be undone
            writer.write(lane, rows)

        state = Remembered(keep, whole, there)
        state.write(dict.fromkeys(places.keys() - there.keys()))
        its = {part.partition: offset for part, offset in begin.items() if self._lane(part) == lane}
        say, took = partial(warn, self._name), partial(self._kafka.notes.delivered, self._name)
        return Lane(self._name, Held(self._sink, lease), self._settings, state, its, say, took)


def _read(rows: Mapping[str, bytes], part: TopicPartition) -> int:
    return int(rows.get(f"{READ}{part.partition}", b"0"))
