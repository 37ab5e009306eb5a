"""Of what is well nothing is said, and of what only looks like trouble neither: at no moment, by no command."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane, wait_until
from infra.testbed.scenarios import SCENARIOS, SHOP, find
from tests.live.audited import audited, granted
from tests.live.cli import KUBEWHY, analyze
from tests.live.test_scenarios import RECOVERING, brief, within

pytestmark = pytest.mark.live

RESTARTING = find("rolling-restart")[0]
# What is out of service until its first pod is ready.
STARTING = ("pod-not-ready", "deployment-unavailable", "service-no-ready-endpoints")
OTHERS = [each for each in SCENARIOS if each.healthy and each not in (RESTARTING, RECOVERING)]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited() as plane:
        yield plane


@pytest.fixture(scope="module")
def kubeconfig(plane: ControlPlane) -> Path:
    return granted(plane)


@contextmanager
def watched(kubeconfig: Path, *pending: str) -> Iterator[None]:
    """Both commands look on while something happens, and find nothing; these rules may be broken for a moment."""
    over = threading.Event()
    looks: list[dict[str, Any]] = []

    def look() -> None:
        while not over.is_set():
            looks.append(analyze(kubeconfig))

    command: list[str | Path] = [KUBEWHY, "run", "-o", "json", "--kubeconfig", kubeconfig]
    with ThreadPoolExecutor(1) as pool, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        looking = pool.submit(look)
        try:
            yield
            already = len(looks)
            wait_until("somebody has looked since", lambda: len(looks) > already + 1 or looking.done(), 60)
        finally:
            over.set()
            run.terminate()
        looking.result()
        told = [json.loads(line) for line in run.communicate(timeout=30)[0].splitlines()]
    assert run.returncode == 0
    assert [each["incident"]["title"] for each in told] == []
    found = [each for look in looks for each in look["diagnoses"]]
    waiting = [each for look in looks for each in look["pending"] if not allowed(each)]
    assert brief(found) == []
    assert brief([each for each in waiting if not rules(each) <= set(pending)]) == []


def allowed(pending: dict[str, Any]) -> bool:
    """Whether a scenario says that this may be so for a while."""
    return any(within(each, [pending]) and rules(pending) <= each.pending for each in OTHERS)


def rules(diagnosis: dict[str, Any]) -> set[str]:
    return {failure["rule"] for failure in diagnosis["failures"]}


def test_a_shop_that_opens_and_all_that_only_seems_ill(plane: ControlPlane, kubeconfig: Path) -> None:
    with watched(kubeconfig, *STARTING):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda each: each.play(plane), (SHOP, *OTHERS)))
        plane.api.wait("/api/v1/nodes/serviced", lambda _: plane.nodes.condition("serviced", "Ready") == "Unknown", 90)
        for kind, name in (("deployments", "web"), ("statefulsets", "db"), ("daemonsets", "logs")):
            plane.api.wait(f"/apis/apps/v1/namespaces/shop/{kind}/{name}", in_service, 90)
        plane.api.wait("/apis/apps/v1/namespaces/slow-start/deployments/app", in_service, 90)
    with watched(kubeconfig):
        plane.api.wait("/apis/batch/v1/namespaces/shop/jobs/import", lambda job: "succeeded" in job["status"], 60)
        time.sleep(5)


def in_service(seen: dict[str, Any]) -> bool:
    wanted = seen["spec"].get("replicas", seen["status"].get("desiredNumberScheduled"))
    return bool(wanted) and seen["status"].get("readyReplicas", seen["status"].get("numberReady")) == wanted


def test_fifty_replicas_restart_in_turn(plane: ControlPlane, kubeconfig: Path) -> None:
    path = "/apis/apps/v1/namespaces/rolling-restart/deployments/app"
    with watched(kubeconfig):
        RESTARTING.play(plane)
        plane.api.wait(path, lambda seen: seen["status"].get("updatedReplicas", 0) < 50, 30)
        plane.api.wait(path, lambda seen: in_service(seen) and seen["status"].get("updatedReplicas") == 50, 180)


def test_a_node_is_drained_and_its_pods_go_elsewhere(plane: ControlPlane, kubeconfig: Path) -> None:
    with watched(kubeconfig, *STARTING):
        plane.nodes.drain("node-1")
        for path in ("rolling-restart/deployments/app", "shop/deployments/web"):
            plane.api.wait(f"/apis/apps/v1/namespaces/{path}", in_service, 60)
    plane.nodes.cordon("node-1", on=False)
