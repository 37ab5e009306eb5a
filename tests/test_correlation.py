"""Which failures belong together, and what they are called."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from explainer.correlation import Held, correlate, fingerprint, opens_at
from kubewhy.records import Failure, Ref, Report, Severity, Version

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def ref(text: str) -> Ref:
    """`Pod shop/web` or `Node a`."""
    kind, _, path = text.partition(" ")
    namespace, slash, name = path.rpartition("/")
    return Ref(kind, name, namespace if slash else None)


def held(subject: str, rule: str, root: str | None = None, cause: str | None = None, **more: Any) -> Held:
    failure = Failure(
        **{
            "rule": rule,
            "severity": CRITICAL,
            "message": f"{rule} of {subject}",
            "title": rule.capitalize(),
            "cause": ref(cause) if cause else None,
            "since": NOW,
            **more,
        }
    )
    name = ref(subject)
    report = Report(
        cluster="c",
        version=Version(1, 1),
        ref=name,
        root=ref(root) if root else name,
        observed_at=NOW,
        failures=(failure,),
    )
    return report, failure


def roots(failures: list[Held]) -> list[str]:
    return [str(group.root) for group in correlate("c", failures)]


def test_a_missing_secret_takes_pods_deployment_and_service_with_it() -> None:
    failures = [
        *(held(f"Pod shop/web-{n}", "config", "Deployment shop/web", "Secret shop/password") for n in range(3)),
        held("Deployment shop/web", "unavailable", symptom=True),
        held("Service shop/web", "no-endpoints", cause="Deployment shop/web", symptom=True),
    ]
    (group,) = correlate("c", failures)
    assert str(group.root) == "Secret shop/password"
    assert group.title == "Config: Secret shop/password"
    assert len(group.members) == 5


def test_a_lost_node_with_many_pods_is_one_group() -> None:
    failures = [held("Node a", "not-ready")]
    for n in range(500):
        failures.append(held(f"Pod shop/p{n}", "lost", f"Deployment shop/d{n % 50}", "Node a"))
    failures += [held(f"Deployment shop/d{n}", "unavailable", symptom=True) for n in range(50)]
    (group,) = correlate("c", failures)
    assert str(group.root) == "Node a"
    assert group.title == "Not-ready: Node a"
    assert len(group.members) == 551


def test_two_unrelated_faults_in_one_namespace_stay_apart() -> None:
    failures = [held("Pod shop/a-1", "crash", "Deployment shop/a"), held("Pod shop/b-1", "crash", "Deployment shop/b")]
    assert roots(failures) == ["Deployment shop/a", "Deployment shop/b"]


def test_a_quota_that_blocks_three_deployments_is_one_group() -> None:
    quota = "ResourceQuota shop/small"
    failures = [held(f"ReplicaSet shop/{n}-1", "refused", f"Deployment shop/{n}", quota) for n in "abc"]
    failures += [held(f"Deployment shop/{n}", "unavailable", symptom=True) for n in "abc"]
    assert roots(failures) == [quota]


def test_a_workload_with_a_fault_of_its_own_is_not_absorbed() -> None:
    failures = [
        held("Pod shop/a-1", "crash", "Deployment shop/a"),
        held("Pod shop/a-2", "lost", "Deployment shop/a", "Node n"),
        held("Deployment shop/a", "unavailable", symptom=True),
        held("Service shop/a", "no-endpoints", cause="Deployment shop/a", symptom=True),
    ]
    groups = correlate("c", failures)
    assert {str(group.root): len(group.members) for group in groups} == {"Deployment shop/a": 3, "Node n": 1}


def test_a_pod_with_two_faults_is_in_two_groups() -> None:
    failures = [held("Pod shop/a", "crash"), held("Pod shop/a", "config", cause="Secret shop/s", container="x")]
    assert roots(failures) == ["Pod shop/a", "Secret shop/s"]


def test_a_bare_pods_symptoms_follow_its_cause() -> None:
    failures = [held("Pod shop/a", "not-ready", symptom=True), held("Pod shop/a", "config", cause="Secret shop/s")]
    assert roots(failures) == ["Secret shop/s"]


def test_a_cause_is_walked_to_the_furthest() -> None:
    failures = [
        held("Pod shop/db-0", "unscheduled", "StatefulSet shop/db", "PersistentVolumeClaim shop/data"),
        held("PersistentVolumeClaim shop/data", "no-class", cause="StorageClass fast"),
    ]
    assert roots(failures) == ["StorageClass fast"]


def test_a_cause_that_is_a_failing_pod_leads_to_its_workload() -> None:
    failures = [
        held("Pod shop/a-1", "crash", "StatefulSet shop/a"),
        held("Service shop/a", "down", cause="Pod shop/a-1"),
    ]
    assert roots(failures) == ["StatefulSet shop/a"]


def test_twins_share_the_cause_one_of_them_knows_unless_they_know_their_own() -> None:
    failures = [
        held("Pod shop/a-1", "pull", "Deployment shop/a", "Secret shop/pull"),
        held("Pod shop/a-2", "pull", "Deployment shop/a"),
        held("Pod shop/a-3", "pull", "Deployment shop/a", "Node n"),
        held("Pod shop/a-4", "pull", "Deployment shop/a", "Secret shop/pull"),
    ]
    sizes = {str(group.root): len(group.members) for group in correlate("c", failures)}
    assert sizes == {"Secret shop/pull": 3, "Node n": 1}


def test_causes_in_a_circle_end_at_one_object() -> None:
    failures = [held("A x/a", "r", cause="B x/b"), held("B x/b", "r", cause="C x/c"), held("C x/c", "r", cause="A x/a")]
    assert roots(failures) == ["A x/a"]
    assert roots([held("Pod x/a", "r", cause="Pod x/a")]) == ["Pod x/a"]


def test_the_worst_group_comes_first_then_the_oldest() -> None:
    failures = [
        held("Pod x/warn", "r", severity=WARNING, since=NOW - timedelta(days=1)),
        held("Pod x/new", "r"),
        held("Pod x/unknown", "r", since=None),
        held("Pod x/old", "r", since=NOW - timedelta(hours=1)),
    ]
    assert roots(failures) == ["Pod x/old", "Pod x/new", "Pod x/unknown", "Pod x/warn"]


def test_a_fingerprint_is_the_same_for_every_replica_and_message() -> None:
    one = held("Pod shop/a-1", "crash", "Deployment shop/a", message="exit 1, 3 restarts")
    two = held("Pod shop/a-2", "crash", "Deployment shop/a", message="exit 1, 9 restarts", since=None)
    assert fingerprint("c", *one) == fingerprint("c", *two)
    assert fingerprint("c", *one) != fingerprint("d", *one)


def test_a_hold_counts_from_the_onset_or_else_from_the_creation_or_else_from_first_sight() -> None:
    hour = timedelta(hours=1)
    _, known = held("Pod x/a", "r", hold=60)
    _, unknown = held("Pod x/a", "r", hold=60, since=None)
    assert opens_at(known, NOW - hour, NOW + hour) == NOW + timedelta(minutes=1)
    assert opens_at(unknown, NOW - hour, NOW) == NOW - hour + timedelta(minutes=1)
    assert opens_at(unknown, None, NOW) == NOW + timedelta(minutes=1)


OWNERS = {
    "Pod x/a": "Deployment x/a",
    "Pod x/b": "Pod x/b",
    "Pod x/c": "Node a",
    "Node a": "Node a",
    "Node x/a": "Pod x/a",
}
OBJECTS = [*OWNERS, "Deployment x/a"]
FAILURES = st.builds(
    lambda subject, **more: held(subject, root=OWNERS.get(subject), **more),
    st.sampled_from(OBJECTS),
    rule=st.sampled_from(["r", "s"]),
    cause=st.sampled_from([None, *OBJECTS]),
    symptom=st.booleans(),
    since=st.sampled_from([None, NOW]),
)


@given(st.lists(FAILURES), st.randoms())
def test_each_failure_is_in_one_group_whatever_the_order(failures: list[Held], shuffled: random.Random) -> None:
    groups = correlate("c", failures)
    assert sum(len(group.members) for group in groups) == len(failures)
    assert len({group.root for group in groups}) == len(groups)
    again = list(failures)
    shuffled.shuffle(again)
    assert correlate("c", again) == groups
