"""The whole pipeline in one process: the same stages as on Kafka, over a queue in memory."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from analyzers.stage import AnalyzerStage
from collectors import recorded
from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.store import Store, kinds_read
from explainer.incidents import Incidents
from kubewhy.contracts import Analyzer, Collector, Sink
from kubewhy.records import Evidence, Finding, Heartbeat, Inventory, Report, Tick, Version

Record = Evidence | Inventory | Heartbeat | Tick
TICK = timedelta(seconds=1)
_WAITING = 1000  # records between the collector and the rest; more, and the collector waits


class Pipeline:
    """Evidence to findings. `feed` is all stages in a row, for one record at its append time."""

    def __init__(self, analyzers: Iterable[Analyzer[Any]]) -> None:
        self._analyzers = AnalyzerStage(analyzers)
        self._incidents = Incidents()

    def feed(self, record: Record, now: datetime) -> list[Finding]:
        """What this record leads to."""
        reports: Iterable[Report | Inventory | Heartbeat | Tick]
        reports = self._analyzers.feed(record, now) if isinstance(record, Evidence) else [record]
        return [finding for report in reports for finding in self._incidents.feed(report, now)]


async def watch(
    collector: Collector,
    analyzers: Sequence[Analyzer[Any]],
    sink: Sink,
    clock: Callable[[], datetime],
    until_idle: float | None = None,
) -> None:
    """Runs until cancelled; or, with `until_idle`, until nothing has been collected or found for so many seconds."""
    pipeline = Pipeline(analyzers)
    loop = asyncio.get_running_loop()
    async with aclosing(_with_ticks(collector)) as records:
        last = loop.time()
        async for record in records:
            findings = pipeline.feed(record, clock())
            if findings:
                await sink.send(findings)
            if findings or isinstance(record, Evidence):
                last = loop.time()
            if until_idle is not None and loop.time() - last >= until_idle:
                return


async def _with_ticks(collector: Collector) -> AsyncGenerator[Record, None]:
    """The collector's records and a Tick each second, in the order of their coming."""
    queue: asyncio.Queue[Record] = asyncio.Queue(_WAITING)

    async def collect() -> None:
        async for record in collector.evidence():
            await queue.put(record)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK.total_seconds())
            await queue.put(Tick())

    tasks = [asyncio.create_task(collect()), asyncio.create_task(tick())]
    try:
        while True:
            get = asyncio.create_task(queue.get())
            await asyncio.wait([get, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if not get.done():
                get.cancel()
                for task in tasks:
                    if task.done():
                        task.result()
                return
            yield get.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def replay(path: Path, analyzers: Sequence[Analyzer[Any]], sink: Sink) -> None:
    """Runs a recording through the pipeline in its own time, as fast as it goes."""
    recording = recorded.read(path)
    touched: dict[Key, None] = {}
    store = Store(analyzers, lambda key: touched.setdefault(key))
    pipeline = Pipeline(analyzers)
    kinds = kinds_read(analyzers)
    head, sent = recording.header, dict[Key, int]()
    seq, clock, settled = 0, None, False

    async def tell(record: Record, now: datetime) -> None:
        findings = pipeline.feed(record, now)
        if findings:
            await sink.send(findings)

    async def send(now: datetime) -> None:
        nonlocal seq
        for key in list(touched):
            seq += 1
            evidence = gather(store, key, cluster=head.cluster, version=Version(1, seq), server=head.server)
            told = content_hash(evidence)
            if evidence.gone or sent.get(key) != told:
                sent[key] = told
                await tell(evidence, now)
        touched.clear()

    for at in recorded.replay(recording, store):
        # Each entry's time comes just before it: what it changes is sent when the next one comes.
        clock = clock or at
        settled = settled or store.all_settled(kinds)
        if settled:
            await send(clock)
        while clock + TICK <= at:
            clock += TICK
            await tell(Tick(), clock)
    if clock:
        await send(clock)
        await tell(Tick(), clock)
