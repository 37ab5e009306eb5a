"""Nodes that come, go, are lost and are drained."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from infra.testbed.api import STRATEGIC, Api
from infra.testbed.components import PLUGGED_IN
from infra.testbed.errors import ApiError, NotFound, TestbedError

# The label that says what a node or a pod should play.
PLAY = "kubewhy.dev/play"

_ROOM = {"cpu": "16", "memory": "64Gi", "pods": "250", "ephemeral-storage": "100Gi"}


class Nodes:
    """What is done to nodes, through the API only: the controllers draw the conclusions."""

    def __init__(self, api: Api, kubelet_port: int) -> None:
        self._api, self._port = api, kubelet_port

    def add(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        room: Mapping[str, str] | None = None,
        play: str | None = None,
        conditions: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """A node with a kubelet. `room` overrides its capacity; `conditions` are extra ones nobody will change."""
        ordinary = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/zone": f"zone-{'abc'[sum(name.encode()) % 3]}",
            PLUGGED_IN: "kwok",
        }
        own = {**ordinary, **(labels or {}), **({PLAY: play} if play else {})}
        capacity = {**_ROOM, **(room or {})}
        endpoint = {"kubeletEndpoint": {"Port": self._port}}
        status = {"capacity": capacity, "allocatable": capacity, "conditions": list(conditions)}
        status |= {"daemonEndpoints": endpoint}
        document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": own}}
        self._api.create({**document, "spec": {"taints": list(taints)}})
        self._api.patch_status(_path(name), {"status": status}, STRATEGIC)

    def is_ready(self, name: str) -> bool:
        try:
            return self.condition(name, "Ready") == "True"
        except NotFound:
            return False

    def condition(self, name: str, sort: str) -> str | None:
        """True, False, Unknown; None where the node says nothing of that sort."""
        conditions = self._api.get(_path(name)).get("status", {}).get("conditions", [])
        return next((each["status"] for each in conditions if each["type"] == sort), None)

    def play(self, name: str, play: str | None) -> None:
        """not-ready, memory-pressure, disk-pressure, pid-pressure, network-unavailable; None heals."""
        self._label(name, PLAY, play)

    def lose(self, name: str) -> None:
        """Pulls the plug: nobody renews the lease, and nobody looks after the pods there."""
        self._label(name, PLUGGED_IN, None)

    def find(self, name: str) -> None:
        """Plugs a lost node in again."""
        self._label(name, PLUGGED_IN, "kwok")

    def cordon(self, name: str, *, on: bool = True) -> None:
        self._api.patch(_path(name), {"spec": {"unschedulable": on or None}})

    def drain(self, name: str, timeout_seconds: float = 60.0) -> None:
        """Cordons, then evicts all but the pods of DaemonSets, and waits for budgets that say "not now"."""
        self.cordon(name)
        deadline = time.monotonic() + timeout_seconds
        while pods := [pod for pod in self._pods_on(name) if not _of_daemon_set(pod)]:
            for pod in pods:
                if "deletionTimestamp" not in pod["metadata"]:
                    self._evict(pod["metadata"])
            if time.monotonic() > deadline:
                names = ", ".join(pod["metadata"]["name"] for pod in pods[:5])
                raise TestbedError(f"{name} is not drained after {timeout_seconds:.0f} s: {names}")
            time.sleep(0.5)

    def _pods_on(self, name: str) -> list[dict[str, Any]]:
        return self._api.list("/api/v1/pods", fieldSelector=f"spec.nodeName={name}")

    def _evict(self, pod: Mapping[str, str]) -> None:
        path = f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}/eviction"
        metadata = {"name": pod["name"], "namespace": pod["namespace"]}
        try:
            self._api.request("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
        except ApiError as error:
            # 429: a budget does not allow it yet. 404: gone meanwhile.
            if error.status not in (404, 429):
                raise

    def _label(self, name: str, key: str, value: str | None) -> None:
        self._api.patch(_path(name), {"metadata": {"labels": {key: value}}})


def _path(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def _of_daemon_set(pod: Mapping[str, Any]) -> bool:
    return any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences", ()))
