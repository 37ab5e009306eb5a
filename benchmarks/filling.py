"""Fills a control plane with a large shop in seconds.

The API server writes one object of each sort, with all it adds of itself (defaults, managedFields). Copies of that
go straight into etcd, where its caches find them: creating ten thousand pods one by one would take minutes.
"""

import base64
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import urllib3

from benchmarks import shop
from infra.testbed.control_plane import ControlPlane, wait_until

AGE_HOURS = 6.0
PER_APP = 48
_SPACES = 20
# Where the API server keeps what does not lie under its plural.
_FOLDERS = {"Node": "minions"}

Entry = tuple[str, str]  # etcd's key, and the object's JSON


@dataclass(frozen=True)
class Size:
    """How large the shop is. One pod in twenty is broken."""

    pods: int = 10_000
    nodes: int = 100
    lone: int = 400  # pods without an owner, of `pods`; they are for breaking and mending

    @property
    def apps(self) -> int:
        """Each has a service in front of it."""
        return (self.pods - self.lone) // PER_APP


class Mould:
    """An object as the API server stores it, to make copies of."""

    def __init__(self, plane: ControlPlane, document: shop.Document) -> None:
        api = plane.api
        path = api.path(document)
        made = api.create(document)
        if "status" in document:
            made = api.patch_status(path, {"status": document["status"]})
        api.delete(path, grace=0)
        metadata = made["metadata"]
        self._uid: str = metadata["uid"]
        del metadata["resourceVersion"]
        metadata["creationTimestamp"] = shop.hours_ago(AGE_HOURS)
        self._text = msgspec.json.encode(made).decode()
        kind = document["kind"]
        self._folder = _FOLDERS.get(kind, path.split("/")[-2])
        self._key = "/registry/" + "/".join(
            part for part in (self._folder, metadata.get("namespace"), metadata["name"]) if part
        )

    def copy(self, uid: str, marks: Mapping[str, str]) -> Entry:
        """The same object under other names."""
        key, text = self._key, self._text.replace(self._uid, uid)
        for mark, name in marks.items():
            key, text = key.replace(mark, name), text.replace(mark, name)
        return key, text


def fill(plane: ControlPlane, size: Size) -> None:
    """Returns when the API server tells of all of it."""
    for number in range(_SPACES):
        space = _space(number)
        plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": space}}
        plane.api.create(account)
    _services(plane, size)
    _write(plane.etcd_url, _entries(plane, size))
    wait_until("the API server tells of every pod", lambda: _told(plane) == size.pods, 60)


def _told(plane: ControlPlane) -> int:
    page = plane.api.get("/api/v1/pods", limit=1)
    return 1 + int(page["metadata"].get("remainingItemCount", 0))


def _services(plane: ControlPlane, size: Size) -> None:
    """These the API server makes itself, because it hands out their addresses."""
    text = json.dumps(shop.service())
    copies = (json.loads(_replaced(text, _app(number))) for number in range(size.apps))
    plane.api.create_many(copies)


def _entries(plane: ControlPlane, size: Size) -> Iterator[Entry]:
    node = Mould(plane, shop.node())
    for number in range(size.nodes):
        yield node.copy(_uid("Node", number), {shop.NODE: _node(number), shop.ADDRESS: f"10.97.0.{number % 250}"})
    healthy: list[str | None] = [None] * PER_APP
    moulds: dict[str | None, _AppMoulds] = {None: _AppMoulds(plane, healthy)}
    for trouble in shop.TROUBLES:
        broken = [trouble if replica % 5 == 0 else None for replica in range(PER_APP)]
        moulds[trouble] = _AppMoulds(plane, broken)
    for number in range(size.apps):
        # A fifth of the replicas of every fourth application is broken: one pod in twenty.
        chosen = shop.TROUBLES[number // 4 % len(shop.TROUBLES)] if number % 4 == 0 else None
        yield from moulds[chosen].entries(number, size)
    lone = Mould(plane, shop.lone_pod())
    for number in range(size.lone):
        marks = {shop.APP: lone_name(number), shop.SPACE: _space(number), **_place(number, size)}
        yield lone.copy(_uid("lone", number), marks)


class _AppMoulds:
    """An application whose replicas are each well, or broken in some way."""

    def __init__(self, plane: ControlPlane, replicas: Sequence[str | None]) -> None:
        self._replicas = replicas
        count, ready = len(replicas), sum(1 for trouble in replicas if trouble is None)
        addressed = [trouble is None for trouble in replicas if trouble != "unschedulable"]
        self._whole = {
            "Deployment": Mould(plane, shop.deployment(count, ready)),
            "ReplicaSet": Mould(plane, shop.replica_set(count, ready)),
            "EndpointSlice": Mould(plane, shop.endpoint_slice(addressed)),
        }
        self._pods = {trouble: Mould(plane, shop.pod(trouble)) for trouble in set(replicas)}
        self._events = {trouble: [Mould(plane, each) for each in shop.events(trouble)] for trouble in set(replicas)}

    def entries(self, number: int, size: Size) -> Iterator[Entry]:
        """All objects of one such application."""
        owners = {shop.uid(kind): _uid(kind, number) for kind in ("Deployment", "ReplicaSet")}
        marks = {**_app(number), **owners}
        for kind, mould in self._whole.items():
            yield mould.copy(_uid(kind, number), marks)
        for replica, trouble in enumerate(self._replicas):
            place = number * PER_APP + replica
            own = {**marks, f"-{shop.POD}": f"-pod{replica:02}", **_place(place, size)}
            uid = _uid("Pod", place)
            yield self._pods[trouble].copy(uid, own)
            # Most starts are long ago, and Events are kept for an hour.
            if trouble or replica < 4:
                for index, event in enumerate(self._events[trouble]):
                    yield event.copy(_uid(f"Event{index}", place), {**own, shop.uid("Pod"): uid})


def lone_name(number: int) -> str:
    """The name of a pod without owner, and its namespace is that of the application of that number."""
    return f"lone-{number:05}"


def lone_path(number: int) -> str:
    return f"/api/v1/namespaces/{_space(number)}/pods/{lone_name(number)}"


def replica_path(app: int, replica: int) -> str:
    return f"/api/v1/namespaces/{_space(app)}/pods/app-{app:05}-{shop.HASH}-pod{replica:02}"


def _space(number: int) -> str:
    return f"space-{number % _SPACES:02}"


def _node(number: int) -> str:
    return f"node-{number:03}"


def _app(number: int) -> dict[str, str]:
    return {shop.APP: f"app-{number:05}", shop.SPACE: _space(number)}


def _place(number: int, size: Size) -> dict[str, str]:
    return {shop.NODE: _node(number % size.nodes), shop.ADDRESS: f"10.98.{number // 200}.{number % 200 + 1}"}


def _uid(kind: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}/{number}"))


def _replaced(text: str, marks: Mapping[str, str]) -> str:
    for mark, name in marks.items():
        text = text.replace(mark, name)
    return text


def _write(etcd_url: str, entries: Iterable[Entry]) -> None:
    pool = urllib3.PoolManager(maxsize=4, block=True, retries=False)

    def put(entry: Entry) -> None:
        key, value = (base64.b64encode(text.encode()).decode() for text in entry)
        reply = pool.request("POST", f"{etcd_url}/v3/kv/put", json={"key": key, "value": value})
        if reply.status != 200:
            raise RuntimeError(f"etcd refused {entry[0]}: HTTP {reply.status}")

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(put, entries):
            pass
