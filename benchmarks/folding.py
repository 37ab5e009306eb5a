"""The fold over many open incidents: what a report costs, whether that grows with them, and what one weighs."""

import gc
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row, at_least, at_most
from explainer.incidents import Incidents
from kubewhy.kube.naming import Name
from kubewhy.records import Change, Failure, Ref, Report, Severity, Sort, Tick, Version, encode

OPEN, FEW = 10_000, 100
REPORTS = 60_000
PER_SECOND, EACH = 20_000, 4096  # reports; bytes an open incident
SLOW = 0.001  # seconds that 99 of 100 reports may take
_START = datetime(2026, 1, 1, tzinfo=UTC)
_NAMESPACE = "shop"


def folding(bench: Bench) -> Iterator[Row]:
    """In a process of its own."""
    yield from msgspec.json.decode(run(python("benchmarks.folding")).output, type=list[Row])


def main() -> Iterator[Row]:
    """Twenty reports: one says that something has changed, one that it fails as before, the others that all is well."""
    wire = [encode(_report(number, OPEN)) for number in range(REPORTS)]
    decoder = msgspec.json.Decoder(Report)
    begun = time.process_time()
    for body in wire:
        decoder.decode(body)
    bare = time.process_time() - begun
    took, slowest, weight = _fold(wire, OPEN)
    small, _, _ = _fold([encode(_report(number, FEW)) for number in range(REPORTS)], FEW)
    name = f"incidents.feed, {OPEN:,} open"
    yield at_least(name, REPORTS / took, took / bare, "decoding the reports alone", PER_SECOND)
    share = slowest / SLOW
    yield Row(
        f"{name}, p99", f"{slowest * 1e6:.0f} µs", f"{share:.2f} of the limit", f"at most {SLOW * 1e3:g} ms", share <= 1
    )
    yield at_most(f"{name}, cost", f"{took / REPORTS * 1e6:.1f} µs", took / small, f"the same with {FEW} open", 2)
    share = weight / EACH
    yield Row(
        f"{name}, memory", f"{weight:,.0f} B each", f"{share:.2f} of the limit", f"at most {EACH:,} B", share <= 1
    )


def _fold(wire: list[bytes], count: int) -> tuple[float, float, float]:
    """Seconds for all of it, the 99th of 100 single ones, and the bytes of one open incident."""
    decoder = msgspec.json.Decoder(Report)
    gc.collect()
    tracemalloc.start()
    incidents = Incidents(keep_open=timedelta(minutes=2))
    for number in range(count):
        for _ in incidents.feed(decoder.decode(encode(_failing(number, 1))), _START):
            pass
    incidents.rows()
    weight = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    gc.freeze()
    now, singles = _START, []
    begun = time.process_time()
    for number, body in enumerate(wire):
        now += timedelta(seconds=1 / PER_SECOND)
        single = time.perf_counter()
        for _ in incidents.feed(decoder.decode(body), now):
            pass
        if number % PER_SECOND == 0:
            for _ in incidents.feed(Tick(), now):
                pass
        incidents.rows()
        singles.append(time.perf_counter() - single)
    took = time.process_time() - begun
    gc.unfreeze()
    return took, sorted(singles)[len(singles) * 99 // 100], weight


def _report(number: int, count: int) -> Report:
    if number % 20 == 0:
        return _failing(number // 20 % count, 2 + number, reason="" if number // 20 // count % 2 else "Other")
    if number % 20 == 1:
        return _failing(number // 20 % count, 2 + number)
    return _of(f"well-{number}", number, ())


def _failing(number: int, seq: int, reason: str = "") -> Report:
    failure = Failure(
        rule="pod-crash-looping",
        severity=Severity.CRITICAL,
        title="A container keeps crashing",
        message="container web has been started again 12 times; it last ended with exit code 1 (application error)",
        since=_START - timedelta(hours=1),
        container="web",
        reason=reason,
        why="While it waits to be started again it does no work, and each wait is longer, up to five minutes.",
        look="Read the log of the last run, which mostly ends with the error; then see what was changed before.",
        docs="https://kubernetes.io/docs/tasks/debug/debug-application/debug-pods/",
    )
    return _of(f"app-{number:05}", seq, (failure,))


def _of(name: str, seq: int, failures: tuple[Failure, ...]) -> Report:
    labels = {"app": name, "pod-template-hash": "5d4f8c9b7d", "tier": f"tier-of-{name}"} if failures else {}
    return Report(
        cluster="bench",
        version=Version(1, seq),
        ref=Ref("Pod", f"{name}-5d4f8c9b7d-x2x4z", _NAMESPACE),
        root=Ref("Deployment", name, _NAMESPACE, "apps"),
        observed_at=_START,
        checked=("Pod",),
        failures=failures,
        labels=labels,
        seen=_seen(name) if failures else (),
        names=(Name("container", "web"), Name("node", "node-7"), Name("image", f"shop/{name}:42")) if failures else (),
        changes=(_changed(name),) if failures else (),
        namespace_labels={"kubernetes.io/metadata.name": _NAMESPACE, "team": "a"} if failures else {},
    )


def _seen(name: str) -> tuple[str, ...]:
    pod = f"{name}-5d4f8c9b7d-x2x4z_{_NAMESPACE}"
    return (
        "Running, 0 of 1 containers ready, on node node-7",
        "container web is waiting, CrashLoopBackOff; it last ended with exit code 1 (application error)",
        "condition Ready is False: ContainersNotReady: containers with unready status: [web]",
        f"event BackOff: Back-off restarting failed container web in pod {pod}",
    )


def _changed(name: str) -> Change:
    ref = Ref("Deployment", name, _NAMESPACE, "apps")
    what = f"image of container web: registry.example.com/shop/{name}:41 -> registry.example.com/shop/{name}:42"
    return Change(object=ref, at=_START - timedelta(hours=1, minutes=5), sort=Sort.IMAGES, what=what)


if __name__ == "__main__":
    print(msgspec.json.encode(list(main())).decode())
