"""What real controllers make of a trouble is told once, at its cause, and so is its end; also after a kill."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane
from infra.testbed.scenarios import read
from tests.live.audited import audited, granted
from tests.live.command import Running, Shell

pytestmark = pytest.mark.live

TROUBLES = read(Path(__file__).with_name("incidents.yaml"))
# Sooner than by default, so that the test is; and nothing is repeated within its time.
CONFIG = """
incidents:
  keep_open: 5s
  holds: {pod-config-missing: 2s, deployment-unavailable: 2s, service-no-ready-endpoints: 2s,
          deployment-creation-refused: 2s, pod-image-pull: 2s, pod-container-start: 2s}
"""
ROOTS = {
    "crashing": ["Deployment app"],
    "quota": ["ResourceQuota team"],
    "secretless": ["Secret password"],
    "unrelated": ["Deployment pulling", "Deployment starting"],
}
MENDED = ["crashing/deployments/app", *(f"quota/deployments/{name}" for name in "abc")]
MENDED += ["unrelated/deployments/pulling", "unrelated/deployments/starting"]
PULLING = "/apis/apps/v1/namespaces/unrelated/deployments/pulling"
Finding = dict[str, Any]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited() as plane:
        yield plane


def told(run: Running) -> list[Finding]:
    """The findings so far; the last line may not be whole."""
    return [json.loads(line) for line in run.out.splitlines(keepends=True) if line.endswith("\n")]


def roots(findings: list[Finding], transition: str) -> dict[str, list[str]]:
    """Of each namespace, what something was told of so."""
    found: dict[str, list[str]] = {}
    for each in findings:
        if each["transition"] == transition:
            root = each["incident"]["root"]
            found.setdefault(root["namespace"] or "", []).append(f"{root['kind']} {root['name']}")
    return {space: sorted(names) for space, names in found.items()}


def newest(findings: list[Finding], space: str) -> Finding:
    incident: Finding = [each for each in findings if each["incident"]["root"]["namespace"] == space][-1]["incident"]
    return incident


def mend(plane: ControlPlane) -> None:
    plane.api.delete("/api/v1/namespaces/quota/resourcequotas/team")
    secret = {"metadata": {"name": "password", "namespace": "secretless"}, "stringData": {"password": "none"}}
    plane.api.create({"apiVersion": "v1", "kind": "Secret", **secret})
    play = {"spec": {"template": {"metadata": {"labels": {"kubewhy.dev/play": "run"}}}}}
    for path in MENDED:
        plane.api.patch(f"/apis/apps/v1/namespaces/{path}", play)


def test_told_once_by_one_that_is_killed_and_resolved_by_the_next(plane: ControlPlane, tmp_path: Path) -> None:
    config, shell = tmp_path / "kubewhy.yaml", Shell.of(plane)
    config.write_text(CONFIG)
    args: list[str | Path] = ["run", "-o", "json", "--kubeconfig", granted(plane), "--config", config]
    args += ["--state", tmp_path / "kubewhy.state"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each.play(plane), TROUBLES))
    with shell.begin(tmp_path, *args) as first:
        first.until(lambda: roots(told(first), "opened") == ROOTS, 40)
        first.until(lambda: whole(told(first)), 30)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(10)
        before = told(first)
    assert roots(before, "resolved") == {}
    assert len(newest(before, "crashing")["members"]) == 5
    assert {each["object"]["kind"] for each in newest(before, "secretless")["failures"]} >= {"Pod", "Service"}
    with shell.begin(tmp_path, *args) as second:
        mend(plane)
        second.until(lambda: roots(told(second), "resolved") == ROOTS, 60)
        after = told(second)
        plane.api.patch(PULLING, missing("shop/app:2"))
        assert second.end(signal.SIGTERM).status == 0
    with shell.begin(tmp_path, *args) as third:
        third.until(lambda: bool(changed(told(third))), 40)
        assert changed(told(third))[0] == "image of container app: shop/app:1 -> shop/app:2"
        assert third.end(signal.SIGTERM).status == 0
    assert roots(after, "opened") == {}
    assert {each["incident"]["resolution"] for each in after if each["transition"] == "resolved"} == {"recovered"}
    assert {each["incident"]["id"] for each in after} <= {each["incident"]["id"] for each in before}
    ids = [each["id"] for each in (*before, *after)]
    assert len(set(ids)) >= len(ids) - 1  # what was being told when it was killed comes once more


def missing(image: str) -> dict[str, Any]:
    """An image that cannot be had."""
    labels = {"kubewhy.dev/play": "image-missing"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": image}]}}
    return {"spec": {"template": template}}


def changed(findings: list[Finding]) -> list[str]:
    """What was changed last, by the findings of what cannot pull its image."""
    pulling = [each["incident"] for each in findings if each["incident"]["root"]["name"] == "pulling"]
    return [incident["changes"][0]["what"] for incident in pulling if incident["changes"]]


def whole(findings: list[Finding]) -> bool:
    """Whether more has been told of than what failed first: updates come ever more seldom."""
    counts = {space: newest(findings, space)["member_count"] for space in ("crashing", "secretless", "quota")}
    return bool(counts["crashing"] > 5 and counts["secretless"] >= 4 and counts["quota"] == 3)
