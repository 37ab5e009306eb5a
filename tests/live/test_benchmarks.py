"""A filled cluster is as it should be before anything is measured against it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import filling
from benchmarks.filling import PER_APP, Size
from infra.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.live

SIZE = Size(pods=10 * PER_APP + 20, nodes=7, lone=20)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane.start(controllers=False) as started:
        filling.fill(started, SIZE)
        yield started


def broken(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
    return conditions.get("Ready") != "True"


def test_there_is_as_much_as_was_asked_for_and_all_of_it_is_different(plane: ControlPlane) -> None:
    pods = plane.api.list("/api/v1/pods")
    assert len(pods) == SIZE.pods
    assert len({pod["metadata"]["uid"] for pod in pods}) == SIZE.pods
    assert len({pod["status"]["podIP"] for pod in pods if "podIP" in pod["status"]}) > SIZE.pods * 0.9
    assert {pod["spec"].get("nodeName") for pod in pods} >= {f"node-{number:03}" for number in range(SIZE.nodes)}
    assert len(plane.api.list("/api/v1/nodes")) == SIZE.nodes
    assert len(plane.api.list("/apis/apps/v1/deployments")) == SIZE.apps


def test_pods_are_as_large_as_the_api_server_makes_them(plane: ControlPlane) -> None:
    pods = plane.api.list("/api/v1/pods")
    assert all(pod["metadata"]["managedFields"] for pod in pods)
    assert min(len(json.dumps(pod, separators=(",", ":"))) for pod in pods) > 4000


def test_some_five_of_a_hundred_pods_are_broken(plane: ControlPlane) -> None:
    pods = plane.api.list("/api/v1/pods")
    assert 0.04 < sum(map(broken, pods)) / len(pods) < 0.07


def test_everything_refers_to_what_exists(plane: ControlPlane) -> None:
    sets = {each["metadata"]["uid"]: each for each in plane.api.list("/apis/apps/v1/replicasets")}
    deployments = {each["metadata"]["uid"] for each in plane.api.list("/apis/apps/v1/deployments")}
    pods = plane.api.list("/api/v1/pods")
    owned = [pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods if "ownerReferences" in pod["metadata"]]
    assert len(owned) == SIZE.apps * PER_APP
    assert set(owned) == set(sets)
    assert {each["metadata"]["ownerReferences"][0]["uid"] for each in sets.values()} == deployments
    known = {pod["metadata"]["uid"] for pod in pods}
    assert {event["involvedObject"]["uid"] for event in plane.api.list("/api/v1/events")} <= known
    names = {pod["metadata"]["name"] for pod in pods}
    for each in plane.api.list("/apis/discovery.k8s.io/v1/endpointslices"):
        assert {endpoint["targetRef"]["name"] for endpoint in each["endpoints"] if "targetRef" in endpoint} <= names


def test_what_the_benchmarks_change_is_there(plane: ControlPlane) -> None:
    assert plane.api.exists(filling.lone_path(SIZE.lone - 1))
    assert plane.api.exists(filling.replica_path(SIZE.apps - 1, PER_APP - 1))
