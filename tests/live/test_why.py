"""`kubewhy why` and `kubewhy analyze --wait` on a real cluster: what controllers break, and how rollouts end."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from infra.testbed.api import STRATEGIC
from infra.testbed.control_plane import ControlPlane
from infra.testbed.scenarios import SHOP, find
from tests.live.audited import audited, granted
from tests.live.cli import KUBEWHY, kubewhy
from tests.live.test_quiet import in_service

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "reference" / "schemas" / "answer.json").read_text())
BROKEN = [find(name)[0] for name in ("secret-brings-all-down", "node-lost", "pod-crash")]
WEB = "/apis/apps/v1/namespaces/shop/deployments/web"
# The longest hold among what is looked for is three minutes.
LONGEST = 240.0

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited() as plane, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each.play(plane), (SHOP, *BROKEN)))
        for kind, name in (("deployments", "web"), ("statefulsets", "db"), ("daemonsets", "logs")):
            plane.api.wait(f"/apis/apps/v1/namespaces/shop/{kind}/{name}", in_service, 90)
        plane.api.wait("/apis/batch/v1/namespaces/shop/jobs/import", lambda job: "succeeded" in job["status"], 60)
        yield plane


@pytest.fixture(scope="module")
def kubeconfig(plane: ControlPlane) -> Path:
    return granted(plane)


def why(kubeconfig: Path, named: str, *args: str) -> Answer:
    """What `kubewhy why -o json` prints, which is as its schema says."""
    told: Answer = json.loads(kubewhy("why", named, "--kubeconfig", kubeconfig, "-o", "json", *args).stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(told)
    return told


def once(kubeconfig: Path, named: str, namespace: str, true: Callable[[Answer], bool]) -> Answer:
    """The answer as soon as it is so, or when the time for it is over."""
    ends = time.monotonic() + LONGEST
    while True:
        told = why(kubeconfig, named, "-n", namespace)
        if true(told) or time.monotonic() > ends:
            return told
        time.sleep(1)


def is_open(told: Answer) -> bool:
    return any(each["state"] == "open" and each["failures"] for each in told["incidents"])


def way(told: Answer) -> list[str]:
    return [f"{each['how']} {each['object']['kind']}".strip() for each in told["incidents"][0]["chain"]]


def pod_of(plane: ControlPlane, namespace: str) -> str:
    name: str = plane.api.list(f"/api/v1/namespaces/{namespace}/pods")[0]["metadata"]["name"]
    return name


def test_all_that_lacks_a_secret_leads_to_it(plane: ControlPlane, kubeconfig: Path) -> None:
    space = "secret-brings-all-down"
    pod = once(kubeconfig, f"po/{pod_of(plane, space)}", space, is_open)
    assert (pod["place"], way(pod)) == ("symptom", ["Pod", "blames Secret"])
    assert pod["incidents"][0]["next"][0] == f"kubectl get secret token -n {space}"
    assert [each["state"] for each in pod["evidence"]["containers"]] == ["waiting"]
    deployment = once(kubeconfig, "deploy/app", space, is_open)
    assert way(deployment) == ["Deployment", "echoes Pod", "blames Secret"]
    assert deployment["incidents"][0]["changes"][0]["what"] == "it was created"
    service = once(kubeconfig, "svc/app", space, is_open)
    assert way(service) == ["Service", "echoes Deployment", "echoes Pod", "blames Secret"]
    secret = why(kubeconfig, "secret/token", "-n", space)
    assert (secret["place"], secret["found"]) == ("root", None)
    assert {each["incidents"][0]["root"]["name"] for each in (pod, deployment, service, secret)} == {"token"}


def test_a_lost_node_is_the_root_for_its_pods(plane: ControlPlane, kubeconfig: Path) -> None:
    pod = once(kubeconfig, f"pod/{pod_of(plane, 'node-lost')}", "node-lost", is_open)
    assert (pod["place"], way(pod)) == ("symptom", ["Pod", "blames Node"])
    node = why(kubeconfig, "node/lost-1")
    assert (node["place"], node["incidents"][0]["state"]) == ("root", "open")
    assert {each["type"] for each in node["evidence"]["conditions"] if not each["good"]} > {"Ready"}
    assert {each["object"]["namespace"] for each in node["incidents"][0]["others"]} == {"node-lost"}
    assert pod["incidents"][0]["title"] == node["incidents"][0]["title"]


def test_a_crash_shows_its_exit_code_and_leads_to_the_workload(plane: ControlPlane, kubeconfig: Path) -> None:
    name = pod_of(plane, "pod-crash")
    told = once(kubeconfig, f"pod/{name}", "pod-crash", is_open)
    assert (told["place"], way(told)) == ("symptom", ["Pod", "owned by Deployment"])
    (container,) = told["evidence"]["containers"]
    assert container["exit"] == 1
    assert container["restarts"] > 0
    assert told["incidents"][0]["next"][-1] == f"kubectl logs {name} -n pod-crash -c app --previous"
    assert why(kubeconfig, "deploy/app", "-n", "pod-crash")["place"] == "root"


@pytest.mark.parametrize(
    "named", ["deploy/web", "sts/db", "ds/logs", "job/import", "cj/report", "svc/web", "pvc/data-db-0"]
)
def test_what_is_well_is_told_in_one_line(plane: ControlPlane, kubeconfig: Path, named: str) -> None:
    told = kubewhy("why", *named.split("/"), "-n", "shop", "--kubeconfig", kubeconfig)
    assert told.stdout.count("\n") == 1
    assert " is well: none of " in told.stdout
    assert told.stderr == ""


def test_a_rollout_that_succeeds_has_settled_when_it_is_over(plane: ControlPlane, kubeconfig: Path) -> None:
    slower = {"minReadySeconds": 3, "template": {"metadata": {"annotations": {"version": "2"}}}}
    plane.api.patch(WEB, {"spec": slower}, STRATEGIC)
    told = kubewhy("analyze", "-n", "shop", "--wait", "3m", "--fail-on", "info", "--kubeconfig", kubeconfig)
    assert told.stderr.startswith("settled after ")
    assert "shop/" not in told.stdout
    seen = plane.api.get(WEB)
    assert in_service(seen)
    assert seen["status"]["updatedReplicas"] == seen["status"]["availableReplicas"] == seen["status"]["replicas"] == 3
    assert seen["status"]["observedGeneration"] == seen["metadata"]["generation"]


def test_a_deployment_that_no_controller_has_seen_has_not_settled(plane: ControlPlane, kubeconfig: Path) -> None:
    plane.pause("controllers")
    try:
        plane.api.patch(WEB, {"spec": {"template": {"metadata": {"annotations": {"version": "3"}}}}}, STRATEGIC)
        command = ("analyze", "-n", "shop", "-f", "deploy", "--kubeconfig", kubeconfig, "--wait")
        told = kubewhy(*command, "2s", status=1)
        assert told.stderr.startswith("still not settled after 2s: Deployment shop/web: its controller has not seen")
        with subprocess.Popen([KUBEWHY, *command, "3m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            plane.resume("controllers")
            assert waiting.wait(200) == 0
    finally:
        plane.resume("controllers")
    assert in_service(plane.api.get(WEB))


def test_a_rollout_that_fails_fires_once_it_has_lasted(plane: ControlPlane, kubeconfig: Path) -> None:
    find("pod-image-missing")[0].play(plane)
    command = ("analyze", "-n", "pod-image-missing", "--wait", "5m", "--kubeconfig", kubeconfig, "-o", "json")
    told = kubewhy(*command, "--fail-on", "critical", status=3)
    assert told.stderr.startswith("fired after ")
    # A node is lost too, but in no namespace.
    incidents = {each["root"]["kind"]: each for each in json.loads(told.stdout)["incidents"]}
    assert incidents["Deployment"]["severity"] == "critical"
    assert incidents["Deployment"]["title"] in told.stderr
    assert kubewhy(*command, status=1).stderr.startswith("fired after less than 1s: critical, ")
