"""Delivery: how fast findings are queued in the state, and how fast what waits there gets to each sink."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from analyzers import enabled
from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row, at_least
from kubewhy.contracts import Sink
from kubewhy.records import Finding, encode
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.state import SqliteState
from sinks.file import FileSink
from sinks.settings import FileSettings
from sinks.stdout import StdoutSink
from tests.delivered import Kept, replay

RECORDING = Path(__file__).parents[1] / "docs" / "examples" / "broken-shop.kwrec"
COUNT, TIMES = 10_000, 3
QUEUED, DELIVERED = 1_000, 2_000  # a second, at least


@dataclass(frozen=True)
class Way:
    """A sink that writes to that file, and the least that its work could take."""

    name: str
    sink: Callable[[Path], Sink]
    bare: Callable[[Sequence[Finding], Path], None]


def delivering(bench: Bench) -> Iterator[Row]:
    """In a process of its own."""
    yield from msgspec.json.decode(run(python("benchmarks.delivering")).output, type=list[Row])


def main() -> Iterator[Row]:
    """The best of a few."""
    findings = _findings()
    queued = min(_queue(findings) for _ in range(TIMES))
    bare = min(_encode(findings) for _ in range(TIMES))
    yield at_least("queued for one sink, in the state", COUNT / queued, queued / bare, "encoding them alone", QUEUED)
    for way in WAYS:
        taken, bare = (min(measure(way, findings) for _ in range(TIMES)) for measure in (_drain, _bare))
        name = f"delivered to {way.name}, from the state"
        yield at_least(name, COUNT / taken, taken / bare, "encoding and writing alone", DELIVERED)


def _written(findings: Sequence[Finding], path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for finding in findings:
            file.write(encode(finding) + b"\n")


WAYS = (
    Way("stdout", lambda path: StdoutSink(path.open("ab", buffering=0)), _written),
    Way("a file", lambda path: FileSink(FileSettings(type="file", path=path)), _written),
)


def _queue(findings: Sequence[Finding]) -> float:
    """One after the other, as they are found."""
    with TemporaryDirectory() as folder, closing(SqliteState(Path(folder) / "state")) as state:
        delivery = Delivery({"one": Kept()}, state)
        begun = time.perf_counter()
        for finding in findings:
            delivery.post([("one", finding)], {})
        return time.perf_counter() - begun


def _encode(findings: Sequence[Finding]) -> float:
    begun = time.perf_counter()
    for finding in findings:
        encode(finding)
    return time.perf_counter() - begun


def _drain(way: Way, findings: Sequence[Finding]) -> float:
    async def drain() -> float:
        async with delivery.running():
            begun = time.perf_counter()
            await delivery.end()
            return time.perf_counter() - begun

    with TemporaryDirectory() as folder, closing(SqliteState(Path(folder) / "state")) as state:
        path = Path(folder) / "out"
        delivery = Delivery({"one": way.sink(path)}, state)
        delivery.post([("one", finding) for finding in findings], {})
        taken = asyncio.run(drain())
        assert path.read_bytes().count(b"\n") == len(findings)
        return taken


def _bare(way: Way, findings: Sequence[Finding]) -> float:
    with TemporaryDirectory() as folder:
        begun = time.perf_counter()
        way.bare(findings, Path(folder) / "out")
        return time.perf_counter() - begun


def _findings() -> list[Finding]:
    """Those of the shipped recording, over and over, each with an id of its own."""
    kept = Kept()
    asyncio.run(replay(RECORDING, enabled(), kept))
    told = kept.findings
    return [msgspec.structs.replace(told[number % len(told)], id=f"{number:032x}") for number in range(COUNT)]


if __name__ == "__main__":
    print(msgspec.json.encode(list(main())).decode())
