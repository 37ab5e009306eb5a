"""What a worker of a sink does as long as the same partitions are its own."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from kubewhy.errors import Rejected, RetryLater
from kubewhy.events import ALONE, decode
from kubewhy.records import Finding
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.lanes import Lane
from kubewhy.runtime.fleet.leases import Lease, moment
from kubewhy.runtime.fleet.publishing import Publisher, appended, dead
from kubewhy.runtime.fleet.remembered import Writer
from kubewhy.topics import FINDINGS

log = logging.getLogger(__name__)

_BETWEEN = 1.0  # seconds


class Shift:
    """As long as the same partitions are ours."""

    def __init__(
        self,
        kafka: Kafka,
        consumer: AIOKafkaConsumer,
        publisher: Publisher,
        lanes: Sequence[Lane],
        writer: Writer,
        clock: "Clock",
        lease: Lease,
        name: str,
    ) -> None:
        self._lanes, self._name = lanes, name
        self._consumer, self._publisher, self._writer = consumer, publisher, writer
        self._clock, self._lease = clock, lease
        self._topic, self._failed = kafka.name(FINDINGS), kafka.notes.commit_failed
        self._lane = {partition: lane for lane in lanes for partition in lane.begins}
        self._full: set[int] = set()  # partitions that are not read for now
        self._over = self._told = False
        for lane in lanes:
            lane.start()
        self._tasks = [asyncio.create_task(each) for each in (self._ticking(), self._committing(), self._burying())]

    async def take(self, batch: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Queues what of these records is for the sink."""
        for task in self._tasks:
            if task.done():
                task.result()
        for lane in self._lanes:
            lane.check()
        records = [record for records in batch.values() for record in records]
        findings: list[Finding | None] = []
        unusable = []
        for record in records:
            self._clock.seen(appended(record))
            try:
                findings.append(self._read(record))
            except Rejected as error:
                findings.append(None)
                unusable.append(dead(f"sink/{self._name}", str(error), record))
        await self._publisher.send(unusable)
        for record, finding in zip(records, findings, strict=True):
            lane = self._lane[record.partition]
            lane.feed(record.partition, record.offset, finding, alone=_alone(record) is not None)
        for lane in {id(lane): lane for record in records if (lane := self._lane[record.partition])}.values():
            await self._post(lane)
        self._pace()

    async def end(self) -> None:
        """Ends what is under way, in bounded time."""
        self._over = True
        try:
            await asyncio.gather(*(lane.rest() for lane in self._lanes))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_BETWEEN)
            with suppress(TimeoutError):
                async with asyncio.timeout(_BETWEEN):
                    await self._commit()
            await self._writer.close()

    def _read(self, record: Any) -> Finding | None:
        """None where it is nothing, or for another sink alone. Raises Rejected for what is no finding."""
        if record.value is None or _alone(record) not in (None, self._name):
            return None
        finding: Finding = decode(FINDINGS, record.value, record.headers)
        return finding

    async def _post(self, lane: Lane) -> None:
        while not self._over:
            try:
                lane.post()
            except RetryLater:
                await asyncio.sleep(_BETWEEN)
            else:
                return

    def _pace(self) -> None:
        """What has enough waiting is not read for a while; but the group hears of us all the same."""
        for lane in self._lanes:
            its = set(lane.begins)
            parts = [TopicPartition(self._topic, partition) for partition in its]
            if its <= self._full and lane.has_room:
                self._full -= its
                self._consumer.resume(*parts)
            elif not its <= self._full and lane.is_full:
                self._full |= its
                self._consumer.pause(*parts)

    async def _ticking(self) -> None:
        while True:
            for lane in self._lanes:
                with suppress(RetryLater):
                    lane.tick(self._clock.now)
            self._pace()
            self._tell()
            await asyncio.sleep(1.0)

    def _tell(self) -> None:
        if self._lease.is_over and not self._told:
            log.warning("sink %s: Kafka does not answer; nothing is delivered until it does", self._name)
        elif self._told and not self._lease.is_over:
            log.warning("sink %s: Kafka answers again", self._name)
        self._told = self._lease.is_over

    async def _committing(self) -> None:
        while True:
            await self._commit()
            await asyncio.sleep(_BETWEEN)

    async def _commit(self) -> None:
        """That the group takes it says also that we are still one of it."""
        asked = moment()
        offsets = {TopicPartition(self._topic, at): up for lane in self._lanes for at, up in lane.offsets().items()}
        try:
            await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            log.info("sink %s: cannot commit now (%s)", self._name, type(error).__name__)
            self._failed()
        else:
            self._lease.renew(asked)

    async def _burying(self) -> None:
        while True:
            for lane in self._lanes:
                letters = lane.dead(self._topic)
                left = await self._publisher.once(list(letters.values()))
                with suppress(RetryLater):
                    lane.buried(key for key, letter in letters.items() if letter not in left)
            await asyncio.sleep(_BETWEEN)


def _alone(record: Any) -> str | None:
    told = dict(record.headers).get(ALONE)
    return None if told is None else told.decode(errors="replace")


class Clock:
    """The brokers' clock: what it said last, and how long ago that was."""

    def __init__(self) -> None:
        self._said, self._since = datetime.min.replace(tzinfo=UTC), time.monotonic()

    def seen(self, at: datetime) -> None:
        """It was so late at most until now."""
        if at > self.now:
            self._said, self._since = at, time.monotonic()

    @property
    def now(self) -> datetime:
        return self._said + timedelta(seconds=time.monotonic() - self._since)
