"""Watches one cluster and says how its objects are, as often as that changes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.logs import Logs
from collectors.requests import Cluster
from collectors.sending import MOST, RESTATE_SECONDS, Outbox
from collectors.store import Store, kinds_read
from collectors.watch import Note, unnoted
from collectors.watching import Watching
from kubewhy.contracts import Analyzer
from kubewhy.kube.meta import Object
from kubewhy.records import Evidence, Heartbeat, Inventory, Version, key_hash

HEARTBEAT_SECONDS = 10.0
INVENTORY_SECONDS = 600.0
_PART = 20_000  # objects in one Inventory record
_ALL_HASHES = 2**64


@dataclass(frozen=True)
class Pace:
    """In seconds: how often it says that it lives, and which objects there are, and in what time it says all again."""

    heartbeat: float = HEARTBEAT_SECONDS
    inventory: float = INVENTORY_SECONDS
    restate: int = RESTATE_SECONDS


class LiveCollector:
    """One cluster's collector, which speaks as `cluster_id` where one is given, else as the cluster's own id.

    `name` is what people call it, where that is not what the kubeconfig calls it. With `redact`, which takes secrets
    out of a text, the last log lines of containers that died are read.
    """

    def __init__(
        self,
        cluster: Cluster,
        analyzers: Iterable[Analyzer[Any]],
        namespaces: tuple[str, ...] = (),
        *,
        term: int = 1,
        all_namespaces: bool = False,
        cluster_id: str | None = None,
        name: str | None = None,
        redact: Callable[[str], str] | None = None,
        pace: Pace = Pace(),
        on_event: Note = unnoted,
        on_list: Note = unnoted,
    ) -> None:
        analyzers = tuple(analyzers)
        self._cluster, self._id, self._name = cluster, cluster_id, name or cluster.name
        self._loop = asyncio.get_running_loop()
        self._pace = pace
        self._outbox = Outbox(self._loop.time(), pace.restate)
        self.store = Store(analyzers, self._outbox.touch)
        kinds = kinds_read(analyzers)
        self._watching = Watching(
            cluster,
            kinds,
            namespaces,
            [self.store],
            all_namespaces=all_namespaces,
            on_event=on_event,
            on_list=on_list,
        )
        self._version = Version(term, 0)
        self._logs = Logs(cluster, redact, self._outbox.touch) if redact else None

    async def evidence(self) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]:
        """For ever. Asking for the next record says that the last one has arrived.

        Raises ConfigError when nothing may be read, and for what waiting cannot mend.
        """
        identity = self._id or await self._cluster.identify()
        server = await self._cluster.server_version()
        try:
            await self._watching.settle()
            async for record in self._send(identity, server):
                yield record
        finally:
            await self._watching.close()
            if self._logs:
                await self._logs.close()

    async def _send(self, identity: str, server: str) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]:
        listed = self._watching.listed
        beat = inventory = self._loop.time()
        listing = True
        while True:
            now = self._loop.time()
            if now >= beat:
                beat = now + self._pace.heartbeat
                yield self._heartbeat(identity, listing=listing)
            most = MOST
            for key, again in self._outbox.due(self._loop.time(), MOST):
                most -= 1
                evidence = gather(self.store, key, cluster=identity, version=self._next(), server=server)
                if self._logs:
                    evidence = self._logs.add(evidence)
                told = None if evidence.gone else content_hash(evidence)
                news = self._outbox.is_new(key, told)
                if again or news:
                    # Of what is there at a start, what the cluster itself complains of comes first.
                    restated = not (news and (evidence.events or not listing))
                    yield replace(evidence, restated=True) if restated else evidence
                    self._outbox.acknowledged(key, told)
            if listing and most:  # all that waited at the start was said
                listing, beat = False, now + self._pace.heartbeat
                yield self._heartbeat(identity)
            now = self._loop.time()
            if now - inventory >= self._pace.inventory:
                inventory = now
                listed.update(self._watching.scopes)
            while listed:
                for record in self._inventory(identity, *listed.pop()):
                    yield record
            due = self._outbox.next_due(now)
            await self._watching.wait(1.0 if due is None else min(1.0, due))

    @property
    def waiting(self) -> int:
        """Objects of which something is still to be said."""
        return len(self._outbox)

    def lost(self, evidence: Evidence) -> None:
        """It has not arrived after all: how the object is then is said again."""
        ref = evidence.ref
        self._outbox.lost(Key(ref.kind, ref.namespace, ref.name))

    def _heartbeat(self, identity: str, *, listing: bool = False) -> Heartbeat:
        at = self._cluster.now()
        version, name = self._version, self._name
        return Heartbeat(cluster=identity, version=version, observed_at=at, name=name, listing=listing)

    def _next(self) -> Version:
        self._version = Version(self._version.term, self._version.seq + 1)
        return self._version

    def _inventory(self, identity: str, kind: type[Object], space: str | None) -> list[Inventory]:
        resource = kind.resource
        if not self.store.known(resource, space) or resource.kind not in self.store.judged:
            return []
        keys = (key for key in self.store.keys(resource.kind) if space is None or key.namespace == space)
        hashes = sorted(key_hash(key.namespace, key.name) for key in keys)
        cuts = [0, *hashes[_PART::_PART], _ALL_HASHES]
        version = self._next()
        return [
            Inventory(
                cluster=identity,
                version=version,
                kind=resource.kind,
                group=resource.group,
                namespaces=() if space is None else (space,),
                low=low,
                high=high,
                hashes=tuple(each for each in hashes if low <= each < high),
            )
            for low, high in pairwise(cuts)
        ]
