"""What is silenced is told to nobody, is not lost, and is told when its silence ends."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.silences import ignored
from kubewhy.errors import Rejected
from kubewhy.records import Failure, Finding, Ref, Report, Silence, SilenceChange, Version
from tests.test_correlation import ref
from tests.test_incidents import SECOND, START, Clock, broken

HOUR = timedelta(hours=1)


class Muted(Clock):
    """A clock that can silence. What is told has a * where nobody hears of it."""

    def silence(self, *matchers: str, key: str = "s1", lasts: timedelta = HOUR, **more: Any) -> list[str]:
        silence = Silence(id=key, matchers=matchers, ends_at=self.now + lasts, **more)
        return self.feed(SilenceChange(id=key, silence=silence))

    def expire(self, key: str = "s1") -> list[str]:
        return self.feed(SilenceChange(id=key))

    def feed(self, record: Any) -> list[str]:
        before = len(self.findings)
        told = super().feed(record)
        return [f"{words}{'*' * each.silenced}" for words, each in zip(told, self.findings[before:], strict=True)]


@pytest.fixture
def clock() -> Muted:
    return Muted()


def test_a_silenced_failure_is_told_to_nobody_and_kept_for_archives(clock: Muted) -> None:
    clock.silence('namespace="shop"')
    assert clock.say("Pod shop/a", broken()) == ["opened Pod shop/a*"]
    assert clock.say("Pod other/a", broken()) == ["opened Pod other/a"]
    assert clock.say("Pod shop/a") == ["resolved Pod shop/a recovered*"]


def test_a_silence_ends_an_open_incident_and_its_own_end_opens_another(clock: Muted) -> None:
    clock.say("Pod shop/a", broken())
    assert clock.silence('name="a"') == ["resolved Pod shop/a silenced", "opened Pod shop/a*"]
    assert clock.say("Pod shop/a", broken()) == []
    assert clock.wait(3599) == []
    assert clock.wait(1) == ["resolved Pod shop/a superseded*", "opened Pod shop/a"]
    assert len({each.incident.id for each in clock.findings}) == 3


def test_a_silence_that_is_taken_back_ends_at_once(clock: Muted) -> None:
    clock.silence('name="a"')
    clock.say("Pod shop/a", broken())
    assert clock.expire() == ["resolved Pod shop/a superseded*", "opened Pod shop/a"]
    assert clock.expire() == []
    assert clock.stage.silences() == []


def test_a_silence_begins_when_it_says_so(clock: Muted) -> None:
    clock.say("Pod shop/a", broken())
    assert clock.silence('name="a"', starts_at=clock.now + timedelta(minutes=1)) == []
    assert clock.wait(59) == []
    assert clock.wait(1) == ["resolved Pod shop/a silenced", "opened Pod shop/a*"]


def test_what_recovered_meanwhile_is_not_told_when_the_silence_ends(clock: Muted) -> None:
    clock.silence('name="a"')
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/a")
    assert clock.wait(3700) == []


def test_what_is_over_and_only_kept_for_a_while_is_told_neither_as_silenced_nor_as_new() -> None:
    clock = Muted(keep_open=timedelta(minutes=2))
    clock.silence('name="a"', lasts=timedelta(minutes=1))
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/b", broken())
    clock.wait(30)
    clock.say("Pod shop/a")
    clock.say("Pod shop/b")
    assert clock.wait(60) == []
    assert clock.silence('name="b"') == []
    assert clock.wait(61) == ["resolved Pod shop/a recovered*", "resolved Pod shop/b recovered"]


def test_what_returns_after_the_silence_is_told() -> None:
    clock = Muted(keep_open=timedelta(minutes=2))
    clock.silence('name="a"', lasts=timedelta(minutes=1))
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/a")
    clock.wait(70)
    assert clock.say("Pod shop/a", broken()) == ["resolved Pod shop/a superseded*", "opened Pod shop/a"]


def test_of_a_partly_silenced_incident_the_rest_is_told(clock: Muted) -> None:
    secret = Ref("Secret", "password", "shop")
    for name in "abc":
        clock.say(f"Pod shop/{name}", broken(cause=secret))
    clock.wait(6)
    assert clock.silence('name=~"a|b"') == ["opened Secret shop/password*"]
    assert clock.wait(12) == ["updated Secret shop/password"]
    assert [told.object.name for told in clock.findings[-1].incident.failures] == ["c"]
    assert clock.findings[-1].incident.id == clock.findings[0].incident.id
    assert clock.say("Pod shop/c") == ["resolved Secret shop/password recovered"]


def test_a_silence_may_go_by_rule_and_severity_and_both_sorts_of_labels(clock: Muted) -> None:
    labels: dict[str, Any] = {"labels": {"app": "web"}, "namespace_labels": {"team": "a"}}
    for number, matcher in enumerate(
        ["rule=crash", "severity=critical", "label:app=web", "namespace-label:team=a", "cluster=c", "kind=Pod"]
    ):
        clock.silence(matcher)
        assert clock.say(f"Pod shop/{number}", broken(), **labels)[0].endswith("*"), matcher
        assert clock.say(f"Pod shop/{number}", **labels)[0].endswith("*"), matcher
    clock.silence("label:app=web", "namespace-label:team=b")
    assert clock.say("Pod shop/x", broken(), **labels) == ["opened Pod shop/x"]


def test_changed_labels_are_seen(clock: Muted) -> None:
    clock.silence("label:app=web")
    clock.say("Pod shop/a", broken())
    told = clock.say("Pod shop/a", broken(), labels={"app": "web"})
    assert told == ["resolved Pod shop/a silenced", "opened Pod shop/a*"]
    clock.restart()
    told = clock.say("Pod shop/a", broken(), labels={"app": "db"})
    assert told == ["resolved Pod shop/a superseded*", "opened Pod shop/a"]


def test_a_silenced_workload_does_not_silence_what_else_fails(clock: Muted) -> None:
    clock.silence("kind=Pod")
    assert clock.say("Pod shop/a", broken(), root="Deployment shop/web") == ["opened Deployment shop/web*"]
    unavailable = broken("unavailable", symptom=True)
    assert clock.say("Deployment shop/web", unavailable) == ["opened Deployment shop/web"]


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("*", "crash config"),
        ("crash", "crash"),
        (" config , crash ", "crash config"),
        ("c*", "crash config"),
        ("con*", "config"),
        ("CRASH", ""),
        ("", ""),
        (",", ""),
        ("rash", ""),
    ],
)
@pytest.mark.parametrize("where", ["ignore", "namespace_ignore"])
def test_an_object_and_its_namespace_say_which_rules_to_ignore(where: str, text: str, rules: str) -> None:
    fields: dict[str, Any] = {"cluster": "c", "version": Version(1, 1), "ref": ref("Pod shop/a"), where: text}
    report = Report(root=ref("Pod shop/a"), observed_at=START, **fields)
    assert [rule for rule in ("crash", "config") if ignored(report, rule)] == rules.split()


def test_what_is_ignored_is_listed(clock: Muted) -> None:
    clock.say("Pod shop/b", broken(), ignore="crash", namespace_ignore="*")
    clock.say("Pod shop/a", broken(), namespace_ignore="*")
    assert [each.silenced for each in clock.findings] == [True, True]
    assert clock.stage.ignored() == [("c", Ref("Namespace", "shop"), "*"), ("c", ref("Pod shop/b"), "crash")]
    clock.say("Pod shop/a")
    clock.say("Pod shop/b")
    assert clock.stage.ignored() == []


def test_an_annotation_that_is_taken_away_counts_no_more(clock: Muted) -> None:
    clock.say("Pod shop/a", broken(), ignore="*")
    assert clock.say("Pod shop/a", broken()) == ["resolved Pod shop/a superseded*", "opened Pod shop/a"]


def test_a_silent_cluster_can_be_silenced(clock: Muted) -> None:
    clock.beat()
    clock.silence('cluster="c"', lasts=timedelta(minutes=5))
    assert clock.wait(100) == ["opened Cluster c*"]
    assert clock.wait(200) == ["resolved Cluster c superseded*", "opened Cluster c"]
    assert clock.silence('rule="cluster-silent"') == ["resolved Cluster c silenced", "opened Cluster c*"]
    clock.restart()
    assert clock.wait(10) == []
    assert clock.beat() == ["resolved Cluster c recovered*"]


def test_a_silence_survives_a_restart_and_ends_in_time(clock: Muted) -> None:
    clock.silence('name="a"', author="ann", comment="known")
    clock.say("Pod shop/a", broken())
    clock.restart()
    assert [silence.author for silence in clock.stage.silences()] == ["ann"]
    assert clock.say("Pod shop/a", broken()) == []
    clock.now += HOUR
    assert clock.wait(1) == ["resolved Pod shop/a superseded*", "opened Pod shop/a"]
    clock.restart()
    assert clock.stage.silences() == []
    assert clock.wait(5) == []


def test_a_silence_that_is_told_twice_or_is_over_does_nothing(clock: Muted) -> None:
    clock.silence('name="a"')
    clock.keep()
    silence = clock.stage.silences()[0]
    assert clock.feed(SilenceChange(id="s1", silence=silence)) == []
    assert clock.silence('name="b"', key="old", lasts=-SECOND) == []
    assert clock.keep() == 0


def test_what_is_no_silence_is_rejected_and_the_one_before_stays(clock: Muted) -> None:
    clock.silence('name="a"')
    with pytest.raises(Rejected, match=r"silence s1: 'nme=a': nothing is called 'nme'"):
        clock.silence("nme=a")
    assert clock.say("Pod shop/a", broken()) == ["opened Pod shop/a*"]


def test_findings_carry_the_labels_that_are_asked_for() -> None:
    clock = Muted(labels=["label:app", "namespace-label:team"])
    labels: dict[str, Any] = {"labels": {"app": "web", "tier": "front"}, "namespace_labels": {"team": "a", "env": "b"}}
    clock.say("Pod shop/a", broken(), **labels)
    clock.restart()
    clock.say("Pod shop/a")
    for finding in clock.findings:
        assert finding.incident.failures[0].labels == {"label:app": "web", "namespace-label:team": "a"}


def test_what_is_silenced_costs_no_writing_when_it_is_stated_again(clock: Muted) -> None:
    clock.silence('name="a"')
    clock.say("Pod shop/a", broken(), labels={"app": "web"}, ignore="x")
    clock.keep()
    clock.say("Pod shop/a", broken(), labels={"app": "web"}, ignore="x")
    clock.wait(60)
    assert clock.keep() == 0


MATCHERS = ["name=a", "name=~a|b", "kind=Pod", "severity=critical", "label:app=web", "rule!=fail", "cluster=c"]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(["fail", "config", "heal", "gone", "raise"]),
            st.integers(0, 9),
            st.sampled_from([None, Ref("Node", "n"), Ref("Pod", "a", "shop")]),
            st.sampled_from([{}, {"labels": {"app": "web"}}, {"ignore": "fail"}, {"namespace_ignore": "*"}]),
            st.tuples(st.sampled_from([0.0, 3.0]), st.sampled_from(["once", "twice", "more"])),
        ),
        st.tuples(st.sampled_from(["s1", "s2"]), st.sampled_from(["expire", *MATCHERS]), st.integers(0, 15)),
    ),
    max_size=30,
)


def play(steps: list[Any], *, restart: bool = False, twice: bool = False, **options: Any) -> Muted:
    clock = Muted(**options)
    for step in steps:
        clock.wait(step[2])
        if restart:
            clock.restart()
        for _ in range(1 + twice):
            take(clock, step)
    clock.wait(30)
    return clock


def take(clock: Muted, step: Any) -> None:
    if len(step) == 3:
        key, matcher, seconds = step
        if matcher == "expire":
            clock.expire(key)
        else:
            clock.silence(matcher, key=key, lasts=timedelta(seconds=seconds + 1))
        return
    name, does, _, cause, more, (hold, message) = step
    failing = (broken(does, cause=cause, hold=hold, message=message),) if does in ("fail", "config") else ()
    told: dict[str, Any] = {"root": "Deployment shop/web" if name in "cd" else None, **more}
    clock.say(f"Pod shop/{name}", *failing, gone=does == "gone", broken=("Pod",) if does == "raise" else (), **told)


@given(STEPS, st.sampled_from([0, 7, 120]))
def test_a_restart_at_any_point_changes_nothing(steps: list[Any], keep: int) -> None:
    keep_open = timedelta(seconds=keep)
    assert play(steps, restart=True, keep_open=keep_open).findings == play(steps, keep_open=keep_open).findings


@given(STEPS)
def test_a_repeat_adds_nothing(steps: list[Any]) -> None:
    assert [each.id for each in play(steps, twice=True).findings] == [each.id for each in play(steps).findings]


@given(STEPS, st.sampled_from([0, 7]))
def test_each_incident_opens_once_ends_once_and_is_silenced_all_its_life_or_never(steps: list[Any], keep: int) -> None:
    clock = play(steps, keep_open=timedelta(seconds=keep))
    lives: dict[str, list[Finding]] = {}
    for finding in clock.findings:
        lives.setdefault(finding.incident.id, []).append(finding)
    for life in lives.values():
        transitions = [each.transition for each in life]
        assert transitions[0] == "opened"
        assert "opened" not in transitions[1:]
        assert "resolved" not in transitions[:-1]
        assert len({each.silenced for each in life}) == 1
        assert not (life[0].silenced and life[-1].incident.resolution == "silenced")


@given(STEPS)
def test_in_the_end_what_fails_and_is_not_silenced_is_what_is_told(steps: list[Any]) -> None:
    """By a model that knows no time and no grouping, thirty seconds after the last step, when all silences are over."""
    clock = play(steps)
    clock.told(clock.stage.flush(clock.now))  # changes that follow each other closely wait
    open_: dict[str, set[tuple[str, str]]] = {}
    for finding in clock.findings:
        open_.pop(finding.incident.id, None)
        if finding.transition != "resolved":
            told = {(each.object.name, each.rule) for each in finding.incident.failures}
            open_[f"{finding.incident.id}"] = told if not finding.silenced else set()
    assert set().union(*open_.values()) == set(_failing(steps))


def _failing(steps: list[Any]) -> Iterator[tuple[str, str]]:
    now: dict[str, tuple[set[str], dict[str, Any]]] = {}
    for step in steps:
        if len(step) == 3:
            continue
        name, does, _, _, more, _ = step
        rules, before = now.get(name, (set(), {}))
        if does in ("fail", "config"):
            now[name] = ({does}, more)
        elif does == "raise":
            now[name] = (rules, before)
        else:
            now[name] = (set(), {})
    for name, (rules, more) in now.items():
        for rule in rules:
            if more.get("namespace_ignore") != "*" and more.get("ignore") != rule:
                yield name, rule


def test_a_failure_that_returns_after_its_rule_was_broken_is_silenced_as_before(clock: Muted) -> None:
    crash: Failure = broken()
    clock.silence("label:app=web")
    clock.say("Pod shop/a", crash, labels={"app": "web"})
    assert clock.say("Pod shop/a", broken=("Pod",)) == []
    assert clock.say("Pod shop/a", crash, labels={"app": "web"}) == []
