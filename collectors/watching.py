"""Follows all kinds of one cluster at once, into as many targets as there are."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from collectors.decoding import OnRaw
from collectors.requests import Cluster
from collectors.target import Target
from collectors.watch import follow
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import Object, Resource

log = logging.getLogger(__name__)

Scope = tuple[type[Object], str | None]


class Watching:
    """A Target that passes all on, wakes who waits, and knows which kinds were read or refused. Close it at the end.

    Without namespaces all are watched; where that is forbidden the context's own is, unless `all_namespaces`.
    """

    def __init__(
        self,
        cluster: Cluster,
        kinds: Sequence[type[Object]],
        namespaces: tuple[str, ...],
        targets: Sequence[Target],
        *,
        all_namespaces: bool = False,
        on_raw: OnRaw | None = None,
    ) -> None:
        self._cluster, self._kinds, self._targets, self._on_raw = cluster, kinds, targets, on_raw
        self._namespaces = namespaces
        self._may_narrow = not namespaces and not all_namespaces
        self._woken = asyncio.Event()
        self._read: set[tuple[Resource, str | None]] = set()
        self._refused: dict[tuple[Resource, str | None], str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.listed: set[Scope] = set()  # each completed LIST, until the caller takes it out

    @property
    def scopes(self) -> list[Scope]:
        """Each kind, and the namespace it is watched in or None for all."""
        return [
            (kind, space)
            for kind in self._kinds
            for space in (self._namespaces if kind.resource.namespaced and self._namespaces else (None,))
        ]

    async def settle(self) -> None:
        """Begins, and waits until every kind is read or refused: until then, what refers to it would seem to lack it.

        Raises ConfigError when nothing may be read.
        """
        self._tasks = [asyncio.create_task(self._follow(kind, space)) for kind, space in self.scopes]
        while not all((kind.resource, space) in self._read | self._refused.keys() for kind, space in self.scopes):
            await self.wait(1.0)
        namespaced = [(kind.resource, space) for kind, space in self.scopes if kind.resource.namespaced]
        if any(scope in self._read for scope in namespaced):
            return
        await self.close()
        why = next(self._refused[scope] for scope in namespaced)
        if not self._may_narrow:
            raise ConfigError(
                f"{self._cluster.name}: may read nothing ({why}): grant what `kubewhy rbac` prints, "
                "or name a namespace with -n"
            )
        self._may_narrow, self._namespaces = False, (self._cluster.namespace,)
        log.warning("listing all namespaces is forbidden: watching namespace %s only", self._cluster.namespace)
        await self.settle()

    async def wait(self, seconds: float) -> None:
        """Until something changed, at most so long. A kind that cannot be followed any more ends it all."""
        for task in self._tasks:
            if task.done():
                task.result()
        try:
            await asyncio.wait_for(self._woken.wait(), max(seconds, 0.0))
        except TimeoutError:
            return
        self._woken.clear()

    async def close(self) -> None:
        """Ends all watches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        for target in self._targets:
            target.begin(resource, namespace, at)

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        for target in self._targets:
            target.put(resource, subject, at)
        self._woken.set()

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        for target in self._targets:
            target.remove(resource, namespace, name, at)
        self._woken.set()

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self._read.add((resource, namespace))
        for target in self._targets:
            target.synced(resource, namespace, at)
        self._woken.set()

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        self._refused[resource, namespace] = reason
        for target in self._targets:
            target.refused(resource, namespace, reason, at)
        self._woken.set()

    async def _follow(self, kind: type[Object], space: str | None) -> None:
        def on_synced() -> None:
            self.listed.add((kind, space))

        try:
            await follow(self._cluster, kind.resource, kind, space, self, on_synced=on_synced, on_raw=self._on_raw)
        finally:
            self._woken.set()
