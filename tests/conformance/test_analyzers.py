"""What every analyzer passes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

import analyzers
from analyzers import ANALYZERS
from analyzers.stage import AnalyzerStage
from kubewhy.contracts import Analyzer
from kubewhy.kube import KINDS
from kubewhy.records import ABSENT, Attached, Evidence, Report, encode
from tests.conformance.cases import FOLDER, NOW, Case, file_of, load, told

CASES = [case for analyzer in ANALYZERS for case in load(analyzer)]
each_analyzer = pytest.mark.parametrize("analyzer", ANALYZERS, ids=lambda analyzer: analyzer.name)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def judge(case: Case, evidence: Evidence) -> Report:
    (report,) = AnalyzerStage([case.analyzer]).feed(evidence, NOW)
    return report


@each_case
def test_a_case_gives_just_the_failures_it_expects(case: Case) -> None:
    report = judge(case, case.evidence)
    assert not report.broken
    failures = sorted(report.failures, key=lambda failure: (failure.rule, failure.container, failure.message))
    expected = sorted(case.expect, key=lambda each: (each["rule"], each.get("container", ""), each.get("message", "")))
    assert [failure.rule for failure in failures] == [each["rule"] for each in expected]
    assert [told(failure, each) for failure, each in zip(failures, expected, strict=True)] == expected


def test_every_module_is_listed() -> None:
    modules = {path.name.removesuffix(".cases.yaml") for path in Path(FOLDER).glob("*.cases.yaml")}
    listed = {file_of(analyzer).name.removesuffix(".cases.yaml") for analyzer in ANALYZERS}
    others = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "stage"}
    assert modules == listed
    assert others >= listed
    for module in others - listed:
        assert not (FOLDER / f"{module}.py").read_text().count("ANALYZER ="), f"{module} is not listed"


@each_analyzer
def test_every_rule_says_why_it_matters_and_what_to_look_at(analyzer: Analyzer[Any]) -> None:
    said = [text for rule in analyzer.rules for text in (rule.why, rule.look)]
    assert len(set(said)) == len(said), "two rules of one kind say the same"
    for text in said:
        assert 30 < len(text) <= 160
        assert text == text.strip()
        assert text[0].isupper()
        assert text[-1] in ".?"
        assert text.isascii()


@each_analyzer
def test_every_rule_has_a_positive_and_a_tempting_case(analyzer: Analyzer[Any]) -> None:
    cases = [case for case in CASES if case.analyzer is analyzer]
    fired = {each["rule"] for case in cases for each in case.expect}
    resisted = {rule for case in cases for rule in case.tempts if rule not in {each["rule"] for each in case.expect}}
    rules = {rule.id for rule in analyzer.rules}
    assert fired == rules, f"without a positive case: {rules - fired}"
    assert resisted == rules, f"without a case that tempts: {rules - resisted}; unknown: {resisted - rules}"
    assert any(not case.expect and not case.tempts for case in cases), "no healthy case"


def test_rule_ids_are_unique_and_say_their_kind() -> None:
    ids = [rule.id for analyzer in ANALYZERS for rule in analyzer.rules]
    assert len(ids) == len(set(ids))
    for analyzer in ANALYZERS:
        prefixes = {rule.id.partition("-")[0] for rule in analyzer.rules}
        assert len(prefixes) == 1, f"{analyzer.name}: one prefix for all its rules, not {prefixes}"
        for rule in analyzer.rules:
            assert rule.docs.startswith("https://"), f"{rule.id} has no documentation link"


@each_analyzer
def test_every_view_is_of_a_kind_that_the_collector_keeps(analyzer: Analyzer[Any]) -> None:
    kept = {kind.resource for kind in KINDS}
    for view in (analyzer.reads, *(need.view for need in analyzer.needs)):
        assert view.resource in kept


@each_case
def test_evidence_is_not_changed_and_the_answer_is_the_same_twice(case: Case) -> None:
    before = encode(case.evidence)
    first = judge(case, case.evidence)
    assert encode(case.evidence) == before
    again = msgspec.json.decode(before, type=Evidence)
    assert encode(judge(case, again)) == encode(first)


@each_case
def test_what_silences_and_routes_go_by_comes_with_what_fails_and_changes_nothing(case: Case) -> None:
    meta = {"name": "shop", "labels": {"team": "a"}, "annotations": {"kubewhy.dev/ignore": "*"}}
    namespace = Attached(view="Namespace", objects=(Raw(msgspec.json.encode({"metadata": meta})),), count=1)
    related = (*case.evidence.related, namespace)
    report = judge(case, msgspec.structs.replace(case.evidence, related=related))
    assert report.failures == judge(case, case.evidence).failures
    own = msgspec.json.decode(case.evidence.object)["metadata"].get("labels", {})
    told = (report.labels, report.namespace_labels, report.namespace_ignore)
    assert told == ((own, {"team": "a"}, "*") if report.failures else ({}, {}, ""))


@each_case
def test_a_deleted_object_has_no_failures(case: Case) -> None:
    report = judge(case, msgspec.structs.replace(case.evidence, object=ABSENT, related=()))
    assert report.gone
    assert not report.failures


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_partial_object_never_raises(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    subject = _thinned(data, msgspec.json.decode(case.evidence.object))
    subject.setdefault("metadata", {})
    related = tuple(
        msgspec.structs.replace(
            each,
            known=data.draw(st.booleans()),
            objects=tuple(Raw(msgspec.json.encode(_thinned(data, msgspec.json.decode(raw)))) for raw in each.objects),
        )
        for each in case.evidence.related
    )
    evidence = msgspec.structs.replace(
        case.evidence,
        object=Raw(msgspec.json.encode(subject)),
        related=data.draw(st.sampled_from([related, ()])),
        events=data.draw(st.sampled_from([case.evidence.events, ()])),
        root=data.draw(st.sampled_from([case.evidence.root, None])),
    )
    assert not judge(case, evidence).broken


def _thinned(data: st.DataObject, value: Any) -> Any:
    """The same JSON with some keys and items left out."""
    if isinstance(value, dict):
        return {key: _thinned(data, each) for key, each in value.items() if data.draw(st.integers(0, 9)) > 0}
    if isinstance(value, list):
        return [_thinned(data, each) for each in value if data.draw(st.integers(0, 9)) > 0]
    return value


def test_analyzers_of_installed_packages_are_found() -> None:
    assert analyzers.enabled()[: len(ANALYZERS)] == ANALYZERS
