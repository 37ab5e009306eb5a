"""The archive on S3: how fast findings get there, and how many bytes each takes."""

import asyncio
import gzip
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from analyzers import enabled
from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row, at_most
from kubewhy.contracts import Letter
from kubewhy.records import encode
from kubewhy.s3 import Bucket
from sinks.archive import LEVEL, MANIFEST, objects
from sinks.s3 import AT_MOST, S3Sink
from tests.delivered import Kept, Memory, replay
from tests.services.moto import KEYS, Store, moto

RECORDING = Path(__file__).parents[1] / "docs" / "examples" / "broken-shop.kwrec"
COUNT, TIMES = 10_000, 5
QUIET = 10
MOST = 2.0  # times what the peer takes
LARGEST = 1_000  # bytes a finding


def archiving(bench: Bench) -> Iterator[Row]:
    """In a process of its own."""
    yield from msgspec.json.decode(run(python("benchmarks.archiving")).output, type=list[Row])


def main() -> Iterator[Row]:
    """The best of a few, to moto over HTTP. The peer encodes, compresses and puts the same lines, and no more."""
    os.environ |= KEYS
    letters = list(_letters())
    batches = [letters[first : first + AT_MOST] for first in range(0, COUNT, AT_MOST)]
    with moto() as url:
        taken = min(asyncio.run(_archive(Store.made(url), batches)) for _ in range(TIMES))
        bare = min(_put(Store.made(url), batches) for _ in range(TIMES))
    figure = f"{COUNT / taken:,.0f} findings a second"
    yield at_most("archive on S3", figure, taken / bare, "JSON, gzip and boto3 alone", MOST)
    plain = sum(len(encode(each.finding)) for each in letters) / COUNT
    for size, when in ((AT_MOST, "in a storm"), (QUIET, "in a quiet minute")):
        held = [letters[first : first + size] for first in range(0, COUNT, size)]
        each = sum(len(body) for batch in held for _, body in objects(batch)) / COUNT
        ratio = f"{each / plain:.2f} x its JSON ({plain:,.0f} B)"
        yield Row(
            f"archive on S3, {size:,} {when}",
            f"{each:,.0f} B a finding",
            ratio,
            f"at most {LARGEST:,} B",
            each <= LARGEST,
        )


async def _archive(store: Store, batches: Sequence[Sequence[Letter]]) -> float:
    sink, memo = S3Sink(Bucket(store.settings())), Memory()
    await sink.send(batches[0][:1], memo)
    begun = time.perf_counter()
    for batch in batches:
        await sink.send(batch, memo)
    taken = time.perf_counter() - begun
    await sink.close()
    return taken


def _put(store: Store, batches: Sequence[Sequence[Letter]]) -> float:
    store.client.put_object(Bucket=store.bucket, Key=MANIFEST, Body=b"")
    begun = time.perf_counter()
    for number, batch in enumerate(batches):
        body = gzip.compress(b"\n".join(encode(each.finding) for each in batch), LEVEL)
        store.client.put_object(Bucket=store.bucket, Key=f"{number}", Body=body)
    return time.perf_counter() - begun


def _letters() -> Iterator[Letter]:
    """What the shipped recording tells, again and again, as other incidents."""
    kept = Kept()
    asyncio.run(replay(RECORDING, enabled(), kept))
    for number in range(COUNT):
        told = kept.findings[number % len(kept.findings)]
        turn = number // len(kept.findings)
        incident = msgspec.structs.replace(told.incident, id=_other(told.incident.id, turn))
        yield Letter(number, msgspec.structs.replace(told, id=_other(told.id, turn), incident=incident))


def _other(known: str, turn: int) -> str:
    return f"{hash((known, turn)) & (1 << 64) - 1:016x}"


if __name__ == "__main__":
    print(msgspec.json.encode(list(main())).decode())
