"""The whole pipeline in one process: the same stages as on Kafka, over a queue in memory."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from analyzers.stage import AnalyzerStage
from collectors import recorded
from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.store import Store, kinds_read
from explainer.incidents import Incidents
from explainer.wanting import SETTLED
from kubewhy.contracts import Analyzer, Collector, Sink, State
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
    Version,
)
from kubewhy.runtime.routing import Router
from kubewhy.runtime.silencing import already_seen, silence_changes

if TYPE_CHECKING:
    from kubewhy.runtime.calls import Calls  # it needs what is large, and nobody without a model does

Record = Evidence | Inventory | Heartbeat | SilenceChange | Answer | Tick
TICK = timedelta(seconds=1)
INCIDENTS = "incidents\x1f"  # begins the keys of their rows
SENDING = "sending"  # the key of what is being told
_UNREADABLE = "the state holds what this kubewhy cannot read ({}); name another file, or remove that one"
_TICKS = 100_000  # in one go
_WAITING = 100  # records between the collector and the rest; more, and the collector waits


class Pipeline:
    """Evidence to findings. `feed` is all stages in a row, for one record at its append time."""

    def __init__(
        self, analyzers: Iterable[Analyzer[Any]], *, no_hold: bool = False, incidents: Incidents | None = None
    ) -> None:
        self._analyzers = AnalyzerStage(analyzers)
        self._incidents = incidents or Incidents()
        self._no_hold = no_hold

    def feed(self, record: Record, now: datetime) -> list[Finding]:
        """What this record leads to."""
        reports: Iterable[Report | Inventory | Heartbeat | SilenceChange | Answer | Tick]
        if isinstance(record, Evidence):
            reports = (_at_once(each) if self._no_hold else each for each in self._analyzers.feed(record, now))
        else:
            reports = [record]
        return [finding for report in reports for finding in self._incidents.feed(report, now)]

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


def _at_once(report: Report) -> Report:
    failures = tuple(msgspec.structs.replace(failure, hold=0.0) for failure in report.failures)
    return msgspec.structs.replace(report, failures=failures)


async def watch(
    collector: Collector,
    analyzers: Sequence[Analyzer[Any]],
    sink: Sink,
    clock: Callable[[], datetime],
    *,
    until_idle: float | None = None,
    no_hold: bool = False,
    state: State | None = None,
    incidents: Incidents | None = None,
    router: Router | None = None,
    silences: Sequence[Silence] = (),
    calls: "Calls | None" = None,
) -> None:
    """Runs until cancelled; or, with `until_idle`, until nothing new has been collected or found for so many seconds.

    What is to be told is remembered, then told: a crash in between repeats some of it, word for word, and loses none.
    """
    incidents = incidents or Incidents()
    if state:
        restore(incidents, state)
        if router:
            router.restore(state)
    seen = already_seen(incidents.silences())
    pipeline = Pipeline(analyzers, no_hold=no_hold, incidents=incidents)
    loop = asyncio.get_running_loop()

    # Rows are asked for also where nobody keeps them: what has changed would pile up for as long as this runs.
    async def tell(findings: list[Finding]) -> None:
        rows = pipeline.rows()
        if state:
            state.write({**rows, **({SENDING: msgspec.json.encode(findings)} if findings else {})})
        if findings:
            await send(findings)

    async def send(findings: list[Finding]) -> None:
        await sink.send(findings)
        rows = router.rows() if router else {}
        if state:
            state.write({**rows, SENDING: None})

    if state and (unsent := sending(state)):
        await send(unsent)
    async with aclosing(_with_ticks(collector)) as records:
        last: float | None = None  # until the collector speaks, it is not idle but still listing
        heard: dict[Ref, int] = {}
        heeded = False
        async for record in records:
            now = clock()
            # Before the first record of all: what is silenced must not be told for a moment at each start.
            changes = silence_changes(state, seen, silences) if isinstance(record, Tick) or not heeded else []
            heeded = True
            answers = calls.take() if calls else []
            findings = [finding for each in (*changes, *answers, record) for finding in pipeline.feed(each, now)]
            await tell([*findings, *(router.tick(now) if router and isinstance(record, Tick) else ())])
            if calls and isinstance(record, Tick):
                calls.start(incidents.wanted(now))
            if until_idle is None:
                continue
            if (
                findings
                or (calls and calls.running)
                or _is_news(record, heard)
                or (last is None and not isinstance(record, Tick))
            ):
                last = loop.time()
            if last is not None and loop.time() - last >= until_idle:
                break
        now = clock()
        await tell(pipeline.flush(now))
        await tell(router.flush(now) if router else [])


def _is_news(record: Record, heard: dict[Ref, int]) -> bool:
    """Whether it says something else of its object than was heard before: everything is stated again now and then."""
    if not isinstance(record, Evidence):
        return False
    told = content_hash(record)
    before, heard[record.ref] = heard.get(record.ref), told
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


def _ticks(since: datetime, until: datetime) -> Iterator[datetime]:
    """A tick a second; where nothing happens for days, fewer."""
    step = max(TICK, (until - since) / _TICKS)
    while until - since >= step:
        since += step
        yield since


async def replay(
    path: Path,
    analyzers: Sequence[Analyzer[Any]],
    sink: Sink,
    namespaces: tuple[str, ...] = (),
    *,
    no_hold: bool = False,
    incidents: Incidents | None = None,
    router: Router | None = None,
    silences: Sequence[Silence] = (),
    calls: "Calls | None" = None,
) -> None:
    """Runs a recording, or those namespaces of it, through the pipeline in its own time, as fast as it goes."""
    recording = recorded.read(path)
    touched: dict[Key, None] = {}
    store = Store(analyzers, lambda key: touched.setdefault(key))
    incidents = incidents or Incidents()
    pipeline = Pipeline(analyzers, no_hold=no_hold, incidents=incidents)
    kinds = kinds_read(analyzers)
    head, sent = recording.header, dict[Key, int]()
    seq, settled = 0, False
    now: datetime | None = None
    ticked: datetime | None = None

    async def tell(record: Record, now: datetime) -> None:
        findings = pipeline.feed(record, now)
        if router and isinstance(record, Tick):
            findings += router.tick(now)
        if findings:
            await sink.send(findings)

    async def send(now: datetime) -> None:
        nonlocal seq
        for key in list(touched):
            if namespaces and key.namespace not in (None, *namespaces):
                continue
            seq += 1
            evidence = gather(store, key, cluster=head.cluster, version=Version(1, seq), server=head.server)
            told = content_hash(evidence)
            if evidence.gone or sent.get(key) != told:
                sent[key] = told
                await tell(evidence, now)
        touched.clear()

    for at in recorded.replay(recording, store):
        # Each entry's time comes just before it: what it changes is sent when the next one comes.
        if now is None:
            for change in silence_changes(None, {}, silences):
                await tell(change, at)
        now, ticked = now or at, ticked or at
        settled = settled or store.all_settled(kinds)
        if settled:
            await send(now)
        for tick in _ticks(ticked, at):
            ticked = tick
            await tell(Tick(), tick)
        await asyncio.sleep(0)  # so that a signal can end it
        now = max(now, at)
    if now:
        await send(now)
        await tell(Tick(), now)
        if findings := pipeline.flush(now):
            await sink.send(findings)
        if router and (findings := router.flush(now)):
            await sink.send(findings)
        # A recording is over in no time: what is open at its end is explained then.
        while calls and await calls.round(incidents.wanted(now + SETTLED)):
            for answer in calls.take():
                await tell(answer, now)
