"""What goes wrong in clusters, each made to happen by real controllers, with what a good tool should say of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from infra.testbed.errors import TestbedError

if TYPE_CHECKING:
    from infra.testbed.control_plane import ControlPlane

_FOLDER = Path(__file__).parent / "scenarios"
# What manifests cannot do, by the name in a scenario's `then`.
Action = Callable[["ControlPlane", str], None]


@dataclass(frozen=True)
class Scenario:
    """One trouble, or one thing that only looks like trouble: then nothing is expected."""

    name: str
    note: str
    manifests: tuple[dict[str, Any], ...]
    # Kinds and names (or globs) that may rightly be reported.
    expected: tuple[tuple[str, str], ...] = ()
    # The object that is to blame: kind, namespace (empty for cluster-wide kinds), name.
    root: tuple[str, str, str] | None = None
    then: tuple[tuple[str, str], ...] = ()

    @property
    def namespace(self) -> str:
        return next((each["metadata"]["name"] for each in self.manifests if each["kind"] == "Namespace"), "")

    @property
    def healthy(self) -> bool:
        return not self.expected

    @property
    def plays(self) -> frozenset[str]:
        templates = (each.get("spec", {}).get("template", each) for each in self.manifests)
        labels = (each.get("metadata", {}).get("labels", {}) for each in templates)
        return frozenset(each["kubewhy.dev/play"] for each in labels if "kubewhy.dev/play" in each)

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


def _read(path: Path) -> list[Scenario]:
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
        expected=tuple(_pair(each) for each in about.get("expected", ())),
        root=(_pair(root)[0], "" if _pair(root)[0] in _CLUSTER_WIDE else name, _pair(root)[1]) if root else None,
        then=tuple(_pair(each) for each in about.get("then", ())),
    )


_CLUSTER_WIDE = {"Node", "PersistentVolume", "StorageClass", "Namespace", "PriorityClass"}


def _placed(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    if manifest["kind"] in _CLUSTER_WIDE:
        return manifest
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def _pair(told: str) -> tuple[str, str]:
    kind, _, name = told.partition("/")
    return kind, name


# Keeps other scenarios' pods off the nodes in trouble.
_KEEP_OFF = ({"key": "testbed.kubewhy.dev/troubled", "effect": "NoSchedule"},)


def _add_node(plane: "ControlPlane", name: str) -> None:
    name, _, play = name.partition("=")
    plane.nodes.add(name, play=play or None, taints=_KEEP_OFF)


def _lose_node(plane: "ControlPlane", name: str) -> None:
    plane.nodes.add(name, taints=_KEEP_OFF)
    plane.api.wait(f"/api/v1/nodes/{name}", lambda _: plane.nodes.is_ready(name), 30)
    plane.nodes.lose(name)


def _delete_volume(plane: "ControlPlane", name: str) -> None:
    # A volume in use is protected: it goes when its finalizer does.
    path = f"/api/v1/persistentvolumes/{name}"
    plane.api.delete(path)
    if plane.api.exists(path):
        plane.api.patch(path, {"metadata": {"finalizers": None}})


def _await_bound(plane: "ControlPlane", path: str) -> None:
    plane.api.wait(path, lambda claim: claim.get("status", {}).get("phase") == "Bound", 60)


def _await_ready(plane: "ControlPlane", path: str) -> None:
    plane.api.wait(path, lambda seen: seen.get("status", {}).get("readyReplicas", 0) > 0, 60)


def _break_image(plane: "ControlPlane", path: str) -> None:
    _await_ready(plane, path)
    pod = {"metadata": {"labels": {"kubewhy.dev/play": "image-missing"}}}
    plane.api.patch(path, {"spec": {"template": pod}})


def _restart(plane: "ControlPlane", path: str) -> None:
    _await_ready(plane, path)
    annotations = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    plane.api.patch(path, {"spec": {"template": {"metadata": {"annotations": annotations}}}})


def _delete_pods(plane: "ControlPlane", namespace: str) -> None:
    """Not before they run: a pod that never started goes at once."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    plane.api.wait(path, lambda pods: any(each["status"]["phase"] == "Running" for each in pods["items"]), 60)
    for pod in plane.api.list(path):
        plane.api.delete(f"{path}/{pod['metadata']['name']}", grace=5)


_ACTIONS: dict[str, Action] = {
    "add-node": _add_node,
    "lose-node": _lose_node,
    "delete-volume": _delete_volume,
    "await-bound": _await_bound,
    "break-image": _break_image,
    "restart": _restart,
    "delete-pods": _delete_pods,
}

SHOP = _read(_FOLDER / "shop.yaml")[0]
SCENARIOS = tuple(each for path in sorted(_FOLDER.glob("*.yaml")) if path.stem != "shop" for each in _read(path))
