"""What is over stays open for a while, in a stream and in a recording, but not beyond their end."""

from pathlib import Path
from typing import Any

import pytest

import analyzers
from explainer.incidents import Incidents
from kubewhy.records import Finding, Heartbeat, Version
from kubewhy.runtime.patience import patience
from kubewhy.runtime.state import SqliteState
from kubewhy.settings import IncidentSettings, Settings
from tests.delivered import Kept, watch
from tests.hurry import hurried
from tests.test_embedded import (
    ANALYZERS,
    EXAMPLE,
    START,
    Scripted,
    after,
    clock,
    evidence,
    record,
    replayed,
    told,
)


def patient(**more: Any) -> Incidents:
    """As without any settings."""
    return patience(Settings(), None, (), **{"no_hold": False, **more})


def flapping(seconds: float) -> list[tuple[float, str, str]]:
    """A pod that fails for so long, is well for so long, and so on."""
    return [(1 + seconds * turn, "a", "Running" if turn % 2 else "Failed") for turn in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.kwrec"


async def test_what_comes_and_goes_in_a_recording_is_told_once(path: Path) -> None:
    record(path, *flapping(60), end=1000)
    assert told(await replayed(path, incidents=patient())) == [("opened", "a", 11), ("resolved", "a", 782)]


async def test_without_patience_all_of_it_is_told(path: Path) -> None:
    record(path, *flapping(60), end=1000)
    findings = await replayed(path, incidents=patient(no_hold=True), no_hold=True)
    assert [each.transition for each in findings] == ["opened", "resolved"] * 3


async def test_what_is_over_at_the_end_of_a_recording_is_resolved_there(path: Path) -> None:
    record(path, (1, "a", "Failed"), (2, "b", "Failed"), (60, "a", "Running"), (70, "b", "gone"), end=75)
    findings = await replayed(path, incidents=patient())
    assert told(findings[2:]) == [("resolved", "a", 75), ("resolved", "b", 75)]
    assert [each.incident.resolution for each in findings[2:]] == ["recovered", "deleted"]


async def test_what_is_left_of_an_incident_at_the_end_is_told(path: Path) -> None:
    record(path, (1, "web-1", "Failed"), (1, "web-2", "Failed"), (60, "web-1", "Running"), end=75)
    findings = await replayed(path, incidents=patient())
    assert findings[-1].incident.state == "open"
    assert [each.name for each in findings[-1].incident.members] == ["web-2"]


@pytest.mark.parametrize("years", [0, 1, 900])
async def test_a_recording_in_which_nothing_happens_for_years_is_told_to_its_end(path: Path, years: int) -> None:
    later = 400.0 + years * 365 * 86400
    record(path, (1, "a", "Failed"), (60, "a", "Running"), (later, "b", "Failed"), end=later + 60)
    findings = await replayed(path, incidents=patient())
    assert [each.transition for each in findings] == ["opened", "resolved", "opened"]
    assert findings[1].at < after(later)


@hurried
async def test_a_run_that_ends_when_idle_does_not_wait_for_what_is_kept_open() -> None:
    sink = Kept()
    collector = Scripted(evidence("a", "Failed", 1), evidence("b", "Failed", 2), 20.0, evidence("a", "Running", 3))
    await watch(collector, ANALYZERS, sink, clock(), until_idle=15, incidents=patient())
    assert [(transition, name) for transition, name, _ in told(sink.findings)] == [
        ("opened", "a"),
        ("opened", "b"),
        ("resolved", "a"),
    ]
    assert 34 <= (sink.findings[-1].at - START).total_seconds() < 38


@hurried
async def test_a_failure_that_comes_back_after_a_run_has_ended_is_told_anew(tmp_path: Path) -> None:
    findings: list[Finding] = []
    for script in (["Failed", "Running"], ["Failed"]):
        sink, state = Kept(), SqliteState(tmp_path / "state")
        records: list[Any] = [Heartbeat(cluster="c", version=Version(1, 0), observed_at=START)]
        for phase in script:
            records += [evidence("a", phase, len(findings) + len(records)), 12.0]
        await watch(Scripted(*records), ANALYZERS, sink, clock(), until_idle=15, state=state, incidents=patient())
        state.close()
        findings += sink.findings
    assert [each.transition for each in findings] == ["opened", "resolved", "opened"]
    assert len({each.incident.id for each in findings}) == 2


@pytest.mark.parametrize(
    ("says", "resolved"),
    [({}, 180), ({"keep_open": "5m"}, 360), ({"profile": "mixin"}, 360), ({"keep_open": "0s"}, 60)],
)
async def test_how_long_something_is_kept_open_is_what_the_settings_say(
    path: Path, says: dict[str, str], resolved: float
) -> None:
    record(path, (1, "a", "Failed"), (60, "a", "Running"), end=1000)
    incidents = patience(Settings(incidents=IncidentSettings.model_validate(says)), None, (), no_hold=False)
    (_, opened), (_, end) = [(each.transition, each.at) for each in await replayed(path, incidents=incidents)]
    assert opened == after(11)
    assert after(resolved) <= end <= after(resolved + 2)


async def test_the_example_has_a_cascade_a_flap_a_recovery_and_a_crowd_that_is_well() -> None:
    findings = await replayed(EXAMPLE, analyzers.enabled(), incidents=patient())
    cascade, flap, crowd = (
        [each for each in findings if each.incident.root.namespace == space]
        for space in ("checkout", "recommendations", "shop")
    )
    assert {each.object.kind for each in cascade[-1].incident.failures} == {"Pod", "Deployment", "Service"}
    assert {each.incident.root.kind for each in cascade} == {"Secret"}
    assert (cascade[-1].transition, cascade[-1].incident.resolution) == ("resolved", "recovered")
    assert cascade[-1].at < findings[-1].at  # by itself, and not because the recording ends
    assert [each.transition for each in flap] == ["opened", "resolved"]
    assert crowd == []
    told = [
        each for each in await replayed(EXAMPLE, analyzers.enabled()) if each.incident.root == flap[0].incident.root
    ]
    assert [each.transition for each in told] == ["opened", "resolved"] * 3
