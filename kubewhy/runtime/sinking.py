"""The worker of one sink: findings from Kafka, to where people and programs want to be told of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import GroupAuthorizationFailedError, IllegalStateError, KafkaError, TopicAuthorizationFailedError

from kubewhy.contracts import Letter, Manner, Memo, Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.events import ALONE, decode
from kubewhy.records import Finding
from kubewhy.runtime.assignors import all_to_one
from kubewhy.runtime.courier import Counts
from kubewhy.runtime.declaring import ready
from kubewhy.runtime.delivery import warn
from kubewhy.runtime.kafka import JOINING, SESSION_SECONDS, Kafka
from kubewhy.runtime.lag import lags
from kubewhy.runtime.lanes import READ, Lane
from kubewhy.runtime.outbox import QUEUED
from kubewhy.runtime.publishing import Publisher, appended, dead
from kubewhy.runtime.remembered import Remembered, Rows, Writer, placed, recall, restored
from kubewhy.settings import Settings
from kubewhy.topics import DEAD_LETTERS, FINDINGS, SINK_STATE
from sinks import make

log = logging.getLogger(__name__)

RESTORED = "state"  # the check of whether what the sink remembers has been read
_AT_ONCE = 200  # records
_ENDING_SECONDS = 15.0  # of the thirty in which the group waits for us
_BEGUN = "begun"
_BETWEEN = 1.0  # seconds
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


async def deliver(
    kafka: Kafka, settings: Settings, name: str, environ: Mapping[str, str], session: float = SESSION_SECONDS
) -> None:
    """Until cancelled, all that is for that sink. Raises ConfigError for what only a person can mend.

    A worker that is not heard of for a `session` has lost its place to others.
    """
    await SinkWorker(kafka, settings, name, environ, session).run()


class SinkWorker:
    """One member of the sink's consumer group."""

    def __init__(
        self,
        kafka: Kafka,
        settings: Settings,
        name: str,
        environ: Mapping[str, str],
        session: float = SESSION_SECONDS,
    ) -> None:
        self._kafka, self._settings, self._name, self._environ = kafka, settings, name, environ
        self._session = session
        self._sinks: dict[str, Sink] = {}  # by lane
        self._shift: Shift | None = None
        self._lanes: Sequence[Lane] = ()  # those that are at work, until they have ended
        self._past = Counts(0, 0, 0, 0, timedelta(0))  # of those that have
        self._clock = Clock()

    async def run(self) -> None:
        """Delivers until cancelled."""
        await ready(self._kafka, FINDINGS, SINK_STATE, DEAD_LETTERS)
        try:
            shared = self._sink("").manner.shared
            while True:
                await self._kafka.reached()
                try:
                    await self._consume(shared=shared)
                except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
                    raise ConfigError(
                        f"kafka: we are not permitted to read {FINDINGS.name} for the sink {self._name} "
                        f"({type(error).__name__}): grant it to the user of kafka.sasl"
                    ) from None
                except KafkaError as error:
                    log.warning("sink %s: begins anew after trouble with Kafka (%s)", self._name, type(error).__name__)
                await asyncio.sleep(_BETWEEN)
        finally:
            for sink in self._sinks.values():
                await sink.close()

    def counts(self) -> Counts:
        """How it goes here, since the start. One that stands by has nothing to do."""
        each = [self._past, *(lane.counts() for lane in self._lanes)]
        return Counts(
            sum(one.delivered for one in each),
            sum(one.failed for one in each),
            sum(one.dead for one in each),
            sum(one.waiting for one in each),
            max(one.lag for one in each),
        )

    def _sink(self, lane: str) -> Sink:
        if lane not in self._sinks:
            [settings] = [sink for sink in self._settings.sinks if sink.called == self._name]
            self._sinks[lane] = make(settings, self._environ)
        return self._sinks[lane]

    async def _consume(self, *, shared: bool) -> None:
        """As long as one consumer lives."""
        turns = _Turns(self._end)
        consumer = self._kafka.consumer(
            group=f"sink.{self._name}",
            session=self._session,
            assignor=StickyPartitionAssignor if shared else all_to_one(),
        )
        consumer.subscribe([self._kafka.name(FINDINGS)], listener=turns)
        producer, look = self._kafka.producer(), partial(lags, consumer)
        try:
            await producer.start()
            await consumer.start()
            self._kafka.looks.append(look)
            publisher, turn = Publisher(self._kafka, producer), 0
            while True:
                if turns.number != turn:
                    async with turns.changing:
                        self._kafka.notes.said(RESTORED, "what the sink remembers is being read")
                        await self._end()
                        turn = turns.number
                        self._shift = await self._begun(consumer, publisher, turns, shared=shared)
                        self._lanes = self._shift.lanes if self._shift else ()
                        self._kafka.notes.said(RESTORED, "")
                batch = await consumer.getmany(timeout_ms=500, max_records=_AT_ONCE)
                self._kafka.came(batch)
                if turns.number == turn and self._shift:
                    await self._shift.take(batch)
        finally:
            self._kafka.notes.said(RESTORED, JOINING)
            if look in self._kafka.looks:
                self._kafka.looks.remove(look)
            await self._end()
            await consumer.stop()
            await producer.stop()

    async def _end(self) -> None:
        shift, self._shift = self._shift, None
        if shift:
            await shift.end()
            self._past, self._lanes = replace(self.counts(), waiting=0, lag=timedelta(0)), ()

    async def _begun(
        self, consumer: AIOKafkaConsumer, publisher: Publisher, turns: "_Turns", *, shared: bool
    ) -> "Shift | None":
        """What follows from what is assigned now."""
        parts = sorted(turns.assigned)
        if not parts:
            return None
        lanes = {str(part.partition): [part] for part in parts} if shared else {"": parts}
        rows = await recall(self._kafka, self._name)
        ends = await consumer.end_offsets(parts)
        writer = Writer(self._kafka, self._name)
        lease = Lease(self._session, turns.since)
        made = []
        try:
            # Whether rows are taken, and how late it is by the brokers' clock.
            at = await asyncio.to_thread(writer.write, "", {_BEGUN: str(self._kafka.options["client_id"]).encode()})
            self._clock.seen(at)
            for lane, its in lanes.items():
                begin = {}
                for part in its:
                    read = int(rows.get(lane, {}).get(f"{READ}{part.partition}", b"0"))
                    begin[part.partition] = max(await consumer.committed(part) or 0, read)
                made.append(await self._lane(lane, rows.get(lane, {}), begin, ends, writer, lease))
            for part in parts:
                consumer.seek(part, next(lane.begins[part.partition] for lane in made if part.partition in lane.begins))
        except RetryLater as error:
            await writer.close()
            raise KafkaError(str(error)) from None
        except BaseException:
            await writer.close()
            raise
        topic, failed = self._kafka.name(FINDINGS), self._kafka.notes.commit_failed
        return Shift(consumer, publisher, made, writer, self._clock, lease, self._name, topic, failed)

    async def _lane(
        self,
        lane: str,
        rows: Mapping[str, bytes],
        begin: Mapping[int, int],
        ends: Mapping[TopicPartition, int],
        writer: Writer,
        lease: "Lease",
    ) -> Lane:
        ends_of = {part.partition: end for part, end in ends.items()}
        # A topic that is shorter than what was read of it is another one.
        other = {partition for partition, offset in begin.items() if offset > ends_of[partition]}
        begin = {partition: 0 if partition in other else offset for partition, offset in begin.items()}
        places = placed(rows)
        whole, there = await restored(
            self._kafka, rows, {key: place for key, place in places.items() if place.partition not in other}
        )
        whole = {key: row for key, row in whole.items() if key in there or key not in places}
        # Positions of our own: what one who was here before us writes late must not take the place of what is ours.
        last = max(int(whole.get(QUEUED + self._name, b"0"), 16), int(self._clock.now.timestamp() * 1_000_000))
        whole[QUEUED + self._name] = b"%016x" % last

        def keep(rows: Rows) -> None:
            lease.check()  # or rows of one who has taken over could be undone
            writer.write(lane, rows)

        state = Remembered(keep, whole, there)
        state.write(dict.fromkeys(places.keys() - there.keys()))
        sink = Held(self._sink(lane), lease)
        took = partial(self._kafka.notes.delivered, self._name)
        return Lane(self._name, sink, self._settings, state, begin, partial(warn, self._name), took)


class _Turns(ConsumerRebalanceListener):  # type: ignore[misc]
    """Counts how often the assignment has changed, and what it is now."""

    def __init__(self, end: Any) -> None:
        self.number, self.assigned = 0, set[TopicPartition]()
        self.since = 0.0
        self.changing = asyncio.Lock()
        self._end = end

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.number += 1
        self.assigned = set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECONDS), self.changing:
                await self._end()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.number += 1
        self.assigned = set(assigned)
        self.since = time.clock_gettime(_CLOCK)


class Shift:
    """As long as the same partitions are ours."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        publisher: Publisher,
        lanes: Sequence[Lane],
        writer: Writer,
        clock: "Clock",
        lease: "Lease",
        name: str,
        topic: str,
        failed: Callable[[], None],
    ) -> None:
        self.lanes, self._failed = lanes, failed
        self._consumer, self._publisher, self._writer = consumer, publisher, writer
        self._clock, self._lease, self._name, self._topic = clock, lease, name, topic
        self._lane = {partition: lane for lane in lanes for partition in lane.begins}
        self._full: set[int] = set()  # partitions that are not read for now
        self._over = False
        for lane in lanes:
            lane.start()
        self._tasks = [asyncio.create_task(each) for each in (self._ticking(), self._committing(), self._burying())]

    async def take(self, batch: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Queues what of these records is for the sink."""
        for task in self._tasks:
            if task.done():
                task.result()
        for lane in self.lanes:
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
        await asyncio.gather(*(lane.rest() for lane in self.lanes))
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=1)
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
        for lane in self.lanes:
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
            for lane in self.lanes:
                with suppress(RetryLater):
                    lane.tick(self._clock.now)
            self._pace()
            await asyncio.sleep(1.0)

    async def _committing(self) -> None:
        while True:
            await self._commit()
            await asyncio.sleep(_BETWEEN)

    async def _commit(self) -> None:
        """That the group takes it says also that we are still one of it."""
        asked = time.clock_gettime(_CLOCK)
        offsets = {TopicPartition(self._topic, at): up for lane in self.lanes for at, up in lane.offsets().items()}
        try:
            await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            log.info("sink %s: cannot commit now (%s)", self._name, type(error).__name__)
            self._failed()
        else:
            self._lease.renew(asked)

    async def _burying(self) -> None:
        while True:
            for lane in self.lanes:
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


class Lease:
    """Until when no other member of the group can have taken our place."""

    def __init__(self, session: float, since: float) -> None:
        self._session = session
        self.renew(since)

    def renew(self, since: float) -> None:
        """The group has said at that time or later that it is our turn."""
        self._until = since + self._session

    def check(self) -> None:
        """Raises RetryLater where one may have: after we stood still, or lost touch with the group."""
        if time.clock_gettime(_CLOCK) >= self._until:
            raise RetryLater("Kafka has not said of late that it is our turn", _BETWEEN)


class Held:
    """A sink that is given nothing when it may not be our turn any more."""

    def __init__(self, sink: Sink, lease: Lease) -> None:
        self._sink, self._lease = sink, lease

    @property
    def manner(self) -> Manner:
        return self._sink.manner

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """As the sink does."""
        self._lease.check()
        await self._sink.send(letters, memo)

    async def spare(self, memo: Memo) -> bool:
        """As the sink does."""
        self._lease.check()
        return await self._sink.spare(memo)

    async def close(self) -> None:
        """It goes on in the next shift."""
