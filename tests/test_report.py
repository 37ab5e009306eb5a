"""The JSON document of one look at a cluster."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from kubewhy.cli.report import met, report
from kubewhy.records import Failure, Ref, Report, Severity, Version
from kubewhy.runtime.oneshot import Analysis
from tests.golden import golden
from tests.test_correlation import NOW, ref

CREATED = NOW - timedelta(hours=3)


def failing(subject: str, *failures: Failure, root: str | None = None, **more: Any) -> Report:
    name = ref(subject)
    fields: dict[str, Any] = {"cluster": "c", "version": Version(1, 1), "ref": name, "created": CREATED}
    fields |= {"root": ref(root) if root else name, "observed_at": NOW, "failures": failures}
    return Report(**fields | more)


def failure(rule: str, message: str, severity: str = "critical", **more: Any) -> Failure:
    return Failure(rule=rule, severity=Severity(severity), message=message, **more)


def analysis(*reports: Report, skipped: tuple[tuple[str, str], ...] = ()) -> Analysis:
    return Analysis("c", "shop-production", NOW, 42, list(reports), list(skipped))


MISSING = failure(
    "pod-config-missing",
    'secret "db-password" not found',
    title="A Secret or ConfigMap the pod needs is missing",
    since=NOW - timedelta(minutes=12),
    hold=30.0,
    cause=Ref("Secret", "db-password", "shop"),
    container="app",
    reason="CreateContainerConfigError",
    why="The container does not start without it.",
    look="Create it, or correct the reference.",
    docs="https://kubernetes.io/docs/concepts/configuration/secret/",
)
UNAVAILABLE = failure("deployment-unavailable", "0 of 8 replicas are available", title="No replica works", symptom=True)
CRASH = failure(
    "pod-crash-loop",
    "exited with 1, 7 restarts",
    title="A container keeps crashing",
    since=NOW - timedelta(minutes=3),
    until=NOW + timedelta(minutes=10),
    container="worker",
    reason="CrashLoopBackOff",
)
UNREADY = failure("node-not-ready", "the kubelet stopped posting", "warning", title="A node is not ready")
SLOW = failure(
    "pod-not-ready", "not ready", "warning", title="A pod is not ready", since=NOW - timedelta(seconds=20), hold=180
)
AHEAD = failure("tls-expired", "the certificate has ended", since=NOW + timedelta(days=9))
FADED = failure("pod-oom", "out of memory", since=NOW - timedelta(hours=1), until=NOW)

SHOP = analysis(
    *(failing(f"Pod shop/web-{n}", MISSING, root="Deployment shop/web") for n in range(8)),
    failing("Deployment shop/web", UNAVAILABLE),
    failing("Pod shop/worker-1", CRASH, FADED, root="StatefulSet shop/worker"),
    failing("Pod shop/slow", SLOW, AHEAD),
    failing("Node n1", UNREADY),
    failing("Pod shop/fine"),
    skipped=(("nodes", "forbidden"), ("jobs.batch", "forbidden")),
)


def written(what: Analysis, **more: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(report(what, **more)))


def test_the_document_of_a_broken_shop() -> None:
    golden("report.json", msgspec.json.format(msgspec.json.encode(report(SHOP)), indent=2).decode() + "\n")


def test_the_document_of_a_healthy_cluster_has_every_key() -> None:
    assert written(analysis(failing("Pod shop/fine"))) == {
        "schema": "kubewhy.report/v1",
        "cluster": {"id": "c", "name": "shop-production"},
        "observed_at": "2026-03-01T12:00:00Z",
        "summary": {
            "objects": 42,
            "failures": 0,
            "incidents": 0,
            "by_severity": {"info": 0, "warning": 0, "critical": 0},
        },
        "diagnoses": [],
        "incidents": [],
        "pending": [],
        "skipped": [],
    }


def test_without_holds_nothing_is_pending_but_the_future_stays_out() -> None:
    document = written(analysis(failing("Pod shop/slow", SLOW, AHEAD, FADED)), no_hold=True)
    assert document["pending"] == []
    assert [each["rule"] for each in document["diagnoses"][0]["failures"]] == ["pod-not-ready"]


def test_what_is_pending_is_named_under_the_root_it_belongs_to() -> None:
    fresh = msgspec.structs.replace(UNAVAILABLE, since=NOW, hold=60)
    document = written(
        analysis(failing("Pod shop/a", MISSING, root="Deployment shop/web"), failing("Deployment shop/web", fresh))
    )
    (pending,) = document["pending"]
    assert (pending["kind"], pending["root"]["kind"]) == ("Deployment", "Secret")
    assert document["summary"]["failures"] == 1


def test_what_merely_takes_its_time_is_not_pending() -> None:
    starting = failure("pod-start-stuck", "its containers do not start", since=NOW, hold=600, normal_at_first=True)
    assert written(analysis(failing("Pod shop/new", starting)))["pending"] == []
    (diagnosis,) = written(analysis(failing("Pod shop/new", starting)), no_hold=True)["diagnoses"]
    assert diagnosis["name"] == "new"


def test_an_unknown_onset_counts_from_the_creation() -> None:
    held = failure("r", "m", hold=60)
    assert report(analysis(failing("Pod x/old", held))).summary.failures == 1
    assert report(analysis(failing("Pod x/new", held, created=NOW))).summary.failures == 0


def test_an_object_broken_by_two_roots_is_named_under_both() -> None:
    document = report(analysis(failing("Pod shop/a", CRASH, MISSING)))
    assert [(each.name, each.root.kind) for each in document.diagnoses] == [("a", "Secret"), ("a", "Pod")]


def test_the_same_look_gives_the_same_ids_and_a_later_one_too() -> None:
    ids = [each.id for each in report(SHOP).incidents]
    later = Analysis("c", "renamed", NOW + timedelta(minutes=1), 42, list(reversed(SHOP.reports)), [])
    assert [each.id for each in report(later).incidents] == ids
    assert ids != [each.id for each in report(Analysis("other", "", NOW, 1, SHOP.reports, [])).incidents]


@pytest.mark.parametrize(
    ("severity", "reached"),
    [("info", {"info"}), ("warning", {"info", "warning"}), ("critical", {"info", "warning", "critical"})],
)
def test_a_level_is_met_by_an_incident_at_or_above(severity: str, reached: set[str]) -> None:
    document = report(analysis(failing("Pod x/a", failure("r", "m", severity))))
    assert {level for level in ("info", "warning", "critical") if met(document, level)} == reached
    assert not met(report(analysis()), "info")
