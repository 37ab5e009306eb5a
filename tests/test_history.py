"""What was changed last, from the store to the finding; and what is seen of what fails."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from collectors.changes import recent
from collectors.history import KEPT
from collectors.index import Key
from kubewhy.records import Finding
from tests.world import START, Run, World, iso, owned

MISSING = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}


def template(image: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "app", "image": image}]}}


def workload(world: World, kind: str, image: str, generation: int, **spec: Any) -> None:
    world.put(kind, "web", metadata={"generation": generation}, spec={"template": template(image), **spec})


def told(world: World, kind: str = "Deployment", name: str = "web") -> list[str]:
    space = "shop" if world.store.type_of(kind).resource.namespaced else None
    return [each.what for each in recent(world.store, [Key(kind, space, name)])]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_an_image_that_changes_is_told_before_and_after(world: World, kind: str) -> None:
    workload(world, kind, "web:1", 1)
    assert told(world, kind) == []
    workload(world, kind, "web:2", 2)
    assert told(world, kind) == ["image of container app: web:1 -> web:2"]


def test_a_cron_job_is_told_by_the_images_of_its_runs(world: World) -> None:
    for generation in (1, 2):
        job = {"spec": {"template": template(f"web:{generation}")}}
        world.put("CronJob", "web", metadata={"generation": generation}, spec={"jobTemplate": job})
    assert told(world, "CronJob") == ["image of container app: web:1 -> web:2"]


def test_containers_that_come_and_go_are_told(world: World) -> None:
    for generation, names in enumerate((["app", "old"], ["app", "new"])):
        containers = [{"name": name, "image": "web:1"} for name in names]
        spec = {"template": {"spec": {"containers": containers}}}
        world.put("DaemonSet", "web", metadata={"generation": generation}, spec=spec)
    assert told(world, "DaemonSet") == ["container new with image web:1 is new; container old is no more"]


def test_replicas_and_what_else_is_specified_are_told(world: World) -> None:
    workload(world, "Deployment", "web:1", 1, replicas=3)
    workload(world, "Deployment", "web:1", 2, replicas=5)
    workload(world, "Deployment", "web:1", 3, replicas=5, progressDeadlineSeconds=9)
    workload(world, "Deployment", "web:1", 4, replicas=5, progressDeadlineSeconds=9)
    assert told(world) == [
        "its specification (generation 4)",
        "its specification: progressDeadlineSeconds (generation 3)",
        "replicas: 3 -> 5",
    ]


def test_an_autoscaler_does_not_push_out_a_new_image(world: World) -> None:
    workload(world, "Deployment", "web:1", 1, replicas=1)
    for generation in range(2, 9):
        workload(world, "Deployment", "web:2", generation, replicas=generation - 1)
    assert told(world) == ["replicas: 6 -> 7", "replicas: 5 -> 6", "image of container app: web:1 -> web:2"]


def test_a_change_that_is_seen_late_is_dated_as_its_managers_do(world: World) -> None:
    for generation, minutes in ((1, 500), (2, 12)):
        at = iso(START - timedelta(minutes=minutes))
        meta = {"generation": generation, "managedFields": [{"manager": "kubectl", "time": at}]}
        world.put("StatefulSet", "web", metadata=meta, spec={"template": template(f"web:{generation}")})
    (change,) = recent(world.store, [Key("StatefulSet", "shop", "web")])
    assert (change.what, change.at) == ("image of container app: web:1 -> web:2", START - timedelta(minutes=12))


def test_a_service_is_told_by_what_it_selects(world: World) -> None:
    world.put("Service", "web", spec={"selector": {"app": "web"}})
    world.put("Service", "web", spec={"selector": {"app": "wep"}, "ports": [{"port": 80}]})
    assert told(world, "Service") == ["its specification: selector, ports"]


def test_what_a_controller_makes_is_not_changed_by_anybody_else(world: World) -> None:
    for generation, made in ((1, owned("Deployment", "web")), (2, owned("Deployment", "web")), (3, {}), (4, {})):
        world.put("ReplicaSet", "web", metadata={**made, "generation": generation}, spec={"replicas": generation})
    assert told(world, "ReplicaSet") == ["replicas: 3 -> 4", "replicas: 2 -> 3"]


def test_a_claim_is_not_changed_by_being_bound(world: World) -> None:
    size = {"resources": {"requests": {"storage": "1Gi"}}}
    world.put("PersistentVolumeClaim", "web", spec=size)
    world.put("PersistentVolumeClaim", "web", spec={**size, "volumeName": "pv-1"})
    assert told(world, "PersistentVolumeClaim") == []
    larger = {"resources": {"requests": {"storage": "2Gi"}}, "volumeName": "pv-1"}
    world.put("PersistentVolumeClaim", "web", spec=larger)
    assert told(world, "PersistentVolumeClaim") == ["its specification: resources"]


def test_a_status_is_no_change(world: World) -> None:
    workload(world, "Deployment", "web:1", 1)
    world.put(
        "Deployment", "web", metadata={"generation": 1}, spec={"template": template("web:1")}, status={"replicas": 3}
    )
    assert told(world) == []


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({}, {"spec": {"unschedulable": True}}, ["it was cordoned"]),
        ({"spec": {"unschedulable": True}}, {}, ["it was uncordoned"]),
        (
            {},
            {"spec": {"taints": [{"key": "team", "value": "b", "effect": "NoSchedule"}]}},
            ["taint team=b:NoSchedule was added"],
        ),
        ({}, {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}}, []),
        (
            {"status": {"nodeInfo": {"kubeletVersion": "v1.34.2"}}},
            {"status": {"nodeInfo": {"kubeletVersion": "v1.35.4"}}},
            ["its kubelet: v1.34.2 -> v1.35.4"],
        ),
    ],
)
def test_a_node_is_told_by_what_people_do_to_it(
    world: World, before: dict[str, Any], after: dict[str, Any], what: list[str]
) -> None:
    world.put("Node", "n1", **before)
    world.put("Node", "n1", **after)
    assert told(world, "Node", "n1") == what


def test_only_the_last_are_kept_and_none_for_long(world: World) -> None:
    for generation in range(9):
        workload(world, "Deployment", f"web:{generation}", generation)
    assert [each.rpartition("> ")[2] for each in told(world)] == ["web:8", "web:7"]
    world.at += KEPT + timedelta(seconds=1)
    world.put("Node", "n1")
    assert told(world) == []


def test_what_is_too_old_leaves_nothing_behind(world: World) -> None:
    workload(world, "Deployment", "web:1", 1)
    workload(world, "Deployment", "web:2", 2)
    world.at += KEPT + timedelta(seconds=1)
    world.put("Node", "n1")
    world.put("Node", "n1", spec={"unschedulable": True})
    assert world.store.history.of(Key("Deployment", "shop", "web")) == []


def test_what_is_made_anew_has_no_past(world: World) -> None:
    workload(world, "Deployment", "web:1", 1)
    workload(world, "Deployment", "web:2", 2)
    world.remove("Deployment", "web")
    workload(world, "Deployment", "web:1", 1)
    assert told(world) == []


@pytest.mark.parametrize(("image", "end"), [("web", "; and 35 more"), ("web" * 60, "...")])
def test_a_long_list_of_images_is_cut(world: World, image: str, end: str) -> None:
    for generation in (1, 2):
        containers = [{"name": f"app-{number}", "image": f"{image}:{generation}"} for number in range(40)]
        spec = {"template": {"spec": {"containers": containers}}}
        world.put("Deployment", "web", metadata={"generation": generation}, spec=spec)
    (what,) = told(world)
    assert what.endswith(end)
    assert len(what) <= 500


def revisions(world: World, *, first: str) -> None:
    """As a LIST finds them: a deployment whose newest revision was made a minute ago."""
    made = {"Deployment": lambda: workload(world, "Deployment", "web:2", 7)}
    for number, age in ((1, 9000), (2, 60)):
        created = iso(START - timedelta(seconds=age))
        meta = {
            **owned("Deployment", "web"),
            "creationTimestamp": created,
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
        }
        made[f"ReplicaSet {number}"] = lambda number=number, meta=meta: world.put(  # type: ignore[misc]
            "ReplicaSet", f"web-{number}", metadata=meta, spec={"template": template(f"web:{number}")}
        )
    for name in sorted(made, reverse=first == "ReplicaSet"):
        made[name]()


@pytest.mark.parametrize("first", ["Deployment", "ReplicaSet"])
def test_what_was_changed_before_a_start_is_found_in_its_revisions(world: World, first: str) -> None:
    revisions(world, first=first)
    assert told(world) == ["image of container app: web:1 -> web:2"]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (1, 3, 2)])
def test_revisions_are_told_apart_in_whatever_order_they_are_listed(world: World, order: tuple[int, ...]) -> None:
    workload(world, "Deployment", "web:3", 7)
    for number in order:
        meta = {
            **owned("Deployment", "web"),
            "creationTimestamp": iso(START - timedelta(seconds=60 if number == 3 else 9000)),
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
        }
        world.put("ReplicaSet", f"web-{number}", metadata=meta, spec={"template": template(f"web:{number}")})
        told(world)
    assert told(world) == ["image of container app: web:2 -> web:3"]


def test_a_write_that_nobody_saw_is_told(world: World) -> None:
    at = iso(START - timedelta(minutes=3))
    meta = {"generation": 4, "managedFields": [{"manager": "kubectl", "time": at}]}
    world.put("StatefulSet", "web", metadata=meta, spec={"template": template("web:1")})
    assert told(world, "StatefulSet") == ["it was last written, its status apart"]


def test_a_deployment_that_was_just_made_says_so(world: World) -> None:
    made = {"creationTimestamp": iso(START - timedelta(seconds=30))}
    world.put("Deployment", "web", metadata=made, spec={"template": template("web:1")})
    assert told(world) == ["it was created"]


@pytest.fixture
def run(tmp_path: Path, world: World) -> Iterator[Run]:
    started = Run(tmp_path / "state", world)
    yield started
    started.close()


def broken_pod(world: World) -> None:
    """A pod of the newest revision that cannot get its image."""
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": "app", "state": MISSING}],
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "unready: [app]"}
        ],
    }
    spec = {**template("web:2")["spec"], "nodeName": "n1"}
    made = {**owned("ReplicaSet", "web-2"), "creationTimestamp": iso(START)}
    world.put("Pod", "web-2-x", metadata=made, spec=spec, status=status)


def opened(run: Run) -> Finding:
    return next(each for each in run.findings if each.transition == "opened" and each.incident.root.name == "web")


def test_a_finding_tells_what_was_changed_and_what_is_seen(run: Run, world: World) -> None:
    world.put("Node", "n1")
    revisions(world, first="Deployment")
    broken_pod(world)
    run.look()
    run.wait(60)
    incident = opened(run).incident
    assert [(each.object.kind, each.what) for each in incident.changes] == [
        ("Deployment", "image of container app: web:1 -> web:2")
    ]
    (seen,) = [each for each in incident.evidence if each.object.kind == "Pod"]
    assert seen.lines == (
        "Pending, 0 of 1 containers ready, on node n1",
        "container app is waiting, ImagePullBackOff",
        "condition Ready is False: ContainersNotReady: unready: [app]",
    )


def test_a_restart_forgets_neither(run: Run, world: World) -> None:
    world.put("Node", "n1")
    revisions(world, first="Deployment")
    broken_pod(world)
    run.look()
    run.restart()
    run.wait(60)
    incident = opened(run).incident
    assert incident.changes
    assert incident.evidence


def test_what_is_seen_is_no_news(run: Run, world: World) -> None:
    world.put("Node", "n1")
    revisions(world, first="Deployment")
    broken_pod(world)
    run.look()
    run.wait(60)
    count = len(run.findings)
    for record in range(5):
        run.feed(world.everything(run.now))
        run.wait(5)
        assert len(run.findings) == count, record
