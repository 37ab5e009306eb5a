"""What was changed last, from the store to the finding; and what is seen of what fails."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from collectors.history import KEPT
from collectors.index import Key
from kubewhy.records import Finding
from tests.world import START, Run, World, iso, owned

MISSING = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}


def template(image: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "app", "image": image}]}}


def workload(world: World, kind: str, image: str, generation: int, **spec: Any) -> None:
    world.put(kind, "web", metadata={"generation": generation}, spec={"template": template(image), **spec})


def told(world: World, kind: str = "Deployment") -> list[str]:
    return [each.what for each in world.store.history.of([Key(kind, "shop", "web")], world.at)]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_an_image_that_changes_is_told_before_and_after(world: World, kind: str) -> None:
    workload(world, kind, "web:1", 1)
    assert told(world, kind) == []
    workload(world, kind, "web:2", 2)
    assert told(world, kind) == ["image of container app: web:1 -> web:2"]


def test_replicas_and_what_else_is_specified_are_told(world: World) -> None:
    workload(world, "Deployment", "web:1", 1, replicas=3)
    workload(world, "Deployment", "web:1", 2, replicas=5)
    workload(world, "Deployment", "web:1", 3, replicas=5, progressDeadlineSeconds=9)
    assert told(world) == ["its specification (generation 3)", "replicas: 3 -> 5"]


def test_a_status_is_no_change(world: World) -> None:
    workload(world, "Deployment", "web:1", 1)
    world.put(
        "Deployment", "web", metadata={"generation": 1}, spec={"template": template("web:1")}, status={"replicas": 3}
    )
    assert told(world) == []


def test_what_is_cordoned_is_told(world: World) -> None:
    world.put("Node", "n1")
    world.put("Node", "n1", spec={"unschedulable": True})
    assert [each.what for each in world.store.history.of([Key("Node", None, "n1")], world.at)] == ["it was cordoned"]


def test_only_the_last_are_kept_and_none_for_long(world: World) -> None:
    for generation in range(9):
        workload(world, "Deployment", f"web:{generation}", generation)
    assert len(told(world)) == 3
    world.at += KEPT + timedelta(seconds=1)
    assert told(world) == []


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
