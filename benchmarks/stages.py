"""Each stage by itself, in one process, against the least that its work could take."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import zstandard

from analyzers import enabled
from analyzers.containers import OOM_KILLED
from analyzers.stage import AnalyzerStage
from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row, at_least, at_most
from collectors.credentials import connect
from collectors.gather import gather
from collectors.recorded import SCHEMA, Header, Recorder, read, replay
from collectors.store import Store, kinds_read
from collectors.watch import read_once
from explainer.incidents import Incidents
from kubewhy.kube.meta import Object, Resource
from kubewhy.records import Evidence, Ref, Report, Version, encode

JUDGED, FED = 20_000, 5_000  # a second
TIMES = 5
_CLUSTER = "bench"


@dataclass
class Kept:
    """A Target that keeps every call, to make it again."""

    calls: list[Callable[[Any], None]] = field(default_factory=list)
    objects: list[tuple[Resource, Object]] = field(default_factory=list)

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.calls.append(lambda target: target.begin(resource, namespace, at))

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        self.objects.append((resource, subject))
        self.calls.append(lambda target: target.put(resource, subject, at))

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        self.calls.append(lambda target: target.remove(resource, namespace, name, at))

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.calls.append(lambda target: target.synced(resource, namespace, at))

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        raise RuntimeError(f"{resource} is refused: {reason}")

    def tell(self, target: Any) -> None:
        for call in self.calls:
            call(target)


async def _read(kubeconfig: Path) -> Kept:
    """All that one look at the cluster reads."""
    kept = Kept()
    async with await connect(str(kubeconfig), None) as cluster:
        await read_once(cluster, kinds_read(enabled()), (), kept)
    return kept


def stages(bench: Bench) -> Iterator[Row]:
    """A row for each stage, measured in a process of their own."""
    yield from msgspec.json.decode(run(python("benchmarks.stages", bench.reader)).output, type=list[Row])


def main(kubeconfig: Path) -> Iterator[Row]:
    """The stages in the order of a record's way."""
    kept = asyncio.run(_read(kubeconfig))
    store = Store(enabled())
    kept.tell(store)
    keys = [key for kind in sorted(store.judged) for key in store.keys(kind)]

    def gathered() -> list[Evidence]:
        return [gather(store, key, cluster=_CLUSTER, version=Version(1, seq)) for seq, key in enumerate(keys)]

    evidence = gathered()
    yield _put(kept)
    yield _gather(evidence, gathered)
    yield _judge(evidence)
    yield _feed(evidence)
    yield from _record(kept)


def _put(kept: Kept) -> Row:
    analyzers, encoder = enabled(), msgspec.msgpack.Encoder()
    ours = _seconds(lambda: kept.tell(Store(analyzers, lambda key: None)))
    bare = _seconds(lambda: [encoder.encode(subject) for _, subject in kept.objects])
    return _row("store.put", len(kept.objects), ours, bare, "encoding them alone", 30)


def _gather(evidence: Sequence[Evidence], gathered: Callable[[], object]) -> Row:
    decoder = msgspec.json.Decoder()
    whole = [raw for each in evidence for raw in (each.object, *(raw for view in each.related for raw in view.objects))]
    values = [decoder.decode(raw) for raw in whole]
    packed = [msgspec.msgpack.encode(value) for value in values]
    ours = _seconds(gathered)
    bare = _seconds(lambda: [msgspec.json.encode(msgspec.msgpack.decode(each)) for each in packed])
    return _row("gather", len(evidence), ours, bare, "decoding and encoding what is attached, untyped", 5)


def _judge(evidence: Sequence[Evidence]) -> Row:
    """Evidence to report: at least so many a second."""
    wire = [encode(each) for each in evidence]
    decoder = msgspec.json.Decoder(Evidence)
    stage = AnalyzerStage(enabled())
    now = evidence[0].observed_at
    reports = [report for each in evidence for report in stage.feed(each, now)]

    def judged() -> None:
        for body in wire:
            for report in stage.feed(decoder.decode(body), now):
                encode(report)

    def bare() -> None:
        for body, report in zip(wire, reports, strict=True):
            decoder.decode(body)
            encode(report)

    seconds = _seconds(judged)
    ratio = seconds / _seconds(bare)
    return at_least("evidence to report", len(wire) / seconds, ratio, "decoding and encoding alone", JUDGED)


def _feed(evidence: Sequence[Evidence]) -> Row:
    """Reports of which 95 of 100 say nothing new."""
    stage = AnalyzerStage(enabled())
    now = evidence[0].observed_at
    first = [report for each in evidence for report in stage.feed(each, now)]
    again = [_again(report, number) for number, report in enumerate(first)]
    wire = [encode(report) for report in again]
    decoder = msgspec.json.Decoder(Report)
    seconds = []
    for _ in range(TIMES):
        incidents = Incidents()
        at = now
        for report in first:
            list(incidents.feed(report, at))
        begun = time.process_time()
        for body in wire:
            at += timedelta(milliseconds=0.2)  # as 5 000 a second come
            for _finding in incidents.feed(decoder.decode(body), at):
                pass
        seconds.append(time.process_time() - begun)
    bare = _seconds(lambda: [decoder.decode(body) for body in wire])
    ours = min(seconds)
    return at_least("incidents.feed, 95 % unchanged", len(wire) / ours, ours / bare, "decoding the reports alone", FED)


def _again(report: Report, number: int) -> Report:
    """The same of a later version; one in twenty says the opposite of before."""
    version = Version(1, 1_000_000 + number)
    if number % 20:
        return msgspec.structs.replace(report, version=version)
    return msgspec.structs.replace(report, version=version, failures=() if report.failures else _broken(report.ref))


def _broken(ref: Ref) -> tuple[Any, ...]:
    return (OOM_KILLED.failure(f"container web of {ref.name} was killed", container="web"),)


def _record(kept: Kept) -> Iterator[Row]:
    """Against compressing, and decompressing, the same lines alone."""
    head = Header(schema=SCHEMA, kubewhy="bench", cluster=_CLUSTER)
    count = len(kept.objects)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench.kwrec"

        def write() -> None:
            with Recorder(path, head, overwrite=True) as recorder:
                kept.tell(recorder)

        written = _seconds(write)
        packed = path.read_bytes()
        lines = zstandard.ZstdDecompressor().stream_reader(packed).read()
        bare = _seconds(lambda: zstandard.ZstdCompressor(level=6).compress(lines))
        yield _row("recording: write", count, written, bare, "zstd of the same lines alone", 4)

        silent = _Silent()
        told = _seconds(lambda: [None for _ in replay(read(path), silent)])
        bare = _seconds(lambda: _lines(packed))
        yield _row("recording: read", count, told, bare, "unpacking and decoding the lines alone, untyped", 1)


def _lines(packed: bytes) -> list[Any]:
    whole = zstandard.ZstdDecompressor().stream_reader(packed).read()
    return [msgspec.json.decode(line) for line in whole.splitlines()]


class _Silent:
    """A Target that forgets."""

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None: ...
    def put(self, resource: Resource, subject: Object, at: datetime) -> None: ...
    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None: ...
    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None: ...
    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None: ...


def _row(stage: str, count: int, ours: float, bare: float, peer: str, limit: float) -> Row:
    return at_most(stage, f"{count / ours:,.0f} a second", ours / bare, peer, limit)


def _seconds(work: Callable[[], object]) -> float:
    """Of processor time, the least of a few."""
    # What was read before is not what is measured: the garbage collector need not go through it.
    gc.freeze()
    taken = []
    for _ in range(TIMES):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


if __name__ == "__main__":
    print(msgspec.json.encode(list(main(Path(sys.argv[1])))).decode())
