"""A cluster in a test's hands, and kubewhy over it: the real rules and a real state, in simulated time."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from analyzers import enabled
from collectors.gather import gather
from collectors.history import History
from collectors.index import Key
from collectors.store import Store, kinds_read
from kubewhy.records import Evidence, Finding, Heartbeat, Inventory, Tick, Version, key_hash
from kubewhy.runtime.embedded import Pipeline, Record, restore
from kubewhy.runtime.patience import patience
from kubewhy.runtime.state import SqliteState
from kubewhy.settings import IncidentSettings, Settings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SPACE = "shop"


def iso(at: datetime) -> str:
    """As the API writes times."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """What is in a cluster, and what its collector says of it."""

    def __init__(self, cluster: str = "c") -> None:
        self.cluster, self.term, self.seq, self.at = cluster, 1, 0, START
        self.touched: dict[Key, None] = {}
        self.store = Store(enabled(), lambda key: self.touched.setdefault(key))
        for kind in kinds_read(enabled()):
            self.store.begin(kind.resource, None, START)
            self.store.synced(kind.resource, None, START)

    def put(self, kind: str, name: str, **fields: Any) -> None:
        """This is how it is now; `metadata` is added to its name and namespace."""
        view = self.store.type_of(kind)
        placed = {"namespace": SPACE} if view.resource.namespaced else {}
        metadata = {"name": name, "uid": f"{kind}-{name}", "creationTimestamp": iso(START - timedelta(days=9))}
        whole = {**fields, "metadata": {**metadata, **placed, **fields.get("metadata", {})}}
        self.store.put(view.resource, msgspec.convert(whole, view), self.at)

    def remove(self, kind: str, name: str) -> None:
        resource = self.store.type_of(kind).resource
        self.store.remove(resource, SPACE if resource.namespaced else None, name, START)

    def news(self, now: datetime) -> list[Evidence]:
        """What may have changed since this was last asked."""
        keys, self.touched = [*self.touched], {}
        return [self._evidence(key, now) for key in keys]

    def everything(self, now: datetime) -> list[Record]:
        """All there is, as it is stated again now and then; what is not there is not listed."""
        keys = [key for kind in sorted(self.store.judged) for key in self.store.keys(kind)]
        return [
            Heartbeat(cluster=self.cluster, version=Version(self.term, self.seq), observed_at=now),
            *(self._evidence(key, now) for key in keys),
            *(self._inventory(kind) for kind in sorted(self.store.judged)),
        ]

    def restart(self) -> None:
        """The collector begins anew: what it does not see any more is not told of as gone, nor what was changed."""
        self.term, self.seq, self.touched, self.store.history = self.term + 1, 0, {}, History()

    def _evidence(self, key: Key, now: datetime) -> Evidence:
        evidence = gather(self.store, key, cluster=self.cluster, version=self._next())
        return msgspec.structs.replace(evidence, observed_at=now)

    def _inventory(self, kind: str) -> Inventory:
        hashes = sorted(key_hash(key.namespace, key.name) for key in self.store.keys(kind))
        return Inventory(
            cluster=self.cluster,
            version=self._next(),
            kind=kind,
            group=self.store.type_of(kind).resource.group,
            namespaces=(),
            low=0,
            high=2**64,
            hashes=tuple(hashes),
        )

    def _next(self) -> Version:
        self.seq += 1
        return Version(self.term, self.seq)


class Run:
    """`kubewhy run --state FILE`, without its collector: what is to be told is remembered before it is."""

    def __init__(self, path: Path, *worlds: World, **says: Any) -> None:
        self.path, self.worlds = path, worlds
        self.settings = Settings(incidents=IncidentSettings.model_validate(says))
        self.now = START
        self.findings: list[Finding] = []
        self._begin()

    def feed(self, records: Iterable[Record]) -> list[str]:
        """What is told because of them."""
        found = []
        for record in records:
            found += self._pipeline.feed([record], self.now)
            self._state.write(self._pipeline.rows())
        self.findings += found
        return [brief(each) for each in found]

    def look(self) -> list[str]:
        """What is told of all that has changed in the clusters."""
        return [told for world in self.worlds for told in self.feed(world.news(self.now))]

    def wait(self, seconds: float, every: float = 1) -> list[str]:
        """Time passes, with heartbeats."""
        told = []
        until = self.now + timedelta(seconds=seconds)
        while self.now < until:
            self.now = min(until, self.now + timedelta(seconds=every))
            told += self.feed([*map(self._beat, self.worlds), Tick()])
        return told

    def restart(self, seconds: float = 0) -> list[str]:
        """The process is killed, and started again so much later; the collector lists everything."""
        self._state.close()
        self.now += timedelta(seconds=seconds)
        self._begin()
        for world in self.worlds:
            world.restart()
        return [told for world in self.worlds for told in self.feed(world.everything(self.now))]

    def transitions(self) -> list[str]:
        return [each.transition for each in self.findings]

    def close(self) -> None:
        self._state.close()

    def _begin(self) -> None:
        self._state = SqliteState(self.path)
        incidents = patience(self.settings, None, (), no_hold=False)
        restore(incidents, self._state)
        self._pipeline = Pipeline(enabled(), incidents=incidents)

    def _beat(self, world: World) -> Heartbeat:
        return Heartbeat(cluster=world.cluster, version=Version(world.term, world.seq), observed_at=self.now)


def brief(finding: Finding) -> str:
    """What happens to which root, and how it ends."""
    ended = f" {finding.incident.resolution}" if finding.incident.resolution else ""
    return f"{finding.transition} {finding.incident.root}{ended}"


def owned(kind: str, name: str) -> dict[str, Any]:
    """Metadata of what such an object controls."""
    group = {"ReplicaSet": "apps/v1", "Deployment": "apps/v1", "Job": "batch/v1"}[kind]
    owner = {"apiVersion": group, "kind": kind, "name": name, "uid": f"{kind}-{name}", "controller": True}
    return {"ownerReferences": [owner], "labels": {"app": name}}


def container(**state: Any) -> Sequence[dict[str, Any]]:
    """The status of a pod's only container."""
    return [{"name": "app", "image": "shop/app:1", **state}]
