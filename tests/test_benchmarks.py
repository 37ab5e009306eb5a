"""What the benchmarks measure with: the shop and its changes, and the table. What they measure, `make bench` says."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from analyzers import enabled
from analyzers.stage import AnalyzerStage
from benchmarks import changes, shop
from benchmarks.table import Row, at_least, at_most, memory, table
from kubewhy.records import Evidence, Ref, Version

FOUND = {
    None: [],
    "crash": ["pod-crash-looping"],
    "pull": ["pod-image-pull"],
    "oom": ["pod-oom-killed"],
    "config": ["pod-config-missing"],
    "unready": ["pod-not-ready"],
    "unschedulable": ["pod-unschedulable"],
}


@pytest.mark.parametrize("trouble", [None, *shop.TROUBLES])
def test_each_trouble_of_a_pod_is_found_as_what_it_is(trouble: str | None) -> None:
    whole = msgspec.Raw(json.dumps(shop.pod(trouble)).encode())
    evidence = Evidence(
        cluster="bench",
        version=Version(1, 1),
        ref=Ref("Pod", "web", shop.SPACE),
        observed_at=datetime.now(UTC),
        object=whole,
    )
    [report] = AnalyzerStage(enabled()).feed(evidence, evidence.observed_at)
    assert [failure.rule for failure in report.failures] == FOUND[trouble]
    assert not report.broken


@pytest.mark.parametrize(("apps", "per_second", "seconds"), [(200, 100.0, 60.0), (40, 100.0, 15.0), (3, 10.0, 1.0)])
def test_every_pod_ends_as_it_began(apps: int, per_second: float, seconds: float) -> None:
    total = round(per_second * changes.laps(apps, per_second, seconds))
    made: dict[tuple[int, int], list[bool]] = {}
    for number in range(total):
        app, replica, ready = changes.what(apps, number)
        made.setdefault((app, replica), []).append(ready)
    assert {app for app, _ in made} == set(range(apps))
    for turns in made.values():
        assert turns == [False, True] * (len(turns) // 2)


def test_a_limit_that_is_not_met_is_said_loudly() -> None:
    rows = [
        at_most("slow", "9 s", 9.0, "the peer", 4),
        at_least("fast", 30_000, 2.0, "the peer", 20_000),
        memory("small", 100, 128),
        Row("told only", "1 s"),
    ]
    assert [row.met for row in rows] == [False, True, True, None]
    *_, slow, fast, small, told = table(rows).splitlines()
    assert slow.endswith("| NO  |")
    assert fast.endswith("| yes |")
    assert "0.78 of the limit" in small
    assert told.endswith("|     |")
    assert len({len(line) for line in table(rows).splitlines()}) == 1
