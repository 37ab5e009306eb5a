"""What is generated is current, and the schemas fit what is really written."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

from analyzers import ANALYZERS
from analyzers.stage import AnalyzerStage
from infra.metrics import reference as metrics_reference
from infra.pictures import draw_all
from kubewhy import asyncapi
from kubewhy.cli.main import cli
from kubewhy.cli.report import report
from kubewhy.cli.rules import markdown, reference
from kubewhy.records import Answer as ModelAnswer
from kubewhy.records import (
    Claim,
    DeadLetter,
    Evidence,
    Explanation,
    Finding,
    Heartbeat,
    Inventory,
    Ref,
    Report,
    Severity,
    Silence,
    SilenceChange,
    Version,
    encode,
)
from kubewhy.runtime.oneshot import Analysis
from kubewhy.schemas import DOCUMENTS, render
from tests.conformance.cases import load
from tests.test_answer import ask
from tests.views import told, view

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD = Ref("Pod", "web", "shop")


def records() -> Iterator[msgspec.Struct]:
    reports: list[Report] = []
    for analyzer in ANALYZERS:
        for case in load(analyzer):
            yield case.evidence
            reports += AnalyzerStage([analyzer]).feed(case.evidence, NOW)
    yield from reports
    analysis = Analysis("c1", "shop", NOW, len(reports), reports, [("secrets", "forbidden")])
    yield report(analysis)
    yield report(analysis, no_hold=True)
    for each in ("Pod/web-2-a", "Pod/worker", "ReplicaSet/web-2", "Secret/db-password", "Node/n1"):
        yield ask(each, unread=["StorageClass"])
    yield Evidence(cluster="c1", version=Version(1, 2), ref=POD, observed_at=NOW)
    yield Inventory(
        cluster="c1", version=Version(1, 2), kind="Pod", group="", namespaces=(), low=0, high=2**64, hashes=(1, 2)
    )
    yield Heartbeat(cluster="c1", version=Version(1, 2), observed_at=NOW)
    failure = told(POD, "pod-unschedulable", "no node", since=NOW, cause=Ref("Node", "n1"))
    incident = view(failure, title="web cannot start", severity=Severity.CRITICAL)
    yield Finding(id="f1", transition="opened", at=NOW, revision=1, incident=incident)
    yield SilenceChange(id="s1", silence=Silence(id="s1", matchers=('name="web"',), ends_at=NOW, comment="known"))
    yield SilenceChange(id="s1")
    explanation = Explanation(
        cause="no node is large enough",
        why="the shop is closed",
        fix=("add a node",),
        verify=("kubectl get nodes",),
        confidence="high",
        language="English",
        backend="bedrock",
        model="some",
        input_tokens=500,
        output_tokens=100,
        cost=0.001,
        cached=False,
    )
    yield Finding(id="f2", transition="explained", at=NOW, revision=2, incident=incident, explanation=explanation)
    yield ModelAnswer(cluster="c1", incident="i1", asked="d1", explanation=explanation)
    yield ModelAnswer(cluster="c1", incident="i1", asked="d1")
    yield Claim(cluster="c1", member="host/7", at=NOW)
    yield DeadLetter(stage="analyzer", reason="it is empty", topic="kubewhy.evidence.v1", partition=3, offset=7, at=NOW)
    yield DeadLetter(
        stage="sink/slack",
        reason="no record",
        topic="kubewhy.findings.v1",
        partition=3,
        offset=7,
        at=NOW,
        key=b"i1",
        value=b"\xff\x00",
        headers=(("ce_id", b"f1"),),
    )


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema: dict[str, Any] = json.loads((REFERENCE / "schemas" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_rule_reference_is_current() -> None:
    committed = (REFERENCE / "rules.md").read_text()
    assert committed == markdown(reference(ANALYZERS)) + "\n", "run `make docs`"


def test_the_schemas_are_current() -> None:
    committed = {path.name: path.read_text() for path in (REFERENCE / "schemas").iterdir()}
    assert committed == render(), "run `make docs`"


def test_the_reference_of_metrics_is_current() -> None:
    assert (REFERENCE / "metrics.md").read_text() == metrics_reference(), "run `make docs`"


def test_the_asyncapi_document_is_current() -> None:
    assert (REFERENCE / "asyncapi.yaml").read_text(encoding="utf-8") == asyncapi.render(), "run `make docs`"


def test_the_schemas_are_the_same_each_time() -> None:
    assert render() == render()


def test_every_record_that_is_written_fits_its_schema() -> None:
    seen = set()
    validators = {record: validator(name) for name, record in DOCUMENTS.items()}
    for record in records():
        validators[type(record)].validate(json.loads(encode(record)))
        seen.add(type(record))
    assert seen == set(DOCUMENTS.values())


@pytest.mark.parametrize("change", [{"cluster": 7}, {"surprise": True}, {"type": "report"}, {"version": [1]}])
def test_what_is_no_evidence_does_not_fit(change: dict[str, Any]) -> None:
    told = json.loads(encode(Evidence(cluster="c1", version=Version(1, 2), ref=POD, observed_at=NOW)))
    with pytest.raises(jsonschema.ValidationError):
        validator("evidence").validate({**told, **change})


def test_the_readme_shows_what_is_really_printed() -> None:
    readme = (REFERENCE.parent.parent / "README.md").read_text()
    shown = CliRunner().invoke(cli, ["rules", "replicaset"]).output
    assert "\n".join(f"    {line}" for line in ("$ kubewhy rules replicaset", *shown.splitlines())) in readme


def test_every_link_between_our_documents_leads_somewhere() -> None:
    root = REFERENCE.parent.parent
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_pictures_are_current() -> None:
    folder = REFERENCE.parent / "pictures"
    drawn = draw_all()
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == drawn, "run make docs"
    assert all("OPENED" in each or "critical" in each.lower() for each in drawn.values())
