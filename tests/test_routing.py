"""Which sinks are told what."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.digests import is_digest
from kubewhy.contracts import Letter
from kubewhy.errors import ConfigError
from kubewhy.records import Finding, Ref, Severity, Told
from kubewhy.runtime.routing import ROUTED, Router
from kubewhy.runtime.state import MemoryState
from kubewhy.settings import Settings, load
from tests.delivered import Kept
from tests.views import told, view

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SINKS: list[dict[str, Any]] = [
    {"type": "stdout", "name": "pager"},
    {"type": "stdout", "name": "team"},
    {"type": "stdout", "name": "archive", "silenced": True},
]


def settings(*routes: dict[str, Any]) -> Settings:
    return Settings.model_validate({"sinks": SINKS, "routes": routes})


def failure(name: str, severity: str = "warning", namespace: str = "shop", **labels: str) -> Told:
    return told(Ref("Pod", name, namespace), severity=Severity(severity), labels=labels)


def finding(transition: str, *failures: Told, key: str = "i1", silenced: bool = False) -> Finding:
    state = "resolved" if transition == "resolved" else "open"
    incident = view(*failures, id=key, state=state, members=(), opened_at=NOW, silenced=silenced)
    return Finding(id=f"{key} {transition}", transition=transition, at=NOW, revision=1, incident=incident)


CRITICAL = {"severity": "critical", "sinks": ["pager"]}
SHOP = {"matchers": ["namespace=shop"], "sinks": ["team"]}


def test_without_routes_all_sinks_are_told_and_nothing_is_remembered() -> None:
    router = Router(settings())
    assert router.sinks(finding("opened", failure("a"))) == ["pager", "team", "archive"]
    assert router.rows() == {}


@pytest.mark.parametrize(
    ("told", "sinks"),
    [
        ([failure("a")], ["team", "archive"]),
        ([failure("a", "critical")], ["pager", "team", "archive"]),
        ([failure("a", "critical", "bank")], ["pager", "archive"]),
        ([failure("a", "info", "bank")], ["archive"]),
        ([failure("a", "info", "bank"), failure("b", "critical")], ["pager", "team", "archive"]),
        ([failure("a", "critical", "bank"), failure("b", "info")], ["pager", "team", "archive"]),
    ],
)
def test_every_route_that_fits_delivers_and_a_sink_without_one_gets_everything(
    told: list[Told], sinks: list[str]
) -> None:
    assert Router(settings(CRITICAL, SHOP)).sinks(finding("opened", *told)) == sinks
    assert Router(settings(SHOP, CRITICAL)).sinks(finding("opened", *told)) == sinks


def test_one_failure_has_to_fit_in_all_respects() -> None:
    router = Router(settings({"matchers": ["namespace=shop", "name=~a.*"], "severity": "critical", "sinks": ["pager"]}))
    partly = (failure("abc", "warning"), failure("abc", "critical", "bank"), failure("b", "critical"))
    assert "pager" not in router.sinks(finding("opened", *partly))
    assert "pager" in router.sinks(finding("updated", *partly, failure("abc", "critical")))


def test_a_route_may_go_by_labels() -> None:
    route = {"matchers": ["label:app=web", "namespace-label:team=~a|b", "kind=Pod"], "sinks": ["pager"]}
    router = Router(settings(route))
    assert router.labels == {"label:app", "namespace-label:team"}
    fits = {"label:app": "web", "namespace-label:team": "b"}
    assert "pager" in router.sinks(finding("opened", failure("a", **fits)))
    assert "pager" not in router.sinks(finding("opened", failure("a", **fits | {"label:app": "db"}), key="i2"))
    assert "pager" not in router.sinks(finding("opened", failure("a"), key="i3"))


def test_who_was_told_of_an_incident_is_told_to_its_end() -> None:
    router = Router(settings(CRITICAL))
    router.sinks(finding("opened", failure("a", "critical")))
    assert "pager" in router.sinks(finding("updated", failure("b")))
    assert "pager" in router.sinks(finding("resolved", failure("b")))


def test_who_was_not_told_of_an_incident_is_not_told_of_its_end() -> None:
    router = Router(settings(CRITICAL))
    router.sinks(finding("opened", failure("a")))
    assert "pager" not in router.sinks(finding("resolved", failure("a", "critical")))


def test_a_finding_that_is_sent_once_more_goes_where_it_went() -> None:
    router = Router(settings(CRITICAL))
    router.sinks(finding("opened", failure("a", "critical")))
    for _ in range(2):
        assert "pager" in router.sinks(finding("resolved", failure("a")))


def test_what_is_silenced_goes_to_archives_only() -> None:
    assert Router(settings()).sinks(finding("opened", failure("a"), silenced=True)) == ["archive"]
    route = {"severity": "critical", "sinks": ["pager", "archive"]}
    assert Router(settings(route)).sinks(finding("opened", failure("a"), silenced=True)) == []


def test_a_row_that_is_none_is_as_good_as_none() -> None:
    state = MemoryState()
    state.write({f"{ROUTED}i1": b"odd", f"{ROUTED}i2": b'["pager"]', f"{ROUTED}i3": b'["sold"]'})
    router = Router(settings(CRITICAL))
    router.restore(state)
    assert router.sinks(finding("resolved", failure("a"))) == ["team", "archive"]
    assert router.sinks(finding("resolved", failure("a"), key="i2")) == ["pager", "team", "archive"]
    assert router.sinks(finding("resolved", failure("a"), key="i3")) == ["team", "archive"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["i1", "i2"]),
        st.sampled_from(["told", "resolved"]),
        st.lists(st.sampled_from([failure("a"), failure("b", "critical"), failure("c", "info", "bank")]), min_size=1),
    ),
    max_size=20,
)


def play(steps: list[Any], *, restart: bool) -> list[tuple[str, str, list[str]]]:
    """Each life of an incident has an id of its own, as the fold gives it."""
    state, router = MemoryState(), Router(settings(CRITICAL, SHOP))
    lives: dict[str, int] = {}
    begun: set[str] = set()
    told = []
    for name, does, failures in steps:
        key = f"{name} {lives.setdefault(name, 0)}"
        if does == "resolved" and key not in begun:
            continue
        transition = "resolved" if does == "resolved" else "updated" if key in begun else "opened"
        begun.add(key)
        lives[name] += does == "resolved"
        told.append((key, transition, router.sinks(finding(transition, *failures, key=key))))
        state.write(router.rows())
        if restart:
            router = Router(settings(CRITICAL, SHOP))
            router.restore(state)
    still = {f"{ROUTED}{key}" for key in begun if not any(each[:2] == (key, "resolved") for each in told)}
    assert {key for key, _ in state.scan()} == still
    return told


@given(STEPS)
def test_a_restart_at_any_point_changes_nothing(steps: list[Any]) -> None:
    assert play(steps, restart=True) == play(steps, restart=False)


@given(STEPS)
def test_just_those_who_were_told_of_an_incident_are_told_of_its_end(steps: list[Any]) -> None:
    told: dict[str, set[str]] = {}
    for key, transition, sinks in play(steps, restart=False):
        if transition == "resolved":
            assert set(sinks) == told[key]
        else:
            assert told.setdefault(key, set()) <= set(sinks)
            told[key] |= set(sinks)


def post(router: Router, sinks: Mapping[str, Kept], findings: Sequence[Finding]) -> None:
    for one in findings:
        for name, share in router.shares(one):
            sinks[name].letters.append(Letter(0, share))


def test_each_sink_gets_its_share_in_order() -> None:
    sinks = {name: Kept() for name in ("pager", "team", "archive")}
    findings = [
        finding("opened", failure("a", "critical", "bank"), key="1"),
        finding("opened", failure("a"), key="2"),
        finding("opened", failure("a", "critical"), key="3"),
        finding("opened", failure("a"), key="4", silenced=True),
    ]
    post(Router(settings(CRITICAL, SHOP)), sinks, findings)
    assert sinks["pager"].told == ["1 opened", "3 opened"]
    assert sinks["team"].told == ["2 opened", "3 opened"]
    assert sinks["archive"].told == ["1 opened", "2 opened", "3 opened", "4 opened"]


def many(count: int, severity: str = "warning") -> list[Finding]:
    return [finding("opened", failure("a", severity), key=f"{severity} {number}") for number in range(count)]


def test_only_what_a_sink_is_told_makes_a_storm_of_it() -> None:
    sinks = {name: Kept() for name in ("pager", "team", "archive")}
    told = settings(CRITICAL).model_dump() | {"sinks": [{**each, "digest": True} for each in SINKS[:2]] + SINKS[2:]}
    router = Router(Settings.model_validate(told))
    post(router, sinks, many(30) + many(20, "critical"))
    assert len(sinks["pager"].told) == 20
    assert len(sinks["team"].told) == 50 + 1
    assert len(sinks["archive"].told) == 50
    post(router, sinks, router.tick(NOW + timedelta(seconds=10)))
    assert [len(sink.told) for sink in sinks.values()] == [20, 50 + 2, 50]
    assert len(set(sinks["team"].told)) == 50 + 2


def test_a_digest_of_a_sink_that_has_none_any_more_goes_to_nobody() -> None:
    told = settings().model_dump() | {"sinks": [{**SINKS[0], "digest": True}]}
    router = Router(Settings.model_validate(told))
    heard = [each for one in many(21) for _, each in router.shares(one)]
    (digest,) = [each for each in heard if is_digest(each.incident)]
    assert list(router.shares(digest)) == [("pager", digest)]
    assert list(Router(settings()).shares(digest)) == []


def test_digests_are_for_those_who_ask_for_them() -> None:
    assert not Settings().sinks[0].digest
    assert [dict(Router(Settings()).shares(each)) for each in many(30)] == [{"stdout": each} for each in many(30)]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "kubewhy.yaml"
    path.write_text(text)
    return path


def test_routes_and_silences_are_read(tmp_path: Path) -> None:
    told = load(
        written(
            tmp_path,
            """
            sinks:
              - {type: stdout, name: pager}
              - {type: stdout, silenced: true}
            routes:
              - matchers: [namespace=shop, 'name=~"web-.*"']
                severity: warning
                sinks: [pager, stdout]
            silences:
              - matchers: [kind=Job]
                until: 2099-12-01T08:00:00+01:00
                comment: known
              - matchers: [kind=Job]
                until: "2099-12-01T08:00:00Z"
            """,
        )
    )
    assert [sink.called for sink in told.sinks] == ["pager", "stdout"]
    assert told.routes[0].severity == Severity.WARNING
    assert [each.until.isoformat() for each in told.silences] == [
        "2099-12-01T07:00:00+00:00",
        "2099-12-01T08:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "sinks: [{type: stdout, name: pager}]\nroutes: [{sinks: [pagr]}]",
            r"routes\[0\].sinks\[0\]: there is no sink pagr; did you mean pager\? \(sinks: pager\)",
        ),
        ("routes: [{sinks: [slack]}]", r"there is no sink slack \(sinks: stdout\)"),
        ("sinks: []\nroutes: [{sinks: [slack]}]", r"there is no sink slack \(sinks: none\)"),
        ("routes: [{sinks: []}]", r"routes\[0\].sinks: tuple should have at least 1 item"),
        ("routes: [{matchers: [kind=Pod]}]", r"routes\[0\].sinks: is missing; it has to be given"),
        (
            "routes: [{sinks: [stdout], matchers: [kind=Pod, 'kind=~\"(\"']}]",
            r"routes\[0\].matchers\[1\]: 'kind=~\"\(\"': this is no regular expression \(missing \): \(\) at ",
        ),
        ("routes: [{sinks: [stdout], matchers: [nme=a]}]", r"nothing is called 'nme' at character 1"),
        ("routes: [{sinks: [stdout], severity: bad}]", r"routes\[0\].severity: input should be 'info', 'warning' or"),
        ("routes: [{sinks: [stdout], continue: true}]", r"routes\[0\].continue: unknown key \(known here: matchers, "),
        ("routes: [stdout]", r"routes\[0\]: must hold keys and values \(matchers, severity, sinks\)"),
        ("sinks: [{type: stdout}, {type: stdout}]", r"sinks\[1\].name: there is another sink stdout; give each a name"),
        ("sinks: [{type: stdout, silence: true}]", r"sinks\[0\].silence: unknown key; did you mean silenced\?"),
        (
            "sinks: [{type: stdout, digest: sometimes}]",
            r"sinks\[0\].digest: input should be a valid boolean, unable to interpret input; mend it or leave it out",
        ),
        ("sinks: [{type: stdout, digests: true}]", r"sinks\[0\].digests: unknown key; did you mean digest\?"),
        ("silences: [{until: 2099-01-01T00:00:00Z}]", r"silences\[0\].matchers: is missing"),
        ("silences: [{matchers: [kind=Pod]}]", r"silences\[0\].until: is missing"),
        (
            "silences: [{matchers: [], until: 2099-01-01T00:00:00Z}]",
            r"silences\[0\]: these matchers match everything; name what is to be silenced",
        ),
        ("silences: [{matchers: [kind=Pod], until: 2099-01-01 08:00}]", r"silences\[0\].until: .* has no time zone"),
        ("silences: [{matchers: [kind=Pod], until: 2099-01-01}]", r"silences\[0\].until: .* has no time zone"),
        ("silences: [{matchers: [kind=Pod], until: 5}]", r"silences\[0\].until: '5' is no time; write 2026-12-01T"),
        ("silences: [{matchers: [kind], until: 2099-01-01T00:00:00Z}]", r"matchers\[0\]: 'kind': an operator is miss"),
        ("silences: [{matcher: [kind=Pod]}]", r"silences\[0\].matcher: unknown key; did you mean matchers\?"),
    ],
)
def test_a_fault_names_file_key_and_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(written(tmp_path, text))
    assert "kubewhy.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_silence_that_is_over_is_said_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, "silences: [{matchers: [kind=Pod], until: 2020-01-01T00:00:00Z}]")
    with caplog.at_level(logging.WARNING):
        assert load(path).silences
    (record,) = caplog.records
    assert "kubewhy.yaml: silences[0].until: 2020-01-01T00:00:00+00:00 is in the past; remove" in record.getMessage()
