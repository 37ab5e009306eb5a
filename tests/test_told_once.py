"""From a cluster's objects to findings: each trouble is told once, at its cause, and so is its end."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from explainer.telling import SHOWN
from tests.world import START, Run, World, container, iso, owned

Status = Mapping[str, Any]  # of a container

KEEP_OPEN = 120
HASH = "5d4f8c9b7d"
CRASHED: Status = {
    "restartCount": 6,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}},
    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": iso(START)}},
}
NO_SECRET: Status = {
    "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "password" not found'}}
}
NO_IMAGE: Status = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
WELL: Status = {"ready": True, "state": {"running": {"startedAt": iso(START)}}}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def run(tmp_path: Path, world: World) -> Iterator[Run]:
    run = Run(tmp_path / "state", world)
    run.wait(1)
    yield run
    run.close()


def pod(world: World, name: str, status: Status, of: str = "") -> None:
    """One of that Deployment's, by way of its ReplicaSet; or one that is nobody's."""
    is_ready = str(bool(status.get("ready")))
    ready = [{"type": "Ready", "status": is_ready, "lastTransitionTime": iso(START)}]
    phase = "Pending" if "waiting" in status["state"] and "lastState" not in status else "Running"
    world.put(
        "Pod",
        name,
        metadata=owned("ReplicaSet", f"{of}-{HASH}") | {"labels": {"app": of, "pod-template-hash": HASH}} if of else {},
        spec={"nodeName": "node-1", "containers": [{"name": "app", "image": "shop/app:1"}]},
        status={
            "phase": phase,
            "startTime": iso(START),
            "conditions": ready,
            "containerStatuses": container(**status),
        },
    )


def workload(world: World, name: str, replicas: int, ready: int, **condition: Any) -> None:
    """A Deployment of long ago, and its ReplicaSet."""
    available = {"type": "Available", "status": str(ready > 0), "lastTransitionTime": iso(START)}
    progressing = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    world.put(
        "Deployment",
        name,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}},
        },
        status={
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [available, progressing, *([condition] if condition else [])],
        },
    )
    world.put("ReplicaSet", f"{name}-{HASH}", metadata=owned("Deployment", name), spec={"replicas": replicas})


def node(world: World, name: str, *, lost: bool = False) -> None:
    status = {"status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
    ready = {"type": "Ready", "lastTransitionTime": iso(START), **(status if lost else {"status": "True"})}
    world.put("Node", name, status={"conditions": [ready]})


def roots(run: Run) -> list[str]:
    """What incidents were opened of."""
    return [str(each.incident.root) for each in run.findings if each.transition == "opened"]


def test_a_failure_that_stays_for_a_day_is_told_once(run: Run, world: World) -> None:
    node(world, "node-1")
    pod(world, "web", NO_IMAGE)
    run.look()
    for half_minute in range(24 * 120):
        run.wait(30, every=10)
        if half_minute % 720 == 719:
            run.restart(seconds=20)
        else:
            run.feed(world.everything(run.now))
    assert run.transitions() == ["opened"]


def test_two_hundred_open_incidents_are_not_told_again_after_a_restart(run: Run, world: World) -> None:
    node(world, "node-1")
    for number in range(200):
        pod(world, f"p{number}", NO_IMAGE)
    run.look()
    run.wait(300)
    assert run.transitions() == ["opened"] * 200
    assert run.restart(seconds=45) + run.wait(600) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_what_clears_is_resolved_once_within_a_minute_of_its_time(run: Run, world: World, restarts: bool) -> None:
    node(world, "node-1")
    pod(world, "web", NO_IMAGE)
    run.look()
    run.wait(100)
    pod(world, "web", WELL)
    assert run.look() + run.wait(60) == []
    if restarts:
        assert run.restart() == []
    assert run.wait(KEEP_OPEN - 60) == []
    assert run.wait(60) == ["resolved Pod shop/web recovered"]
    assert run.wait(7200) == []
    assert run.transitions() == ["opened", "resolved"]


@pytest.mark.parametrize("collector_is_down", [False, True])
def test_what_is_deleted_while_it_fails_is_resolved_as_deleted(run: Run, world: World, collector_is_down: bool) -> None:
    node(world, "node-1")
    pod(world, "web", NO_IMAGE)
    pod(world, "other", NO_IMAGE)
    run.look()
    run.wait(100)
    world.remove("Pod", "web")
    told = run.restart(seconds=300) if collector_is_down else run.look()
    assert told + run.wait(KEEP_OPEN + 60) == ["resolved Pod shop/web deleted"]
    assert run.wait(600) == []


def test_a_symptom_that_comes_and_goes_does_not_keep_an_incident_open(run: Run, world: World) -> None:
    missing_secret(world)
    for number in range(3):
        pod(world, f"web-{HASH}-{number}", CRASHED, "web")
    run.look()
    for turn in range(20):
        run.wait(60)
        workload(world, "web", 3, ready=turn % 2)
        run.look()
    missing_secret(world, ready=3)
    run.look()
    assert run.wait(KEEP_OPEN + 60)[-1:] == ["resolved Deployment shop/web recovered"]
    assert run.transitions().count("opened") == 1


def test_failing_pods_that_are_replaced_by_good_ones_have_recovered(run: Run, world: World) -> None:
    node(world, "node-1")
    workload(world, "web", 2, 2)
    for number in range(2):
        pod(world, f"web-{HASH}-{number}", CRASHED, "web")
    run.look()
    run.wait(100)
    for number in range(2):
        world.remove("Pod", f"web-{HASH}-{number}")
        run.look()
        run.wait(30)
    assert run.wait(KEEP_OPEN + 60) == ["resolved Deployment shop/web recovered"]
    assert roots(run) == ["Deployment shop/web"]


def test_a_workload_that_is_deleted_with_its_pods_is_resolved_as_deleted(run: Run, world: World) -> None:
    node(world, "node-1")
    workload(world, "web", 2, 2)
    pods = [("Pod", f"web-{HASH}-{number}") for number in range(2)]
    for _, name in pods:
        pod(world, name, CRASHED, "web")
    run.look()
    run.wait(100)
    # In the order of the garbage collector.
    for kind, name in (("Deployment", "web"), ("ReplicaSet", f"web-{HASH}"), *pods):
        world.remove(kind, name)
        assert run.look() + run.wait(10) == []
    assert run.wait(KEEP_OPEN + 60) == ["resolved Deployment shop/web deleted"]


def test_a_workload_that_is_deleted_while_the_collector_is_down_is_resolved_as_deleted(run: Run, world: World) -> None:
    missing_secret(world)
    run.look()
    run.wait(600)
    for kind, name in [("Deployment", "web"), ("ReplicaSet", f"web-{HASH}"), ("Service", "web")]:
        world.remove(kind, name)
    for number in range(3):
        world.remove("Pod", f"web-{HASH}-{number}")
    assert run.restart(seconds=600) + run.wait(KEEP_OPEN + 60) == ["resolved Secret shop/password deleted"]


def test_a_hundred_crash_looping_replicas_are_one_incident(run: Run, world: World) -> None:
    node(world, "node-1")
    workload(world, "web", 100, 0)
    for number in range(100):
        pod(world, f"web-{HASH}-{number:03}", CRASHED, "web")
        run.look()
    run.wait(300)
    assert roots(run) == ["Deployment shop/web"]
    assert run.transitions()[1:] == ["updated"] * (len(run.findings) - 1)
    assert len(run.findings) <= 6
    told = run.findings[-1].incident
    assert (len(told.members), told.member_count) == (SHOWN, 101)
    assert all(each.incident.id == told.id and len(each.incident.members) <= SHOWN for each in run.findings)


def test_a_lost_node_with_five_hundred_pods_is_at_most_two_incidents(run: Run, world: World) -> None:
    node(world, "node-1", lost=True)
    for app in range(50):
        workload(world, f"app{app}", 10, 0)
        for number in range(10):
            pod(world, f"app{app}-{HASH}-{number}", {**WELL, "ready": False}, f"app{app}")
            run.look()
    run.wait(600)
    assert 1 <= len(roots(run)) <= 2
    assert str(run.findings[-1].incident.root) == "Node node-1"
    assert run.findings[-1].incident.member_count > 500


def missing_secret(world: World, ready: int = 0) -> None:
    """Three pods behind a Service, of which so many have what they need."""
    node(world, "node-1")
    workload(world, "web", 3, ready)
    for number in range(3):
        pod(world, f"web-{HASH}-{number}", WELL if number < ready else NO_SECRET, "web")
    world.put("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}], "clusterIP": "10.0.0.1"})
    endpoints = [
        {"conditions": {"ready": number < ready}, "targetRef": {"kind": "Pod", "name": f"web-{HASH}-{number}"}}
        for number in range(3)
    ]
    labels = {"labels": {"kubernetes.io/service-name": "web"}}
    world.put("EndpointSlice", "web-abc", metadata=labels, addressType="IPv4", endpoints=endpoints)


def test_a_missing_secret_under_pods_deployment_and_service_is_one_incident(run: Run, world: World) -> None:
    missing_secret(world)
    run.look()
    run.wait(600)
    assert roots(run) == ["Secret shop/password"]
    told = run.findings[-1].incident
    assert {each.object.kind for each in told.failures} == {"Pod", "Deployment", "Service"}
    assert told.member_count == 5
    missing_secret(world, ready=3)
    assert run.look() + run.wait(KEEP_OPEN + 60) == ["resolved Secret shop/password recovered"]


def test_of_a_recovery_under_way_only_its_end_is_told(run: Run, world: World) -> None:
    missing_secret(world)
    run.look()
    run.wait(600)
    for ready in (1, 3):
        missing_secret(world, ready)
        assert run.look() + run.wait(3) == []
    assert run.wait(KEEP_OPEN + 60) == ["resolved Secret shop/password recovered"]


def test_a_recovery_that_stops_half_way_is_told(run: Run, world: World) -> None:
    missing_secret(world)
    run.look()
    run.wait(600)
    missing_secret(world, ready=2)
    assert run.look() + run.wait(KEEP_OPEN + 60) == ["updated Secret shop/password"] * 2
    assert [each.name for each in run.findings[-1].incident.members] == [f"web-{HASH}-2", "web"]


def test_a_quota_that_blocks_three_deployments_is_one_incident(run: Run, world: World) -> None:
    for name in ("a", "b", "c"):
        message = (
            f'pods "{name}-1-x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=9, limited: pods=9'
        )
        refused = {"status": "True", "reason": "FailedCreate", "message": message, "lastTransitionTime": iso(START)}
        workload(world, name, 3, 0, type="ReplicaFailure", **refused)
    run.look()
    run.wait(600)
    assert roots(run) == ["ResourceQuota shop/team"]
    assert run.findings[-1].incident.member_count == 3


def test_two_unrelated_faults_in_a_namespace_are_two_incidents(run: Run, world: World) -> None:
    node(world, "node-1")
    for name, status in (("a", CRASHED), ("b", NO_IMAGE)):
        workload(world, name, 1, 0)
        pod(world, f"{name}-{HASH}-x", status, name)
    run.look()
    run.wait(600)
    assert sorted(roots(run)) == ["Deployment shop/a", "Deployment shop/b"]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_toggles_every_two_minutes_is_told_three_times_at_most(run: Run, world: World, restarts: bool) -> None:
    node(world, "node-1")
    for turn in range(30):
        pod(world, "web", WELL if turn % 2 else NO_IMAGE)
        run.look()
        run.wait(60)
        if restarts and turn % 5 == 0:
            run.restart()
        run.wait(60)
    assert 1 <= len(run.findings) <= 3
    assert run.transitions()[0] == "opened"


def test_clusters_with_the_same_names_have_nothing_in_common(tmp_path: Path) -> None:
    both = World("a"), World("b")
    run = Run(tmp_path / "state", *both)
    for world in both:
        missing_secret(world)
    run.look()
    run.wait(300)
    missing_secret(both[0], ready=3)
    run.look()
    run.restart(seconds=10)
    run.wait(KEEP_OPEN + 60)
    told = {(each.incident.cluster, each.transition) for each in run.findings}
    assert told >= {("a", "opened"), ("b", "opened"), ("a", "resolved")}
    assert ("b", "resolved") not in told
    assert len({each.incident.id for each in run.findings}) == 2
    assert len(roots(run)) == 2
    run.close()


def test_ten_thousand_ways_to_say_the_same_are_one_failure(run: Run, world: World) -> None:
    node(world, "node-1")
    for number in range(10_000):
        said = f"rpc error {number:x}: manifest unknown at 10.0.{number % 250}.{number % 199}:5000, try {number}"
        pod(world, "web", {"state": {"waiting": {"reason": "ImagePullBackOff", "message": said}}})
        run.look()
        run.wait(1)
    assert run.transitions() == ["opened"]


def test_ten_thousand_objects_are_as_many_incidents(run: Run, world: World) -> None:
    node(world, "node-1")
    for number in range(10_000):
        pod(world, f"p{number}", NO_IMAGE)
    run.look()
    run.wait(120, every=30)
    assert run.transitions() == ["opened"] * 10_000
    assert len({each.incident.id for each in run.findings}) == 10_000
    assert len(set(roots(run))) == 10_000
