"""The testbed keeps its promises: real controllers, plays that cycle, failures on demand, nothing left behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane, wait_until
from infra.testbed.scenarios import SCENARIOS, SHOP, find

pytestmark = pytest.mark.live

Object = dict[str, Any]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane.start() as started:
        yield started


def deployment(namespace: str, name: str, play: str | None = None, replicas: int = 1) -> list[Object]:
    labels = {"app": name, **({"kubewhy.dev/play": play} if play else {})}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "shop/app:1"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        },
    ]


def ready(replicas: int) -> Any:
    return lambda seen: seen.get("status", {}).get("readyReplicas") == replicas


def test_a_deployment_becomes_ready(plane: ControlPlane) -> None:
    plane.api.apply(deployment("well", "web", replicas=3))
    plane.api.wait("/apis/apps/v1/namespaces/well/deployments/web", ready(3), 60)


def test_the_shop_becomes_healthy(plane: ControlPlane) -> None:
    SHOP.play(plane)
    plane.api.wait("/apis/apps/v1/namespaces/shop/deployments/web", ready(3), 60)
    plane.api.wait("/apis/apps/v1/namespaces/shop/statefulsets/db", ready(2), 60)
    plane.api.wait("/apis/batch/v1/namespaces/shop/jobs/import", lambda job: job["status"].get("succeeded") == 1, 60)


def test_a_pod_recovers_when_what_it_misses_arrives(plane: ControlPlane) -> None:
    find("secret-missing")[0].play(plane)

    def refused(pods: Object) -> bool:
        statuses = [each for pod in pods["items"] for each in pod["status"].get("containerStatuses", ())]
        return any(each["state"].get("waiting", {}).get("message") == 'secret "token" not found' for each in statuses)

    plane.api.wait("/api/v1/namespaces/secret-missing/pods", refused, 60)
    metadata = {"name": "token", "namespace": "secret-missing"}
    plane.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"value": "x"}})
    plane.api.wait("/apis/apps/v1/namespaces/secret-missing/deployments/app", ready(1), 60)


def test_every_scenario_has_a_name_of_its_own_and_says_who_is_to_blame() -> None:
    assert len({each.name for each in SCENARIOS}) == len(SCENARIOS) >= 34
    assert all(each.healthy or each.root for each in SCENARIOS)


def test_a_crash_cycles_and_says_so(plane: ControlPlane) -> None:
    plane.api.apply(deployment("ill", "web", play="crash"))

    def looping(pods: Object) -> bool:
        statuses = [each for pod in pods["items"] for each in pod["status"].get("containerStatuses", ())]
        return any(
            each["restartCount"] >= 2 and each["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
            for each in statuses
        )

    plane.api.wait("/api/v1/namespaces/ill/pods", looping, 60)
    plane.api.wait(
        "/api/v1/namespaces/ill/events",
        lambda events: any(each["reason"] == "BackOff" and each["count"] >= 2 for each in events["items"]),
        60,
    )


def test_a_lost_node_is_noticed_by_the_node_controller(plane: ControlPlane) -> None:
    plane.nodes.lose("node-3")
    wait_until("node-3 is unknown", lambda: plane.nodes.condition("node-3", "Ready") == "Unknown", 60)
    assert plane.nodes.is_ready("node-1")
    plane.nodes.find("node-3")
    wait_until("node-3 is back", lambda: plane.nodes.is_ready("node-3"), 60)


def test_the_api_server_can_die_and_return(plane: ControlPlane) -> None:
    before = plane.api.get("/api/v1/namespaces/default")["metadata"]["uid"]
    plane.kill_api_server()
    assert "kube-apiserver" not in plane.pids()
    plane.start_api_server()
    assert plane.api.get("/api/v1/namespaces/default")["metadata"]["uid"] == before


def test_nothing_is_left_running() -> None:
    plane = ControlPlane.start(nodes=1)
    pids = plane.pids()
    plane.stop()
    assert len(pids) == 6
    assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]
    assert not plane.directory.exists()
