"""Nothing private is left of what any rule says, and of what it was judged by: the case files, with names planted."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from analyzers import ANALYZERS
from analyzers.stage import AnalyzerStage
from explainer.incidents import Incidents
from explainer.masking import Masker, Name
from explainer.masking.incident import of_refs, told
from explainer.prompts import ask
from explainer.wanting import SETTLED, Subject
from kubewhy.kube.core import Event
from kubewhy.kube.naming import names
from kubewhy.records import Attached, Evidence, Failure, Logged, Ref, Report, encode
from tests import views
from tests.conformance.cases import NOW, Case, load

CASES = [case for analyzer in ANALYZERS for case in load(analyzer)]

# What the case files call things, and names that would be recognised anywhere.
RENAMED = {
    "web": "zebrafish",
    "shop": "quokkaland",
    "n1": "wombat7",
    "n2": "wombat8",
    "data": "pangolins",
    "app": "okapi5",
    "fast": "axolotls",
    "db": "narwhal",
}
PLANTED = {
    "host": "db7.internal.platypus-corp.com",
    "address": "10.77.66.55",
    "token": "ghp_" + "pLaT1yPuS" * 4,
    "uid": "deadbeef-1234-4abc-8def-0123456789ab",
    "password": "hunter2platypus",
    "mail": "platypus@example.org",
}
SAID = (
    "dial tcp {address}:5432: lookup {host}: https://platypus:{password}@{host}/x?token={password} "
    "password={password} Bearer {token} uid {uid} by {mail}"
).format(**PLANTED)

# What is cut at every place of a secret, as a line of a log is that is too long.
LOGS = tuple(
    Logged(container="app", lines=tuple("." * (number + each) + SAID for each in range(5))) for number in (9, 90)
)


def planted(evidence: Evidence) -> Evidence:
    """The same evidence, with other names, and with private things in whatever was said."""
    swapped: Evidence = msgspec.json.decode(_renamed(encode(evidence)), type=Evidence)
    return msgspec.structs.replace(
        swapped,
        object=_said(swapped.object),
        related=tuple(_with_said(each) for each in swapped.related),
        events=tuple(_event(event) for event in swapped.events),
        logs=LOGS,
    )


def _renamed(body: bytes) -> bytes:
    def other(hit: re.Match[str]) -> str:
        return RENAMED[hit[0]]

    names = "|".join(RENAMED)
    # Only values: keys of the API, as `data` and `app` may be, stay.
    return re.sub(rf"(?<![A-Za-z0-9.])(?:{names})(?![A-Za-z0-9.]|\"\s*:)", other, body.decode()).encode()


def _said(raw: Raw) -> Raw:
    return Raw(msgspec.json.encode(_add(msgspec.json.decode(raw))))


def _with_said(attached: Attached) -> Attached:
    return msgspec.structs.replace(attached, objects=tuple(map(_said, attached.objects)))


def _event(event: Event) -> Event:
    return msgspec.structs.replace(event, message=f"{event.message} {SAID}")


def _add(value: Any) -> Any:
    if isinstance(value, list):
        return [_add(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: f"{each} {SAID}" if key == "message" and isinstance(each, str) else _add(each)
        for key, each in value.items()
    }


def leaks(text: str) -> list[str]:
    """What was planted and can still be read."""
    names = [each for each in RENAMED.values() if re.search(rf"(?<![a-z0-9]){each}", text, re.IGNORECASE)]
    return names + [each for each in (*PLANTED.values(), "platypus") if each.lower() in text.lower()]


def reported(case: Case) -> tuple[Evidence, Report]:
    evidence = planted(case.evidence)
    [report] = AnalyzerStage([case.analyzer]).feed(evidence, NOW)
    return evidence, report


def names_of(report: Report) -> Iterator[Name]:
    yield Name("cluster", report.cluster)
    yield from of_refs([report.ref, report.root])
    yield from of_refs(failure.cause for failure in report.failures if failure.cause)
    yield from (Name("container", failure.container) for failure in report.failures if failure.container)
    yield from (Name("label", value) for value in report.labels.values())


def said_by(failure: Failure) -> str:
    return f"{failure.title}: {failure.message} ({failure.container}, {failure.reason}, {failure.cause})"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_nothing_planted_is_left_of_evidence_and_of_what_the_rules_say(case: Case) -> None:
    evidence, report = reported(case)
    whole = encode(evidence).decode()
    masker = Masker(b"key", [*names_of(report), *names(msgspec.json.decode(encode(evidence)))])
    for text in (whole, *map(said_by, report.failures)):
        masked = masker.mask(text)
        assert not leaks(masked)
        assert masker.restore(masked) == text


def subjects(report: Report) -> Iterator[Subject]:
    """The incidents that this comes to, as a model is asked about them."""
    at_once = (msgspec.structs.replace(each, hold=0.0, since=None, until=None) for each in report.failures)
    incidents = Incidents(explain=True)
    list(incidents.feed(msgspec.structs.replace(report, failures=tuple(at_once)), NOW))
    yield from (each.look() for each in incidents.wanted(NOW + SETTLED))


@pytest.mark.parametrize("case", [case for case in CASES if case.expect], ids=lambda case: case.id)
def test_nothing_planted_is_left_of_what_a_model_is_asked(case: Case) -> None:
    found = list(subjects(reported(case)[1]))
    assert found
    for subject in found:
        masker = Masker(b"key", (*told(subject.incident), *subject.names))
        prompt = ask(subject.incident, masker.mask, "English", lambda: "abcdefgh12").prompt
        assert not leaks(prompt.user), prompt.user
        # A token is three bytes at least, in English and in placeholders.
        assert len((prompt.system + prompt.user).encode()) / 3 <= 2000


@pytest.mark.parametrize("ahead", range(0, 200, 3))
def test_nothing_planted_is_left_of_log_lines_wherever_they_are_cut(ahead: int) -> None:
    case = next(each for each in CASES if each.expect and each.evidence.ref.kind == "Pod")
    line = "x" * ahead + " " + SAID
    evidence = msgspec.structs.replace(planted(case.evidence), logs=(Logged(container="app", lines=(line,)),))
    [report] = AnalyzerStage([case.analyzer]).feed(evidence, NOW)
    assert [each for each in report.seen if each.startswith("log of container app: ")]
    for subject in subjects(report):
        masker = Masker(b"key", (*told(subject.incident), *subject.names))
        assert not leaks(ask(subject.incident, masker.mask, "English", lambda: "abcdefgh12").prompt.user)


def test_log_lines_are_asked_about() -> None:
    """Else the test above would look at nothing."""
    case = next(each for each in CASES if each.expect and each.evidence.ref.kind == "Pod")
    logs = (Logged(container="app", lines=("no pool for zebrafish",)),)
    [report] = AnalyzerStage([case.analyzer]).feed(msgspec.structs.replace(planted(case.evidence), logs=logs), NOW)
    assert all(
        "no pool for" in ask(each.incident, str, "English", lambda: "abcdefgh12").told for each in subjects(report)
    )


def test_the_planted_evidence_leads_to_the_same_failures() -> None:
    """Else the tests above would look at nothing."""
    expected, planted_ones = 0, 0
    for case in CASES:
        [before] = AnalyzerStage([case.analyzer]).feed(case.evidence, NOW)
        _, after = reported(case)
        expected += len(before.failures)
        planted_ones += len(after.failures)
    assert expected > 200
    assert planted_ones >= expected * 0.95


def test_the_evidence_does_hold_what_was_planted() -> None:
    seen = "".join(encode(planted(case.evidence)).decode() for case in CASES)
    assert all(each in seen for each in (*RENAMED.values(), *PLANTED.values()))
    said = "".join(said_by(failure) for case in CASES for failure in reported(case)[1].failures)
    assert {"zebrafish", "quokkaland", "wombat7", "narwhal"} <= set(leaks(said))
    assert PLANTED["address"] in said


def test_an_incident_brings_its_names() -> None:
    pod, node = Ref("Pod", "cart-0", "blue"), Ref("Node", "n1")
    failure = views.told(pod, cause=node, labels={"team": "payments"})
    view = views.view(failure, cluster="c1", root=Ref("StatefulSet", "cart", "blue", "apps"))
    assert set(told(view)) == {
        Name("cluster", "c1"),
        Name("StatefulSet", "cart"),
        Name("namespace", "blue"),
        Name("Pod", "cart-0"),
        Name("Node", "n1"),
        Name("label", "payments"),
    }


def test_what_objects_name_is_found_by_its_field() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "cart-0", "namespace": "blue", "labels": {"team": "payments"}},
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": "robot",
            "containers": [{"name": "cart", "image": "reg.acme.com/cart:1", "ports": [{"name": "http"}]}],
            "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "orders"}}],
            "imagePullSecrets": [{"name": "login"}],
        },
        "status": {"podIP": "10.1.2.3", "conditions": [{"type": "Ready"}]},
    }
    assert set(names(pod)) == {
        Name("Pod", "cart-0"),
        Name("namespace", "blue"),
        Name("label", "payments"),
        Name("node", "n1"),
        Name("serviceaccount", "robot"),
        Name("container", "cart"),
        Name("image", "reg.acme.com/cart:1"),
        Name("volume", "disk"),
        Name("claim", "orders"),
        Name("secret", "login"),
        Name("ip", "10.1.2.3"),
    }
