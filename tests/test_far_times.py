"""Times that nobody can mean, in objects and in clocks: nothing raises, and no failure is lost."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from analyzers import ANALYZERS, enabled
from analyzers.stage import AnalyzerStage
from explainer.incidents import Incidents
from kubewhy.records import Evidence, Tick, encode
from kubewhy.runtime.embedded import Pipeline
from tests.conformance.cases import NOW, load
from tests.test_incidents import SECOND, Clock, broken

TIME = re.compile(rb'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"')
FIRST, LAST = b'"0001-01-01T00:00:00Z"', b'"9999-12-31T23:59:59Z"'
CASES = [case for analyzer in ANALYZERS for case in load(analyzer)]


def told_at(evidence: Evidence, times: list[bytes]) -> Evidence:
    """The same with these times, by turns, in place of its own."""
    turn = iter(times * 1000)
    told = msgspec.json.decode(TIME.sub(lambda _: next(turn), encode(evidence)), type=Evidence)
    return msgspec.structs.replace(told, observed_at=evidence.observed_at)


@pytest.mark.parametrize(
    "times", [[FIRST], [LAST], [FIRST, LAST], [LAST, FIRST, LAST]], ids=["1", "9999", "both", "more"]
)
def test_rules_take_any_time_of_the_calendar(times: list[bytes]) -> None:
    stage = AnalyzerStage(enabled())
    for case in CASES:
        (report,) = stage.feed(told_at(case.evidence, times), NOW)
        assert not report.broken, case.id


@pytest.mark.parametrize("days", [-3650, -3, 3, 3650])
def test_a_server_whose_clock_is_off_by_days_is_understood(days: int) -> None:
    off = timedelta(days=days)
    for case in CASES:
        findings = []
        for clock in (timedelta(0), off):
            pipeline = Pipeline(enabled(), incidents=Incidents(keep_open=timedelta(minutes=2)))
            told = pipeline.feed([msgspec.structs.replace(case.evidence, observed_at=NOW)], NOW - clock)
            told += pipeline.feed([Tick()], NOW - clock + timedelta(hours=1))
            findings.append([(each.transition, each.at + clock, each.incident.title) for each in told])
        assert findings[0] == findings[1], case.id


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=3), timedelta(days=-3)])
@pytest.mark.parametrize("year", [1, 1970])
def test_what_has_failed_since_the_beginning_of_time_counts_at_once(year: int, ahead: timedelta) -> None:
    clock = Clock()
    failure = broken(since=datetime(year, 1, 1, tzinfo=UTC), hold=600.0)
    assert clock.say("Pod shop/a", failure, observed_at=clock.now + ahead) == ["opened Pod shop/a"]
    clock.restart()
    assert clock.say("Pod shop/a", failure, observed_at=clock.now + ahead) == []
    assert clock.say("Pod shop/a") == ["resolved Pod shop/a recovered"]


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=3), timedelta(days=-3)])
def test_what_fades_at_the_end_of_time_stays(ahead: timedelta) -> None:
    clock = Clock(keep_open=timedelta(minutes=2))
    failure = broken(until=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert clock.say("Pod shop/a", failure, observed_at=clock.now + ahead) == ["opened Pod shop/a"]
    clock.restart()
    assert clock.wait(3600) == []


def test_what_faded_in_the_beginning_of_time_does_not_count() -> None:
    clock = Clock()
    assert clock.say("Pod shop/a", broken(until=datetime(1, 1, 1, tzinfo=UTC))) == []
    assert clock.wait(60) == []


@pytest.mark.parametrize("days", [-3, 3])
def test_a_server_clock_that_is_set_by_days_changes_nothing_that_is_open(days: int) -> None:
    clock = Clock(keep_open=timedelta(minutes=2))
    failure = broken(since=clock.server - 60 * SECOND)
    clock.say("Pod shop/a", failure)
    clock.wait(10)
    clock.say("Pod shop/a", failure, observed_at=clock.server + timedelta(days=days))
    assert clock.wait(600) == []
    assert [each.transition for each in clock.findings] == ["opened"]
