"""Records Events as the kubelet does: a repeat raises the count of the one before."""

import secrets
import threading
from typing import Any

from infra.testbed.api import Api
from infra.testbed.errors import NotFound
from infra.testbed.kubelet.container import timestamp
from infra.testbed.kubelet.pod import Pod, Said


class Recorder:
    """Remembers what it said of which pod, until told to forget it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[tuple[str, Said], tuple[str, int]] = {}
        self._lock = threading.Lock()

    def record(self, pod: Pod, said: Said) -> None:
        key = (pod.uid, said)
        collection = f"/api/v1/namespaces/{pod.namespace}/events"
        if known := self._known.get(key):
            name, count = known
            try:
                self._api.patch(f"{collection}/{name}", {"count": count + 1, "lastTimestamp": timestamp()})
            except NotFound:  # it has expired
                pass
            else:
                self._remember(key, name, count + 1)
                return
        name = f"{pod.name}.{secrets.token_hex(8)}"
        self._api.request("POST", collection, _event(name, pod, said))
        self._remember(key, name, 1)

    def forget(self, uid: str) -> None:
        with self._lock:
            for key in [key for key in self._known if key[0] == uid]:
                del self._known[key]

    def _remember(self, key: tuple[str, Said], name: str, count: int) -> None:
        with self._lock:
            self._known[key] = (name, count)


def _event(name: str, pod: Pod, said: Said) -> dict[str, Any]:
    now = timestamp()
    metadata = pod.document["metadata"]
    subject = {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
    host = pod.spec["nodeName"]
    # The attach-detach controller speaks of pods too, but from no node.
    source = {"component": said.component, **({"host": host} if said.component == "kubelet" else {})}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": pod.namespace},
        "involvedObject": {
            **subject,
            "resourceVersion": metadata["resourceVersion"],
            **({"fieldPath": said.field} if said.field else {}),
        },
        "type": said.type,
        "reason": said.reason,
        "message": said.message,
        "source": source,
        "reportingComponent": said.component,
        "reportingInstance": source.get("host", ""),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
