"""Watches one cluster and says how its objects are, as often as that changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from collectors.gather import content_hash, gather
from collectors.requests import Cluster
from collectors.sending import Outbox
from collectors.store import Store, kinds_read
from collectors.target import Target
from collectors.watch import follow
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import Object, Resource
from kubewhy.records import Evidence, Heartbeat, Inventory, Version, key_hash

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
INVENTORY_SECONDS = 600.0
_PART = 20_000  # objects in one Inventory record
_ALL_HASHES = 2**64


class Door:
    """The store's and the others' Target in one, that wakes the sender."""

    def __init__(self, targets: Sequence[Target], wake: Callable[[], None]) -> None:
        self._targets, self._wake = targets, wake

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        for target in self._targets:
            target.begin(resource, namespace, at)

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        for target in self._targets:
            target.put(resource, subject, at)
        self._wake()

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        for target in self._targets:
            target.remove(resource, namespace, name, at)
        self._wake()

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        for target in self._targets:
            target.synced(resource, namespace, at)
        self._wake()

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        for target in self._targets:
            target.refused(resource, namespace, reason, at)
        self._wake()


class LiveCollector:
    """One cluster's collector. `also` are further targets, such as a recording."""

    def __init__(
        self,
        cluster: Cluster,
        analyzers: Iterable[Analyzer[Any]],
        namespaces: tuple[str, ...] = (),
        *,
        term: int = 1,
        all_namespaces: bool = False,
        also: Sequence[Target] = (),
    ) -> None:
        self._cluster, self._analyzers = cluster, tuple(analyzers)
        self._namespaces = namespaces
        self._may_narrow = not namespaces and not all_namespaces
        self._kinds = kinds_read(self._analyzers)
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop.time())
        self.store = Store(self._analyzers, self._outbox.touch)
        self._woken = asyncio.Event()
        self._door = Door((self.store, *also), self._woken.set)
        self._version = Version(term, 0)
        self._listed: set[tuple[type[Object], str | None]] = set()  # whose inventory is due

    async def evidence(self) -> AsyncIterator[Evidence | Inventory | Heartbeat]:
        """For ever. Asking for the next record says that the last one has arrived.

        Raises ConfigError when nothing may be read, and for what waiting cannot mend.
        """
        identity, server = await self._cluster.identify(), await self._cluster.server_version()
        tasks = self._follow()
        try:
            tasks = await self._settle(tasks)
            async for record in self._send(identity, server, tasks):
                yield record
        finally:
            await _end(tasks)

    def _scopes(self) -> list[tuple[type[Object], str | None]]:
        return [
            (kind, space)
            for kind in self._kinds
            for space in (self._namespaces if kind.resource.namespaced and self._namespaces else (None,))
        ]

    def _follow(self) -> list[asyncio.Task[None]]:
        def synced(kind: type[Object], space: str | None) -> Callable[[], None]:
            return lambda: self._listed.add((kind, space))

        return [
            asyncio.create_task(
                follow(self._cluster, kind.resource, kind, space, self._door, on_synced=synced(kind, space))
            )
            for kind, space in self._scopes()
        ]

    async def _settle(self, tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
        """Waits until every kind is read or refused: until then, whatever refers to it would seem to lack it."""
        while not all(self.store.settled(kind.resource, space) for kind, space in self._scopes()):
            await self._wait(1.0, tasks)
        namespaced = [(kind, space) for kind, space in self._scopes() if kind.resource.namespaced]
        if any(self.store.known(kind.resource, space) for kind, space in namespaced):
            return tasks
        await _end(tasks)
        if not self._may_narrow:
            raise ConfigError(
                f"{self._cluster.name}: may read nothing ({self.store.refusals()[0][1]}): grant what `kubewhy rbac` "
                "prints, or name a namespace with -n"
            )
        self._may_narrow, self._namespaces = False, (self._cluster.namespace,)
        log.warning("listing all namespaces is forbidden: watching namespace %s only", self._cluster.namespace)
        return await self._settle(self._follow())

    async def _send(
        self, identity: str, server: str, tasks: list[asyncio.Task[None]]
    ) -> AsyncIterator[Evidence | Inventory | Heartbeat]:
        beat = inventory = self._loop.time()
        while True:
            for key, again in self._outbox.due(self._loop.time()):
                evidence = gather(self.store, key, cluster=identity, version=self._next(), server=server)
                told = None if evidence.gone else content_hash(evidence)
                if told is None or again or self._outbox.is_new(key, told):
                    yield evidence
                    self._outbox.acknowledged(key, told)
            now = self._loop.time()
            if now - inventory >= INVENTORY_SECONDS:
                inventory = now
                self._listed.update(self._scopes())
            while self._listed and not len(self._outbox):
                for record in self._inventory(identity, *self._listed.pop()):
                    yield record
            if now >= beat:
                beat = now + HEARTBEAT_SECONDS
                yield Heartbeat(cluster=identity, version=self._version, observed_at=self._cluster.now())
            due = self._outbox.next_due(now)
            await self._wait(1.0 if due is None else min(1.0, due), tasks)

    async def _wait(self, seconds: float, tasks: list[asyncio.Task[None]]) -> None:
        """Until something changed, at most so long. A kind that cannot be followed any more ends it all."""
        for task in tasks:
            if task.done():
                task.result()
        try:
            await asyncio.wait_for(self._woken.wait(), max(seconds, 0.0))
        except TimeoutError:
            return
        self._woken.clear()

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


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
