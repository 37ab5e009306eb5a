"""The worker of one sink: findings from Kafka, to where people and programs want to be told of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from kubewhy.contracts import Sink
from kubewhy.errors import ConfigError, RetryLater
from kubewhy.runtime.courier import Counts
from kubewhy.runtime.fleet.assignors import all_to_one
from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import JOINING, SESSION_SECONDS, Kafka
from kubewhy.runtime.fleet.lag import lags
from kubewhy.runtime.fleet.lanes import Lane
from kubewhy.runtime.fleet.leases import Lease, moment
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.remembered import Writer
from kubewhy.runtime.fleet.resuming import Resuming
from kubewhy.runtime.fleet.shifts import Clock, Shift
from kubewhy.settings import Settings
from kubewhy.topics import DEAD_LETTERS, FINDINGS, SINK_STATE
from sinks import make

log = logging.getLogger(__name__)

RESTORED = "state"  # the check of whether what the sink remembers has been read
_AT_ONCE = 200  # records
_ENDING_SECONDS = 20.0  # of the thirty in which the group waits for us
_BETWEEN = 1.0  # seconds


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
        self._shift: Shift | None = None
        self._lanes: Sequence[Lane] = ()  # those that are at work, until they have ended
        self._past = Counts(0, 0, 0, 0, timedelta(0))  # of those that have
        self._clock = Clock()

    async def run(self) -> None:
        """Delivers until cancelled."""
        [settings] = [sink for sink in self._settings.sinks if sink.called == self._name]
        sink = make(settings, self._environ)
        try:
            await ready(self._kafka, FINDINGS, SINK_STATE, DEAD_LETTERS)
            while True:
                await self._kafka.reached()
                try:
                    await self._consume(sink)
                except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
                    raise ConfigError(
                        f"kafka: we are not permitted to read {FINDINGS.name} for the sink {self._name} "
                        f"({type(error).__name__}): grant it to the user of kafka.sasl"
                    ) from None
                except KafkaError as error:
                    log.warning("sink %s: begins anew after trouble with Kafka (%s)", self._name, type(error).__name__)
                await asyncio.sleep(_BETWEEN)
        finally:
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

    async def _consume(self, sink: Sink) -> None:
        """As long as one consumer lives."""
        turns = _Turns(self._end)
        consumer = self._kafka.consumer(
            group=f"sink.{self._name}",
            session=self._session,
            assignor=StickyPartitionAssignor if sink.manner.shared else all_to_one(),
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
                        turn = turns.number
                        await self._begin(consumer, publisher, turns, sink)
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

    async def _begin(self, consumer: AIOKafkaConsumer, publisher: Publisher, turns: "_Turns", sink: Sink) -> None:
        """What follows from what is assigned now."""
        self._kafka.notes.said(RESTORED, "what the sink remembers is being read")
        await self._end()
        if parts := sorted(turns.assigned):  # one that stands by has none
            writer, lease = Writer(self._kafka, self._name), Lease(self._session, turns.since)
            resuming = Resuming(self._kafka, self._settings, self._name, sink, self._clock)
            try:
                self._lanes = await resuming.lanes(consumer, parts, lease, writer)
                self._shift = Shift(
                    self._kafka, consumer, publisher, self._lanes, writer, self._clock, lease, self._name
                )
            except (CommitFailedError, IllegalStateError):
                log.info("sink %s: its partitions went to another worker meanwhile", self._name)
                return
            except RetryLater as error:
                raise KafkaError(str(error)) from None
            finally:
                if not self._shift:
                    await writer.close()
        self._kafka.notes.said(RESTORED, "")

    async def _end(self) -> None:
        shift, self._shift = self._shift, None
        if shift:
            await shift.end()
            self._past, self._lanes = replace(self.counts(), waiting=0, lag=timedelta(0)), ()


class _Turns(ConsumerRebalanceListener):  # type: ignore[misc]
    """Counts how often the assignment has changed, and what it is now."""

    def __init__(self, end: Callable[[], Awaitable[None]]) -> None:
        self.number, self.assigned = 0, set[TopicPartition]()
        self.since = 0.0  # by the clock of leases
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
        self.since = moment()
