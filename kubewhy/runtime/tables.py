"""A fold over the partitions of a topic, with its rows in a Faust table. The only file that imports faust.

Faust has the group of workers and its assignments, with standbys, brings the table back from its changelog, and gives
the records. What it does not guarantee is done here: rows are written to the changelog by an idempotent producer and
waited for, and only what is told and kept is committed. docs/decisions/0011-state-on-kafka.md has the reasons.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP

from kubewhy.errors import ConfigError
from kubewhy.runtime.declaring import ready
from kubewhy.runtime.kafka import SESSION_SECONDS, Kafka, forever
from kubewhy.runtime.keeping import Arrived, Fold, Folded, Keeping, Rows, Skipped
from kubewhy.runtime.lag import Ends
from kubewhy.runtime.publishing import Publisher
from kubewhy.runtime.reaching import short
from kubewhy.topics import FAILURES, INCIDENTS, MEBIBYTE

__all__ = ["Arrived", "Fold", "Folded", "fold"]

log = logging.getLogger(__name__)

GROUP = "explainer"
RESTORED = "incidents"  # the check of whether all is there that is remembered of the partitions that are ours
_DRAIN_SECONDS = 5.0  # for what is at work when a partition goes elsewhere, or all ends
_STOP_SECONDS = 20.0
_AGAIN_SECONDS = 2.0


async def fold(kafka: Kafka, what: Fold, *, group: str = GROUP, standby: int = 0) -> None:
    """Until cancelled; whatever is through by then is committed. Raises ConfigError."""
    while True:
        await ready(kafka, FAILURES, INCIDENTS)
        async with kafka.producer() as producer:
            reason = await _Worker(kafka, what, producer, group, standby).run()
        log.warning("the explainer lost its place in its group (%s); it begins again, and nothing is lost", reason)
        await asyncio.sleep(_AGAIN_SECONDS)


class _Record(NamedTuple):
    """As consumers have it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class _Worker:
    """One member of the group, from its start to its end."""

    def __init__(self, kafka: Kafka, what: Fold, producer: AIOKafkaProducer, group: str, standby: int) -> None:
        self._kafka, self._producer = kafka, producer
        self._topic, self._changelog = kafka.name(FAILURES), kafka.name(INCIDENTS)
        self._publisher = Publisher(kafka, producer)
        self._keeping = Keeping(what, self._publisher.send, self._put)
        self._app = app = _app(kafka, group, standby)
        raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw", "acks": False, "allow_empty": True}
        self._table = app.Table(
            "incidents",
            key_type=bytes,
            value_type=bytes,
            changelog_topic=app.topic(self._changelog, key_type=bytes, value_type=bytes, maxsize=131_072, **raw),
        )
        self._table.recovered = self._recovered
        app.agent(app.topic(self._topic, **raw), name="fold")(self._feed)
        app.on_rebalance_complete.connect(self._hold)
        app.on_partitions_revoked.connect(self._revoked)
        self._first: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._ours = asyncio.Event()
        self._ends = Ends(kafka, FAILURES)

    async def run(self) -> str:
        """Returns why it ended. Raises ConfigError."""
        self._kafka.looks.append(self._lags)
        tasks = [asyncio.create_task(each) for each in (self._live(), self._turns(), self._commits())]
        try:
            done, _ = await asyncio.wait([*tasks, self._keeping.failed], return_when=asyncio.FIRST_COMPLETED)
            error = done.pop().exception()
        finally:
            self._kafka.looks.remove(self._lags)
            await self._stop(tasks)
            await self._ends.close()
        if isinstance(error, ConfigError):
            raise error
        error = error or self._app.crash_reason or Skipped("its consumer ended")
        return short(error) if isinstance(error, KafkaError | Skipped) else f"{type(error).__name__} {short(error)}"

    async def _lags(self) -> dict[str, list[int]]:
        return await self._ends.lags(self._keeping.positions())

    async def _live(self) -> None:
        await self._app.start()
        await self._app.wait_until_stopped()

    async def _stop(self, tasks: Iterable["asyncio.Task[None]"]) -> None:
        for task in tasks:
            task.cancel()
        self._app.flow_control.suspend()
        await self._drain()
        for partition in self._keeping.partitions:
            self._keeping.end(partition)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._app.stop()
        except TimeoutError:
            log.info("the consumer did not end in time")
        await asyncio.gather(*tasks, return_exceptions=True)

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

    async def _feed(self, stream: Any) -> None:
        feed, keeping = self._keeping.feed, self._keeping
        async for event in stream.events():
            told = event.message
            self._kafka.notes.consumed(told.topic, 1)
            at = round(told.timestamp * 1000)
            try:
                feed(_Record(told.topic, told.partition, told.offset, at, told.key, told.value, told.headers or ()))
            except Skipped as error:
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
        offsets = {TP(self._topic, place): to for place, to in done.items() if to != self._committed.get(place)}
        if not offsets:
            return
        if await self._app.consumer._commit(offsets):
            self._committed |= {place.partition: to for place, to in offsets.items()}
        else:
            self._kafka.notes.commit_failed()

    async def _revoked(self, *_: Any, **__: Any) -> None:
        await self._drain()

    async def _hold(self, *_: Any, **__: Any) -> None:
        """Before the records come: Faust resumes their partitions before it seeks, and what comes between is lost."""
        app = self._app
        app.consumer.stop_flow()
        app.flow_control.suspend()
        places = [place for place in app.consumer.assignment() if place.topic == self._topic]
        if not places:
            self._first = {}
            return
        committed = await app.consumer.seek_to_committed()
        earliest = await app.consumer.earliest_offsets(*places)
        self._first = {place.partition: max(committed.get(place) or 0, earliest[place]) for place in places}

    def _recovered(self, rows: Mapping[int, Rows]) -> None:
        """The rows of each partition that is ours are there; no record comes before this has returned."""
        try:
            for partition in self._keeping.partitions:
                if partition not in rows:
                    self._keeping.end(partition)
            # Where they are not the same, the next assignment is there already, and this is called again.
            for partition in rows.keys() & self._first.keys():
                self._keeping.begin(partition, rows[partition], self._first[partition])
        except Exception as error:  # noqa: BLE001 - Faust would swallow it
            self._keeping.fail(error)
        self._committed = dict(self._first)
        self._ours.set()
        self._kafka.notes.said(RESTORED, "")


def _batch(producer: AIOKafkaProducer, records: Iterable[tuple[bytes, bytes | None]]) -> tuple[Any, int]:
    """One with as many of them as it has room for, which is one at the least."""
    batch, count = producer.create_batch(), 0
    for key, row in records:
        if batch.append(timestamp=None, key=key, value=row) is None:
            break
        count += 1
    return batch, count


class _Table(faust.Table[bytes, bytes]):
    """Keeps the rows by partition, as far as marks conclude them."""

    recovered: Callable[[Mapping[int, Rows]], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[int, Rows] = {}

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """What went elsewhere is forgotten; what is new, is read from the first record on."""
        ours = {place for place in assigned if place.topic == self.changelog_topic_name}
        self._kept = {place.partition: self._kept.get(place.partition) or self._new(place) for place in ours}

    def _new(self, place: TP) -> Rows:
        app: Any = self.app
        app.tables.recovery.revoke(place)
        return Rows(place.partition)

    def persisted_offset(self, place: TP) -> int | None:
        """Up to where it needs not be read again."""
        kept = self._kept.get(place.partition)
        return kept.read if kept and kept.read >= 0 else None

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        for event in batch:
            told = event.message
            if told.partition in self._kept:
                self._kept[told.partition].take(told.offset, told.key, told.value)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        self.recovered({place.partition: self._kept[place.partition] for place in active_tps})


class _App(faust.App):
    def _create_directories(self) -> None:
        """It needs none."""


def _app(kafka: Kafka, group: str, standby: int) -> Any:
    # Any, for Faust's types leave out much of what it has.
    return _App(
        kafka.group(group),
        Table=_Table,
        broker=[f"kafka://{server}" for server in kafka.settings.servers],
        broker_client_id=kafka.options["client_id"],
        broker_credentials=_credentials(kafka.options),
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 5,
        broker_rebalance_timeout=30.0,
        consumer_max_fetch_size=2 * MEBIBYTE,
        stream_buffer_maxsize=4096,
        store="memory://",
        table_standby_replicas=standby,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )


def _credentials(options: Mapping[str, Any]) -> Any:
    protocol, context = options["security_protocol"], options.get("ssl_context")
    if provider := options.get("sasl_oauth_token_provider"):
        return faust.OAuthCredentials(oauth_cb=provider, ssl_context=context)
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None
