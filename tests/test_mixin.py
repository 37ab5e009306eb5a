"""With the profile of kubernetes-mixin nothing is told before its alert would fire, nor more than a minute after."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from analyzers import enabled
from explainer.profiles import PROFILES
from kubewhy.contracts import Rule
from kubewhy.records import Failure
from tests.test_incidents import Clock
from tests.test_told_once import CRASHED, WELL, Status, node, pod
from tests.world import START, Run, World, iso

MIXIN = PROFILES["mixin"]
RULES = {rule.id: rule for analyzer in enabled() for rule in analyzer.rules}
HALF_MINUTE, HOUR = timedelta(seconds=30), timedelta(hours=1)
each_rule = pytest.mark.parametrize("rule", [RULES[name] for name in MIXIN.holds], ids=lambda rule: rule.id)


@pytest.fixture
def clock() -> Clock:
    return Clock(keep_open=MIXIN.keep_open, holds=MIXIN.holds)


def opened(clock: Clock, restated: Iterator[Failure | None]) -> datetime | None:
    """When it is told for the first time, where that is said of it every half minute."""
    for failure in restated:
        clock.say("Pod shop/a", *([failure] if failure else []))
        clock.wait(HALF_MINUTE.total_seconds())
        if clock.findings:
            return clock.findings[0].at
    return None


def in_time(rule: Rule, at: datetime | None, since: datetime) -> bool:
    due = since + MIXIN.holds[rule.id]
    return at is not None and due <= at <= due + timedelta(minutes=1)


@each_rule
def test_what_lasts_is_told_in_time(clock: Clock, rule: Rule) -> None:
    failure = rule.failure("it lasts", since=clock.server)
    assert in_time(rule, opened(clock, iter([failure] * 120)), START)


@each_rule
def test_what_began_nobody_knows_when_counts_from_when_it_was_seen(clock: Clock, rule: Rule) -> None:
    assert in_time(rule, opened(clock, iter([rule.failure("it lasts")] * 120)), START)


@each_rule
def test_what_began_before_anybody_looked_counts_from_its_beginning(clock: Clock, rule: Rule) -> None:
    failure = rule.failure("it lasts", since=clock.server - timedelta(minutes=5))
    assert in_time(rule, opened(clock, iter([failure] * 120)), START - timedelta(minutes=5))


@each_rule
def test_what_begins_again_and_again_counts_from_its_first_beginning(clock: Clock, rule: Rule) -> None:
    def crashes() -> Iterator[Failure]:
        for number in range(120):
            last = clock.server - (number % 8) * HALF_MINUTE
            yield rule.failure("it began anew", since=last)

    assert in_time(rule, opened(clock, crashes()), START)


@each_rule
def test_what_ends_before_its_time_is_never_told(clock: Clock, rule: Rule) -> None:
    often = int(MIXIN.holds[rule.id] / HALF_MINUTE) - 1
    failing: list[Failure | None] = [rule.failure("it comes and goes")] * often
    assert opened(clock, iter([*failing, None, *failing, None, *failing, None])) is None
    assert clock.wait(HOUR.total_seconds()) == []


@each_rule
def test_a_restart_does_not_make_it_begin_anew(clock: Clock, rule: Rule) -> None:
    def restarted() -> Iterator[Failure]:
        for _ in range(120):
            clock.restart()
            yield rule.failure("it lasts")

    assert in_time(rule, opened(clock, restarted()), START)


def test_a_container_that_really_crashes_is_told_after_a_quarter_of_an_hour(tmp_path: Path) -> None:
    """Of its six minutes each, the kubelet waits for five; only then is it down."""
    world = World()
    run = Run(tmp_path / "state", world, profile="mixin")
    node(world, "node-1")
    for restarts in range(20):
        died = iso(run.now)
        pod(world, "web", {**CRASHED, "restartCount": restarts, "lastState": ended(died)})
        run.look()
        run.wait(300)
        pod(world, "web", {**WELL, "restartCount": restarts + 1, "lastState": ended(died)})
        run.look()
        run.wait(60)
    (told,) = run.findings
    assert timedelta(minutes=15) <= told.at - START <= timedelta(minutes=16)
    run.close()


def ended(at: str) -> Status:
    return {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at}}


def test_every_rule_of_a_profile_exists_and_none_is_told_sooner_than_it_is_by_itself() -> None:
    for profile in PROFILES.values():
        for name, hold in profile.holds.items():
            assert hold >= RULES[name].hold
