"""`kubewhy analyze` as people run it, against the bare limit."""

import json
from collections.abc import Iterator

from benchmarks import programs
from benchmarks.cluster import Bench
from benchmarks.table import Row, at_most, memory

TIMES_BARE = 4.0
PEAK = 150.0  # MiB


def analyze(bench: Bench) -> Iterator[Row]:
    """The whole command, to JSON, and its peer, by turns."""
    command = programs.python("kubewhy", "analyze", "--kubeconfig", bench.reader, "-o", "json")
    ours, bare = programs.in_turn([command, programs.python("benchmarks.bare", bench.reader)], bench.runs)
    summary = json.loads(ours[-1].output)["summary"]
    took, limit = programs.middle(ours), programs.middle(bare)
    peak = max(each.peak for each in ours)
    name = f"analyze, {bench.size.pods:,} pods"
    yield Row("the bare limit: paged LIST and typed decode", f"{limit:.2f} s, {bare[-1].peak:.0f} MiB")
    yield at_most(name, f"{took:.2f} s", took / limit, "the bare limit", TIMES_BARE)
    yield memory(f"{name}, peak", peak, PEAK)
    yield Row(f"{name}, found", f"{summary['failures']} failures in {summary['incidents']} incidents")
