"""What `kubewhy run` needs of memory, processor and API server while it watches a full cluster."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from benchmarks import changes, programs
from benchmarks.cluster import READER, Bench
from benchmarks.programs import Started
from benchmarks.table import Row, memory
from infra.testbed.control_plane import ControlPlane

PEAK = 128.0  # MiB
BUSY = 0.5  # of one core
BUSY_RATE = 100.0  # changes a second
WATCH_EVERY = 240.0  # seconds between two WATCHes of one kind


def collector(bench: Bench) -> Iterator[Row]:
    """The collector alone, then with analyzers and explainer in the same process."""
    with Started(programs.python("benchmarks.collect", bench.reader)) as alone:
        alone.settle()
        yield memory("collector alone, cold start", alone.peak(), PEAK)
    with Started(programs.python("kubewhy", "run", "--kubeconfig", bench.reader)) as run:
        run.settle()
        yield memory("kubewhy run, cold start", run.peak(), PEAK)
        begun, wall = datetime.now().astimezone(), time.perf_counter()
        yield _load(bench, run)
        time.sleep(max(0.0, bench.steady - (time.perf_counter() - wall)))
        yield memory(f"kubewhy run, {bench.steady:.0f} s later", run.peak(), PEAK)
        yield from _requests(bench.plane, begun)


def _load(bench: Bench, run: Started) -> Row:
    seconds = changes.laps(bench.size.apps, BUSY_RATE, bench.seconds)
    before, begun = run.cpu(), time.perf_counter()
    arguments = (bench.plane.admin_kubeconfig, str(bench.size.apps), str(BUSY_RATE), str(seconds))
    rate = float(programs.run(programs.python("benchmarks.changes", *arguments)).output)
    busy = (run.cpu() - before) / (time.perf_counter() - begun)
    if rate < 0.95 * BUSY_RATE:
        raise RuntimeError(f"this machine makes only {rate:.0f} changes a second")
    return Row(
        f"kubewhy run, {rate:.0f} changes a second",
        f"{busy:.0%} of one core",
        f"{busy / BUSY:.2f} of the limit",
        f"under {BUSY:.0%}",
        busy < BUSY,
    )


def _requests(plane: ControlPlane, begun: datetime) -> Iterator[Row]:
    """What the API server's own log says of our requests since then."""
    reads = {"events": 0}
    watches: dict[str, list[datetime]] = defaultdict(list)
    for line in plane.audit_log.read_bytes().splitlines():
        entry = json.loads(line)
        if entry["user"]["username"] != READER or entry["stage"] != "RequestReceived":
            continue
        at = datetime.fromisoformat(entry["requestReceivedTimestamp"])
        resource = entry.get("objectRef", {}).get("resource", entry["requestURI"])
        if entry["verb"] == "watch":
            watches[resource].append(at)
        elif at >= begun:
            reads[resource] = reads.get(resource, 0) + 1
    kinds = len(watches)
    seconds = (datetime.now().astimezone() - begun).total_seconds()
    again = sum(1 for times in watches.values() for at in times if at >= begun)
    gaps = [
        (later - earlier).total_seconds()
        for times in watches.values()
        for earlier, later in pairwise(times)
        if later >= begun
    ]
    shortest = min(gaps, default=math.inf)
    stage = f"requests in {seconds:.0f} s of steady state"
    # Events have no watch cache: a WATCH of them that is opened again may meet 410, and only a LIST mends that.
    others = sum(reads.values()) - reads["events"]
    figure = f"{others} LIST or GET, and {reads['events']} of Events"
    yield Row(stage, figure, "the audit log", "none but of Events", not others)
    yield Row(
        stage,
        f"{again} WATCH of {kinds} kinds",
        "none twice" if math.isinf(shortest) else f"the soonest after {shortest:.0f} s",
        f"one a kind per {WATCH_EVERY:.0f} s",
        shortest >= WATCH_EVERY,
    )
