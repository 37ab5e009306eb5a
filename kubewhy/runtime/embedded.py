"""The whole pipeline in one process: the same stages as on Kafka, over a queue in memory."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from analyzers.stage import AnalyzerStage
from collectors.gather import content_hash
from explainer.incidents import Incidents
from kubewhy.contracts import Analyzer, Collector, State
from kubewhy.errors import ConfigError
from kubewhy.records import (
    Answer,
    Evidence,
    Finding,
    Heartbeat,
    Inventory,
    Ref,
    Report,
    Silence,
    SilenceChange,
    Tick,
)
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.patience import at_once
from kubewhy.runtime.routing import Router
from kubewhy.runtime.silencing import already_seen, silence_changes
from kubewhy.runtime.telemetry.notes import HELD, Notes

if TYPE_CHECKING:
    from kubewhy.runtime.calls import Calls  # it needs what is large, and nobody without a model does

Control = Inventory | Heartbeat | SilenceChange | Answer | Tick
Record = Evidence | Control
CLUSTER = "cluster"  # the check of whether all of it is being watched
TICK = timedelta(seconds=1)
INCIDENTS = "incidents\x1f"  # begins the keys of their rows
SENDING = "sending"  # the key of what an earlier version was about to tell
_UNREADABLE = "the state holds what this kubewhy cannot read ({}); name another file, or remove that one"
_WAITING = 100  # records between the collector and the rest; more, and the collector waits


class Pipeline:
    """Evidence to findings. `feed` is all stages in a row, for one record at its append time."""

    def __init__(
        self,
        analyzers: Iterable[Analyzer[Any]],
        *,
        no_hold: bool = False,
        incidents: Incidents | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._notes, self._spared = notes or Notes(), 0
        self._analyzers = AnalyzerStage(analyzers)
        self._incidents = incidents or Incidents()
        self._no_hold = no_hold

    def feed(self, records: Iterable[Record], now: datetime) -> list[Finding]:
        """What these records of one moment lead to."""
        findings: list[Finding] = []
        for record in records:
            for report in self._reports(record, now):
                told = list(self._incidents.feed(report, now))
                self._notes.folded(report, told)
                findings += told
            if isinstance(record, Tick):
                spared = self._incidents.spared()
                self._notes.spared(HELD, spared - self._spared)
                self._spared = spared
        return findings

    def _reports(self, record: Record, now: datetime) -> Iterable[Report | Control]:
        if not isinstance(record, Evidence):
            return [record]
        began = time.perf_counter()
        reports = list(self._analyzers.feed(record, now))
        self._notes.judged(reports, 1, time.perf_counter() - began)
        return map(at_once, reports) if self._no_hold else reports

    def rows(self) -> dict[str, bytes | None]:
        """What is to be remembered now that the findings so far have arrived."""
        return {INCIDENTS + key: row for key, row in self._incidents.rows().items()}

    def flush(self, now: datetime) -> list[Finding]:
        """What is left to be told at the end."""
        return list(self._incidents.flush(now))


def restore(incidents: Incidents, state: State) -> None:
    """Lets them go on where those rows were written. Raises ConfigError for rows that are none."""
    try:
        incidents.restore((key.removeprefix(INCIDENTS), row) for key, row in state.scan(INCIDENTS))
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise ConfigError(_UNREADABLE.format(error)) from None


def sending(state: State) -> list[Finding]:
    """What was to be told when the process ended, and may not have been. Raises ConfigError for what is none."""
    try:
        return msgspec.json.decode(state.get(SENDING) or b"[]", type=list[Finding])
    except msgspec.DecodeError as error:
        raise ConfigError(_UNREADABLE.format(error)) from None


class Teller:
    """Queues findings for the sinks they are for and writes what is to be remembered, both or neither.

    Without a state, nothing is remembered but what waits.
    """

    def __init__(self, pipeline: Pipeline, delivery: Delivery, router: Router, state: State | None = None) -> None:
        self._pipeline, self._delivery, self._router, self._state = pipeline, delivery, router, state

    def again(self) -> None:
        """Queues what an earlier version of kubewhy was about to tell when it ended."""
        if self._state and (unsent := sending(self._state)):
            self._queue(unsent, {SENDING: None})

    def tell(self, findings: list[Finding]) -> None:
        """Returns once they are queued."""
        # Rows are asked for also where nobody keeps them: what has changed would pile up for as long as this runs.
        self._queue(findings, self._pipeline.rows())

    def tick(self, now: datetime) -> None:
        """Tells the digests that are due."""
        if due := self._router.tick(now):
            self.tell(due)
        self._delivery.tick(now)

    def end(self, now: datetime) -> None:
        """Tells what has waited, for nothing comes after."""
        self.tell(self._pipeline.flush(now))
        self.tell(self._router.flush(now))

    def _queue(self, findings: list[Finding], rows: dict[str, bytes | None]) -> None:
        shares = [share for finding in findings for share in self._router.shares(finding)]
        rows |= self._router.rows()
        self._delivery.post(shares, rows if self._state else {})


async def watch(
    collector: Collector,
    analyzers: Sequence[Analyzer[Any]],
    delivery: Delivery,
    router: Router,
    clock: Callable[[], datetime],
    *,
    until_idle: float | None = None,
    no_hold: bool = False,
    state: State | None = None,
    incidents: Incidents | None = None,
    silences: Sequence[Silence] = (),
    calls: "Calls | None" = None,
    notes: Notes | None = None,
) -> None:
    """Runs until cancelled; or, with `until_idle`, until nothing new was collected or found for so many seconds."""
    incidents = incidents or Incidents()
    if state:
        restore(incidents, state)
        router.restore(state)
        if calls:
            calls.restore(state)
    notes = notes or Notes()
    pipeline = Pipeline(analyzers, no_hold=no_hold, incidents=incidents, notes=notes)
    teller = Teller(pipeline, delivery, router, state)
    teller.again()
    seen, begun = already_seen(incidents.silences()), False
    idle = _Idle(until_idle, asyncio.get_running_loop().time)
    async with delivery.running(), aclosing(_with_ticks(collector)) as records:
        async for record in records:
            now, ticks = clock(), isinstance(record, Tick)
            # Before the first record of all: what is silenced must not be told for a moment at each start.
            changes = silence_changes(state, seen, silences) if ticks or not begun else []
            if not begun:
                notes.said(CLUSTER, "")
            begun = True
            answers = calls.take() if calls else []
            if not isinstance(record, Tick):
                notes.published(record)
            findings = pipeline.feed((*changes, *answers, record), now)
            teller.tell(findings)
            if ticks:
                teller.tick(now)
                if calls:
                    calls.start(incidents.wanted(now))
                if calls and state:
                    calls.spent(state)
            if idle.is_over(record, busy=any(map(_begins_or_ends, findings)) or (calls is not None and calls.running)):
                break
        teller.end(clock())
        await delivery.end()


def _begins_or_ends(finding: Finding) -> bool:
    """What is told of changes comes late, to spare people, and is no news by itself."""
    return finding.transition in ("opened", "resolved")


class _Idle:
    """Whether nothing new has come for so many seconds; never, where it is not said how many."""

    def __init__(self, seconds: float | None, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._last: float | None = None  # until the collector speaks, it is not idle but still listing
        self._heard: dict[Ref, int] = {}

    def is_over(self, record: Record, *, busy: bool) -> bool:
        if self._seconds is None:
            return False
        now = self._clock()
        news = self._is_news(record)  # asked in any case: what it says is to be known when it is said again
        if busy or news or (self._last is None and not isinstance(record, Tick)):
            self._last = now
        return self._last is not None and now - self._last >= self._seconds

    def _is_news(self, record: Record) -> bool:
        """Whether it says something else of its object than before: everything is stated again now and then."""
        if not isinstance(record, Evidence):
            return False
        told = content_hash(record)
        before, self._heard[record.ref] = self._heard.get(record.ref), told
        return before != told


async def _with_ticks(collector: Collector) -> AsyncGenerator[Record, None]:
    """The collector's records and, from the first one on, a Tick each second, in the order of their coming."""
    speaks = asyncio.Event()
    queue: asyncio.Queue[Record | None] = asyncio.Queue(_WAITING)

    async def collect() -> None:
        try:
            # Closed here and now, whatever it is at, or its connections would outlive us.
            async with aclosing(collector.evidence()) as records:
                async for record in records:
                    await queue.put(record)
                    speaks.set()
        finally:
            await queue.put(None)

    async def tick() -> None:
        await speaks.wait()
        while True:
            await asyncio.sleep(TICK.total_seconds())
            await queue.put(Tick())

    collecting, ticking = asyncio.create_task(collect()), asyncio.create_task(tick())
    try:
        while (record := await queue.get()) is not None:
            yield record
        collecting.result()
    finally:
        for task in (collecting, ticking):
            task.cancel()
        while not queue.empty():  # else the collector could not say that it has ended
            queue.get_nowait()
        await asyncio.gather(collecting, ticking, return_exceptions=True)
