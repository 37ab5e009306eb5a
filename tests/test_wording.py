"""Incidents in their rules' own words."""

from typing import Any

import msgspec
import pytest

from analyzers import ANALYZERS
from analyzers.stage import AnalyzerStage
from explainer.digests import WORDS as DIGEST
from explainer.incidents import Incidents
from explainer.readonly import allowed
from explainer.wording import LINES, Wording, wording
from kubewhy.records import Heartbeat, IncidentView, Ref, Told, Version, Words
from tests import views
from tests.conformance.cases import NOW, Case, load
from tests.test_incidents import Clock, broken
from tests.test_text import ATTACKS

BROKEN = [case for analyzer in ANALYZERS for case in load(analyzer) if case.expect]


def incidents(case: Case) -> list[IncidentView]:
    """As they open once the case's failures count."""
    (report,) = AnalyzerStage([case.analyzer]).feed(case.evidence, NOW)
    failures = tuple(
        msgspec.structs.replace(failure, hold=0.0, since=None, until=None, normal_at_first=False)
        for failure in report.failures
    )
    findings = Incidents().feed(msgspec.structs.replace(report, failures=failures), NOW)
    return [each.incident for each in findings if each.transition == "opened"]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_every_incident_has_words_and_commands_that_only_look(case: Case) -> None:
    opened = incidents(case)
    assert opened
    rules = {rule.id: rule for rule in case.analyzer.rules}
    for incident in opened:
        words = wording(incident)
        assert all(0 < len(part.split("\n")) <= LINES and "" not in part.split("\n") for part in words)
        assert words.what.startswith(f"{incident.failures[0].object}: ")
        lead = rules[incident.words[0].rule]
        assert words.why.split("\n")[0] == lead.why
        assert words.look == lead.look
        assert incident.title.startswith(lead.title)
        assert all(allowed(command) for command in incident.commands)


def view(*failures: Told, **more: Any) -> IncidentView:
    return views.view(*failures, **{"title": "No replica is available: Deployment shop/web", **more})


def told(name: str, message: str) -> Told:
    return views.told(Ref("Pod", name, "shop"), "r", message)


def test_replicas_that_fail_alike_are_one_line_and_the_rest_is_counted() -> None:
    replicas = [told(f"web-{number}", "it crashes") for number in range(100)]
    others = [told(f"db-{number}", f"it is broken in way {number}") for number in range(9)]
    assert wording(view(*replicas, *others)).what.split("\n") == [
        "Pod shop/web-0 and 99 more: it crashes",
        "Pod shop/db-0: it is broken in way 0",
        "Pod shop/db-1: it is broken in way 1",
        "Pod shop/db-2: it is broken in way 2",
        "and 6 more",
    ]
    assert wording(view(*others[:LINES])).what.count("\n") == LINES - 1


def test_what_echoes_says_why_it_matters_but_not_what_to_do() -> None:
    crash = Words(rule="crash", title="t", why="It does no work.", look="Read its log.", docs="")
    echo = Words(rule="unready", title="t", why="It gets no requests.", look="Look at its pods.", docs="")
    alike = msgspec.structs.replace(echo, rule="unavailable")
    words = wording(view(told("a", "it crashes"), words=(crash, echo, alike), commands=("kubectl get nodes",)))
    assert words == Wording(
        what="Pod shop/a: it crashes",
        why="It does no work.\nIt gets no requests.",
        look="Read its log.",
        commands="kubectl get nodes",
    )


def test_an_incident_of_which_no_failure_is_left_says_its_title() -> None:
    assert wording(view()).what == "No replica is available: Deployment shop/web"


@pytest.mark.parametrize("attack", [each for each, _ in ATTACKS])
def test_text_of_the_cluster_stays_on_its_line(attack: str) -> None:
    what = wording(view(told("a", f"{attack}\nkubectl delete ns shop"))).what
    assert len(what.splitlines()) == 1
    assert what.replace("\n", "").isprintable()


def test_a_long_message_is_cut() -> None:
    assert len(wording(view(told("a", "word " * 1000))).what) <= 300


def test_a_silent_cluster_and_a_digest_have_words_too(clock: Clock) -> None:
    clock.feed(Heartbeat(cluster="c", version=Version(1, 1), observed_at=clock.server))
    clock.say("Pod shop/a", broken(why="w", look="l"))
    clock.wait(90)
    (silent,) = (each.incident for each in clock.findings if each.incident.root.kind == "Cluster")
    words = wording(silent)
    assert all(words)
    assert all(allowed(command) for command in silent.commands)
    assert all((DIGEST.title, DIGEST.why, DIGEST.look))


@pytest.fixture
def clock() -> Clock:
    return Clock()
