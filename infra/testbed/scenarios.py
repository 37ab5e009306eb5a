"""What goes wrong in clusters, each made to happen by real controllers, with what a good tool should say of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from infra.testbed.api import STRATEGIC
from infra.testbed.control_plane import wait_until
from infra.testbed.errors import ApiError, TestbedError
from infra.testbed.nodes import PLAY

if TYPE_CHECKING:
    from infra.testbed.control_plane import ControlPlane

_FOLDER = Path(__file__).parent / "scenarios"
# What manifests cannot do, by the name in a scenario's `then`.
Action = Callable[["ControlPlane", str], None]


@dataclass(frozen=True)
class Expected:
    """Objects, by kind and name (or glob), that are to be found, and by which rules."""

    kind: str
    namespace: str  # empty for cluster-wide kinds
    name: str
    rules: frozenset[str]


@dataclass(frozen=True)
class Scenario:
    """One trouble, or one thing that only looks like trouble: then nothing is expected."""

    name: str
    note: str
    manifests: tuple[dict[str, Any], ...]
    # All of it must be found, in one incident; beyond it only what is an echo.
    expected: tuple[Expected, ...] = ()
    # The object that is to blame: kind, namespace (empty for cluster-wide kinds), name (or glob).
    root: tuple[str, str, str] | None = None
    # Rules that this may break without harm, so long as it has not lasted for long.
    pending: frozenset[str] = frozenset()
    then: tuple[tuple[str, str], ...] = ()

    @property
    def namespace(self) -> str:
        return next((each["metadata"]["name"] for each in self.manifests if each["kind"] == "Namespace"), "")

    @property
    def healthy(self) -> bool:
        return not self.expected

    def play(self, plane: "ControlPlane") -> None:
        """Makes it happen. What follows takes the controllers seconds; this does not wait for it."""
        plane.api.apply(self.manifests)
        for action, subject in self.then:
            _ACTIONS[action](plane, subject)


def find(name: str) -> tuple[Scenario, ...]:
    """One scenario by name; "all" and "none" are what they say."""
    if name == "none":
        return ()
    found = tuple(each for each in SCENARIOS if name in (each.name, "all"))
    if not found:
        raise TestbedError(f"no scenario {name}: see python -m infra.testbed list")
    return found


def read(path: Path) -> list[Scenario]:
    """A file of scenarios: a document that describes one, then its manifests, then the next."""
    scenarios: list[Scenario] = []
    about: dict[str, Any] = {}
    manifests: list[dict[str, Any]] = []
    for document in (*yaml.safe_load_all(path.read_text()), {"scenario": None}):
        if "scenario" not in document:
            manifests.append(document)
            continue
        if about:
            scenarios.append(_scenario(about, manifests))
        about, manifests = document, []
    return scenarios


def _scenario(about: dict[str, Any], manifests: list[dict[str, Any]]) -> Scenario:
    name = about["scenario"]
    whole = about.get("cluster", False)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    placed = [_placed(each, name) for each in manifests]
    root = about.get("root")
    return Scenario(
        name=name,
        note=about["note"],
        manifests=tuple(placed if whole else [namespace, *placed]),
        expected=tuple(
            Expected(*_ref(told, name), frozenset([rules] if isinstance(rules, str) else rules))
            for told, rules in about.get("expected", {}).items()
        ),
        root=_ref(root, name) if root else None,
        pending=frozenset(about.get("pending", ())),
        then=tuple(_pair(each) for each in about.get("then", ())),
    )


_CLUSTER_WIDE = {
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
}


def _placed(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    if manifest["kind"] in _CLUSTER_WIDE:
        return manifest
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def _pair(told: str) -> tuple[str, str]:
    kind, _, name = told.partition("/")
    return kind, name


def _ref(told: str, namespace: str) -> tuple[str, str, str]:
    kind, name = _pair(told)
    return kind, "" if kind in _CLUSTER_WIDE else namespace, name


# Keeps other scenarios' pods off the nodes in trouble.
_KEEP_OFF = ({"key": "testbed.kubewhy.dev/troubled", "effect": "NoSchedule"},)


def _add_node(plane: "ControlPlane", name: str) -> None:
    name, _, play = name.partition("=")
    plane.nodes.add(name, play=play or None, taints=_KEEP_OFF)


def _lose_node(plane: "ControlPlane", name: str) -> None:
    plane.api.wait(f"/api/v1/nodes/{name}", lambda _: plane.nodes.is_ready(name), 30)
    plane.nodes.lose(name)


def _cordon(plane: "ControlPlane", name: str) -> None:
    plane.nodes.cordon(name)


def _taint(plane: "ControlPlane", told: str) -> None:
    name, key = told.split()
    plane.api.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": [*_KEEP_OFF, {"key": key, "effect": "NoSchedule"}]}})


def _detect(plane: "ControlPlane", told: str) -> None:
    """As the node problem detector does: a condition of its own sort."""
    name, sort = told.split()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": sort, "status": "True", "reason": sort, "message": "task blocked", "lastTransitionTime": now}
    plane.api.patch_status(f"/api/v1/nodes/{name}", {"status": {"conditions": [condition]}}, STRATEGIC)


def _age(plane: "ControlPlane", told: str) -> None:
    """Another version of the kubelet. The played one may write its own once more while the node begins."""
    name, version = told.split()
    path = f"/api/v1/nodes/{name}"
    plane.api.wait(path, lambda _: plane.nodes.is_ready(name), 30)
    for _ in range(3):
        plane.api.patch_status(path, {"status": {"nodeInfo": {"kubeletVersion": version}}}, STRATEGIC)
        time.sleep(1)


def _delete_volume(plane: "ControlPlane", name: str) -> None:
    # A volume in use is protected: it goes when its finalizer does.
    path = f"/api/v1/persistentvolumes/{name}"
    plane.api.delete(path)
    if plane.api.exists(path):
        plane.api.patch(path, {"metadata": {"finalizers": None}})


def _delete(plane: "ControlPlane", path: str) -> None:
    plane.api.delete(path)


def _await_bound(plane: "ControlPlane", path: str) -> None:
    plane.api.wait(path, lambda claim: claim.get("status", {}).get("phase") == "Bound", 60)


def _await_ready(plane: "ControlPlane", path: str) -> None:
    """All replicas: what befalls them then befalls them in full service."""
    plane.api.wait(path, lambda seen: seen["status"].get("readyReplicas", 0) >= seen["spec"].get("replicas", 1), 60)


def _await_pods(plane: "ControlPlane", namespace: str) -> None:
    plane.api.wait(_pods(namespace), lambda pods: bool(pods["items"]), 60)


def _await_pods_running(plane: "ControlPlane", namespace: str) -> None:
    def running(pods: Mapping[str, Any]) -> bool:
        return bool(pods["items"]) and all(each["status"].get("phase") == "Running" for each in pods["items"])

    plane.api.wait(_pods(namespace), running, 60)


def _await_failed_job(plane: "ControlPlane", namespace: str) -> None:
    def failed(jobs: Mapping[str, Any]) -> bool:
        return any(
            each["type"] == "Failed" and each["status"] == "True"
            for job in jobs["items"]
            for each in job["status"].get("conditions", ())
        )

    plane.api.wait(f"/apis/batch/v1/namespaces/{namespace}/jobs", failed, 60)


def _await_refused(plane: "ControlPlane", namespace: str) -> None:
    """The API server takes a while to heed a new policy."""
    container = {"name": "app", "image": "shop/app:1"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [container]}}

    def refused() -> bool:
        try:
            plane.api.request("POST", _pods(namespace), pod, query={"dryRun": "All"})
        except ApiError as error:
            return error.status in (403, 422)
        return False

    wait_until(f"pods are refused in {namespace}", refused, 60)


def _change_play(plane: "ControlPlane", told: str) -> None:
    """Of the pods to come, as a new version of the application does."""
    path, play = told.split()
    template = {"template": {"metadata": {"labels": {PLAY: play}}}}
    of_jobs = "/cronjobs/" in path
    plane.api.patch(path, {"spec": {"jobTemplate": {"spec": template}} if of_jobs else template})


def _turn_pods(plane: "ControlPlane", told: str) -> None:
    """Some pods that are there play something else from now on."""
    namespace, count, play = told.split()
    for pod in plane.api.list(_pods(namespace))[: int(count)]:
        plane.api.patch(f"{_pods(namespace)}/{pod['metadata']['name']}", {"metadata": {"labels": {PLAY: play}}})


def _restart(plane: "ControlPlane", path: str) -> None:
    """As kubectl rollout restart does."""
    annotations = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat()}
    plane.api.patch(path, {"spec": {"template": {"metadata": {"annotations": annotations}}}})


def _delete_pods(plane: "ControlPlane", namespace: str) -> None:
    """Not before they run: a pod that never started goes at once."""
    _await_pods_running(plane, namespace)
    for pod in plane.api.list(_pods(namespace)):
        plane.api.delete(f"{_pods(namespace)}/{pod['metadata']['name']}", grace=5)


def _say(plane: "ControlPlane", told: str) -> None:
    """An Event about each pod, by a component that the testbed does not have."""
    namespace, component, reason, message = told.split(maxsplit=3)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for pod in plane.api.list(_pods(namespace)):
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        about = {"kind": "Pod", "namespace": namespace, "name": name, "uid": uid, "apiVersion": "v1"}
        plane.api.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{name}.{reason.lower()}", "namespace": namespace},
                "involvedObject": about,
                "type": "Normal",
                "reason": reason,
                "message": message,
                "source": {"component": component},
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
            }
        )


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


_ACTIONS: dict[str, Action] = {
    "add-node": _add_node,
    "lose-node": _lose_node,
    "cordon": _cordon,
    "taint": _taint,
    "detect": _detect,
    "age": _age,
    "delete": _delete,
    "delete-volume": _delete_volume,
    "await-bound": _await_bound,
    "await-ready": _await_ready,
    "await-pods": _await_pods,
    "await-pods-running": _await_pods_running,
    "await-failed-job": _await_failed_job,
    "await-refused": _await_refused,
    "change-play": _change_play,
    "turn-pods": _turn_pods,
    "restart": _restart,
    "delete-pods": _delete_pods,
    "say": _say,
}

SHOP = read(_FOLDER / "shop.yaml")[0]
SCENARIOS = tuple(each for path in sorted(_FOLDER.glob("*.yaml")) if path.stem != "shop" for each in read(path))
