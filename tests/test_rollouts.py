"""What is still on its way, kind by kind."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from kubewhy.kube import GROUPS
from kubewhy.records import Attached, Evidence, Ref, Version
from kubewhy.runtime.rollouts import in_flight
from tests.test_answer import NOW, ago


def evidence(kind: str, pods: list[dict[str, Any]] | None = None, **fields: Any) -> Evidence:
    meta = {"name": "web", "namespace": "shop", "generation": 2, **fields.pop("metadata", {})}
    attached = tuple(Raw(msgspec.json.encode(pod)) for pod in pods or ())
    return Evidence(
        cluster="c",
        version=Version(1, 1),
        ref=Ref(kind, "web", "shop", GROUPS[kind]),
        observed_at=NOW,
        object=Raw(msgspec.json.encode({"metadata": meta, **fields})),
        related=(Attached(view="PodState", objects=attached, count=len(attached)),),
    )


def words(kind: str, spec: dict[str, Any], status: dict[str, Any], **more: Any) -> str:
    flight = in_flight(evidence(kind, spec=spec, status={"observedGeneration": 2, **status}, **more))
    return flight.words if flight else ""


UNSEEN = "its controller has not seen its newest change yet"
WHOLE = {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}


@pytest.mark.parametrize(
    ("spec", "status", "awaited"),
    [
        ({"replicas": 3}, WHOLE, ""),
        ({"replicas": 3}, WHOLE | {"observedGeneration": 1}, UNSEEN),
        ({"replicas": 3}, {"observedGeneration": 0}, UNSEEN),
        ({"replicas": 3}, WHOLE | {"updatedReplicas": 1}, "1 of 3 replicas are updated"),
        ({"replicas": 3}, WHOLE | {"replicas": 4}, "1 old replicas are still there"),
        ({"replicas": 3}, WHOLE | {"availableReplicas": 2}, "2 of 3 replicas are available"),
        ({}, {}, "0 of 1 replicas are updated"),
        ({"replicas": 0}, {}, ""),
        ({"replicas": 0}, {"replicas": 2}, "2 old replicas are still there"),
        ({"replicas": 3, "paused": True}, WHOLE | {"updatedReplicas": 1}, ""),
        ({"replicas": 3, "paused": True}, WHOLE | {"observedGeneration": 1}, UNSEEN),
    ],
)
def test_a_deployment(spec: dict[str, Any], status: dict[str, Any], awaited: str) -> None:
    assert words("Deployment", spec, status) == awaited


def test_a_rollout_that_has_missed_its_deadline_is_no_better_for_it() -> None:
    late = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
    assert words("Deployment", {"replicas": 3}, WHOLE | late | {"updatedReplicas": 1}) == "1 of 3 replicas are updated"


ROLLED = WHOLE | {"currentRevision": "b", "updateRevision": "b"}
ROLLING = WHOLE | {"currentRevision": "a", "updateRevision": "b", "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("spec", "status", "awaited"),
    [
        ({"replicas": 3}, ROLLED, ""),
        ({"replicas": 3}, ROLLED | {"observedGeneration": 1}, UNSEEN),
        ({"replicas": 3}, ROLLED | {"availableReplicas": 2}, "2 of 3 replicas are available"),
        ({"replicas": 2}, ROLLED, "1 replicas too many are still there"),
        ({"replicas": 3}, ROLLING, "1 of 3 replicas are updated"),
        ({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}, ROLLING, ""),
        ({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}, ROLLING, ""),
        (
            {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}}},
            ROLLING,
            "1 of 2 replicas are updated",
        ),
        ({"replicas": 0}, {}, ""),
    ],
)
def test_a_stateful_set(spec: dict[str, Any], status: dict[str, Any], awaited: str) -> None:
    assert words("StatefulSet", spec, status) == awaited


EVERYWHERE = {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}
LOST = {
    "metadata": {"name": "logs-1", "namespace": "shop"},
    "spec": {"nodeName": "n1"},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}],
    },
}


@pytest.mark.parametrize(
    ("spec", "status", "awaited"),
    [
        ({}, EVERYWHERE, ""),
        ({}, EVERYWHERE | {"observedGeneration": 1}, UNSEEN),
        ({}, EVERYWHERE | {"updatedNumberScheduled": 1}, "1 of 3 replicas are updated"),
        ({"updateStrategy": {"type": "OnDelete"}}, EVERYWHERE | {"updatedNumberScheduled": 1}, ""),
        ({}, EVERYWHERE | {"numberAvailable": 2}, "2 of 3 replicas are available"),
        ({}, {}, ""),
    ],
)
def test_a_daemon_set(spec: dict[str, Any], status: dict[str, Any], awaited: str) -> None:
    assert words("DaemonSet", spec, status) == awaited


def test_a_daemon_set_does_not_wait_for_a_node_that_is_lost() -> None:
    assert words("DaemonSet", {}, EVERYWHERE | {"numberAvailable": 2}, pods=[LOST]) == ""


def test_a_replica_set_is_awaited_where_it_is_no_deployments() -> None:
    assert words("ReplicaSet", {"replicas": 3}, {"readyReplicas": 1}) == "1 of 3 replicas are ready"
    assert words("ReplicaSet", {"replicas": 3}, {"observedGeneration": 1}) == UNSEEN
    owned = {"ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}]}
    assert words("ReplicaSet", {"replicas": 3}, {"observedGeneration": 1}, metadata=owned) == ""


CRON = {"ownerReferences": [{"kind": "CronJob", "name": "web", "controller": True}]}


@pytest.mark.parametrize(
    ("fields", "awaited"),
    [
        ({}, "it has not ended: 0 pods are active, 0 have succeeded"),
        ({"status": {"active": 1, "succeeded": 2}}, "it has not ended: 1 pods are active, 2 have succeeded"),
        ({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, ""),
        ({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, ""),
        ({"spec": {"suspend": True}}, ""),
        ({"spec": {"parallelism": 0}}, ""),
        ({"metadata": CRON, "status": {"active": 1}}, ""),
    ],
)
def test_a_job(fields: dict[str, Any], awaited: str) -> None:
    flight = in_flight(evidence("Job", **fields))
    assert (flight.words if flight else "") == awaited


def ready(status: str, minutes: float) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "lastTransitionTime": ago(minutes)}


GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}


@pytest.mark.parametrize(
    ("fields", "awaited"),
    [
        ({"phase": "Pending"}, "it starts"),
        ({"phase": "Running", "conditions": [ready("False", 9)]}, "it is not ready"),
        ({"phase": "Succeeded"}, ""),
        ({"phase": "Failed"}, ""),
        ({"phase": "Pending", "conditions": [GATED]}, ""),
        (LOST["status"], ""),
    ],
)
def test_a_pod(fields: dict[str, Any], awaited: str) -> None:
    made = {"creationTimestamp": ago(10)}
    flight = in_flight(evidence("Pod", spec={"nodeName": "n1"}, status=fields, metadata=made))
    assert (flight.words if flight else "") == awaited


def test_a_pod_that_has_become_ready_is_awaited_for_a_moment() -> None:
    flight = in_flight(evidence("Pod", status={"phase": "Running", "conditions": [ready("True", 1)]}))
    assert flight is not None
    assert flight.until == NOW - timedelta(seconds=50)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"])
def test_what_is_being_deleted_or_gone_is_not_awaited(kind: str) -> None:
    assert in_flight(evidence(kind, metadata={"deletionTimestamp": ago(1)})) is None
    assert in_flight(Evidence(cluster="c", version=Version(1, 1), ref=Ref(kind, "web"), observed_at=NOW)) is None


def test_other_kinds_are_never_on_their_way() -> None:
    assert in_flight(evidence("Service")) is None
