"""One member of the group that folds: its records, its rows and what it commits, where Faust has its partitions.

Faust does not guarantee that rows have reached the changelog before an offset is committed, nor that no record is lost
when partitions move. So rows are written here and waited for, and only what is told and kept is committed.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.kafka import Kafka, forever
from kubewhy.runtime.fleet.keeping import Fold, Keeping, LostPlace
from kubewhy.runtime.fleet.lag import Ends
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.reaching import short
from kubewhy.runtime.fleet.rows import Rows
from kubewhy.runtime.fleet.telling import Telling
from kubewhy.topics import FAILURES, INCIDENTS

log = logging.getLogger(__name__)

RESTORED = "incidents"  # the check of whether all is there that is remembered of the partitions that are ours
_DRAIN_SECONDS = 5.0  # for what is at work when a partition goes elsewhere, or all ends
_STOP_SECONDS = 20.0
_WATCH_SECONDS = 5.0
_STANDING_SECONDS = 120.0
_NOT_PERMITTED = "kafka: we are not permitted to be one of the group {}: grant Read to the user of kafka.sasl"


class _Record(NamedTuple):
    """As consumers have it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Member:
    """Runs a Faust app from its start to its end; `table` has the rows of its partitions."""

    def __init__(self, kafka: Kafka, what: Fold, producer: AIOKafkaProducer, app: Any, table: Any) -> None:
        self._kafka, self._producer, self._app, self._table = kafka, producer, app, table
        self._topic, self._changelog = kafka.name(FAILURES), kafka.name(INCIDENTS)
        self._publisher = Publisher(kafka, producer)
        self._telling = Telling(kafka, self._publisher)
        self._keeping = Keeping(what, self._telling.send, self._put)
        self._ends = Ends(kafka, FAILURES)
        self._first: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._ours = asyncio.Event()

    async def run(self) -> str:
        """Returns why it ended. Raises ConfigError."""
        self._kafka.looks.append(self._lags)
        living = asyncio.create_task(self._live())
        tasks = [asyncio.create_task(each) for each in (self._turns(), self._commits(), self._watch())]
        try:
            ends = [self._keeping.failed, living, *tasks]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            error = next(filter(None, (each.exception() for each in done)), None)
        finally:
            self._kafka.looks.remove(self._lags)
            await self._stop(living, tasks)
            await self._ends.close()
        if isinstance(error, ConfigError):
            raise error
        if isinstance(error, GroupAuthorizationFailedError | TopicAuthorizationFailedError):
            raise ConfigError(_NOT_PERMITTED.format(self._app.conf.id)) from None
        error = error or self._app.crash_reason or LostPlace("its consumer ended")
        return short(error) if isinstance(error, KafkaError | LostPlace) else f"{type(error).__name__} {short(error)}"

    async def _lags(self) -> dict[str, list[int]]:
        return await self._ends.lags(self._keeping.positions())

    async def _live(self) -> None:
        await self._app.start()
        await self._app.wait_until_stopped()

    async def _stop(self, living: "asyncio.Task[None]", tasks: Iterable["asyncio.Task[None]"]) -> None:
        for task in tasks:
            task.cancel()
        self._app.flow_control.suspend()
        await self._drain()
        for partition in self._keeping.partitions:
            self._keeping.end(partition)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._app.stop()
                await living
        except TimeoutError:
            log.info("the consumer did not end in time")
        except Exception as error:  # noqa: BLE001 - it is over, however it ends
            log.info("the consumer did not end well (%s)", short(error))
        living.cancel()
        await asyncio.gather(living, *tasks, return_exceptions=True)

    async def _drain(self) -> None:
        """What is at work is brought to its end, and committed."""
        self._ours.clear()
        self._kafka.notes.said(RESTORED, "its partitions change, and what is remembered of them is read")
        await self._keeping.drain(_DRAIN_SECONDS)
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._commit()
        except TimeoutError:
            log.info("cannot commit in time; another worker does some again")

    async def feed(self, stream: Any) -> None:
        """All that comes, for as long as this runs."""
        feed, keeping = self._keeping.feed, self._keeping
        async for event in stream.events():
            told = event.message
            self._kafka.notes.consumed(told.topic, 1)
            at = round(told.timestamp * 1000)
            try:
                feed(_Record(told.topic, told.partition, told.offset, at, told.key, told.value, told.headers or ()))
            except LostPlace as error:
                keeping.fail(error)
            if keeping.full:
                await keeping.room()

    async def _put(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        last = -1

        async def attempt() -> None:
            nonlocal last
            left, sent = list(records), []
            while left:
                batch, count = _batch(self._producer, left)
                sent.append(await self._producer.send_batch(batch, self._changelog, partition=partition))
                del left[:count]
            last = (await asyncio.gather(*sent))[-1].offset + count - 1
            self._kafka.notes.produced(self._changelog, len(records))

        await forever(attempt, f"keeping rows on {self._kafka.settings.called}")
        return last

    async def _turns(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._ours.wait()
            await self._publisher.send(self._keeping.turn())

    async def _commits(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self._ours.wait()
            await self._commit()

    async def _commit(self) -> None:
        done = self._keeping.done()
        offsets = {
            TopicPartition(self._topic, place): to for place, to in done.items() if to != self._committed.get(place)
        }
        if not offsets:
            return
        if await self._app.consumer._commit(offsets):
            self._committed |= {place.partition: to for place, to in offsets.items()}
        else:
            self._kafka.notes.commit_failed()

    async def _watch(self) -> None:
        """Faust would notice neither that its group was lost to it, nor that a partition stands still."""
        moved: dict[int, tuple[int, float]] = {}
        came, since = -1, time.monotonic()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            thread, now = self._app.consumer._thread, time.monotonic()
            if coordinator := getattr(thread._consumer, "_coordinator", None):
                await thread.call_thread(coordinator.check_errors)
            if self._ours.is_set() or self._table.came != came:
                came, since = self._table.came, now
            elif now > since + _STANDING_SECONDS:
                raise LostPlace("it had no partitions for too long")
            with suppress(KafkaError):
                positions = self._keeping.positions()
                (behind,) = (await self._lags()).values()
                for (place, position), lag in zip(positions.items(), behind, strict=True):
                    if moved.get(place, (-1, 0.0))[0] != position or not lag or self._keeping.busy(place):
                        moved[place] = position, now
                    elif now > moved[place][1] + _STANDING_SECONDS:
                        raise LostPlace(f"partition {place} stood still")

    async def revoked(self, *_: Any, **__: Any) -> None:
        """Partitions may go elsewhere: what is at work is brought to its end first."""
        await self._drain()

    async def hold(self, *_: Any, **__: Any) -> None:
        """Before the records come: Faust resumes their partitions before it seeks, and what comes between is lost."""
        app = self._app
        app.consumer.wait_first = partial(_wait_first, app.consumer, app.topics.on_message)
        app.consumer.stop_flow()
        app.flow_control.suspend()
        places = [place for place in app.consumer.assignment() if place.topic == self._topic]
        if not places:
            self._first = {}
            return
        committed = await app.consumer.seek_to_committed()
        earliest = await app.consumer.earliest_offsets(*places)
        self._first = {place.partition: max(committed.get(place) or 0, earliest[place]) for place in places}

    def recovered(self, rows: Mapping[int, Rows]) -> None:
        """The rows of each partition that is ours are there; no record comes before this has returned."""
        try:
            for partition in self._keeping.partitions:
                if partition not in rows:
                    self._keeping.end(partition)
            self._telling.begin({partition: kept.mark.at for partition, kept in rows.items()})
            # Where they are not the same, the next assignment is there already, and this is called again.
            for partition in rows.keys() & self._first.keys():
                self._keeping.begin(partition, rows[partition], self._first[partition])
        except Exception as error:  # noqa: BLE001 - Faust would swallow it
            self._keeping.fail(error)
        self._committed = dict(self._first)
        self._ours.set()
        self._kafka.notes.said(RESTORED, "")


async def _wait_first(consumer: Any, taken: Any, *waited: Any, **options: Any) -> Any:
    """A record that is handed on is just waited for: Faust makes two tasks for each, which cost most of its time."""
    if getattr(waited[0], "cr_code", None) is not taken.__code__:
        return await type(consumer).wait_first(consumer, *waited, **options)
    for each in waited[1:]:
        each.close()
    return await waited[0]


def _batch(producer: AIOKafkaProducer, records: Iterable[tuple[bytes, bytes | None]]) -> tuple[Any, int]:
    """One with as many of them as it has room for, which is one at the least."""
    batch, count = producer.create_batch(), 0
    for key, row in records:
        if batch.append(timestamp=None, key=key, value=row) is None:
            break
        count += 1
    return batch, count
