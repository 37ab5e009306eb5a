"""Follows all kinds of one cluster at once, into as many targets as there are."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from collectors.answers import is_forbidden, nothing_readable
from collectors.decoding import OnRaw
from collectors.requests import Cluster
from collectors.target import Target
from collectors.watch import Note, follow, unnoted
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
        on_event: Note = unnoted,
        on_list: Note = unnoted,
    ) -> None:
        self._on_event, self._on_list = on_event, on_list
        self._cluster, self._kinds, self._targets, self._on_raw = cluster, kinds, targets, on_raw
        self._namespaces = namespaces
        self._may_narrow = not namespaces and not all_namespaces
        self._narrowed = False
        self._woken = asyncio.Event()
        self._read: set[tuple[Resource, str | None]] = set()
        self._refused: dict[tuple[Resource, str | None], str] = {}
        self._troubled: dict[tuple[Resource, str | None], str] = {}
        self._seen: set[str | None] = set()  # namespaces that hold something
        self._settled = False
        self._tasks: list[asyncio.Task[None]] = []
        self.listed: set[Scope] = set()  # each completed LIST, until the caller takes it out

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those that are watched; empty: all."""
        return self._namespaces

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

        What cannot be listed for long counts as refused once others are read. Raises ConfigError when nothing may be
        read.
        """
        self._tasks = [asyncio.create_task(self._follow(kind, space)) for kind, space in self.scopes]
        while not self._all_answered():
            await self.wait(1.0)
        namespaced = [(kind.resource, space) for kind, space in self.scopes if kind.resource.namespaced]
        if not any(scope in self._read for scope in namespaced):
            await self.close()
            self._narrow(next(self._refused[scope] for scope in namespaced if scope in self._refused))
            await self.settle()
            return
        if self._narrowed:
            log.warning("listing all namespaces is forbidden: watching namespace %s only", self._cluster.namespace)
        self._tell_refusals()
        for scope in self._troubled.keys() - self._read - self._refused.keys():
            self.refused(*scope, self._troubled[scope], self._cluster.now())
        self._settled = True
        for space in self._namespaces:
            await self._tell_empty(space)

    def _all_answered(self) -> bool:
        scopes = {(kind.resource, space) for kind, space in self.scopes}
        answered = self._read | self._refused.keys()
        return scopes <= answered | self._troubled.keys() and any(
            resource.namespaced for resource, _ in scopes & answered
        )

    def _narrow(self, why: str) -> None:
        if not self._may_narrow or not is_forbidden(why):
            raise nothing_readable(self._cluster.name, why)
        self._may_narrow, self._narrowed, self._namespaces = False, True, (self._cluster.namespace,)

    def _tell_refusals(self) -> None:
        scopes = ((kind.resource, space) for kind, space in self.scopes)
        # What was read in part has been told of already.
        refused = {str(each[0]): self._refused[each] for each in scopes if each in self._refused.keys() - self._read}
        if refused:
            why = next(iter(refused.values()))
            log.warning("%s: cannot read %s (%s): going on without", self._cluster.name, ", ".join(refused), why)

    async def _tell_empty(self, space: str) -> None:
        if space not in self._seen and await self._cluster.has_namespace(space) is False:
            log.warning("%s: there is no namespace %s yet; waiting for it", self._cluster.name, space)

    async def wait(self, seconds: float) -> None:
        """Until something changed, at most so long. A kind that cannot be followed any more ends it all."""
        for task in self._tasks:
            if task.done():
                task.result()
        # Not asyncio.wait_for: in Python 3.11 that loses a cancellation which comes with the awakening.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._woken.wait()
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
        self._seen.add(subject.namespace)
        self._woken.set()

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        for target in self._targets:
            target.remove(resource, namespace, name, at)
        self._woken.set()

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self._read.add((resource, namespace))
        self._refused.pop((resource, namespace), None)
        for target in self._targets:
            target.synced(resource, namespace, at)
        self._woken.set()

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        if self._settled and (resource, namespace) not in self._refused:
            where = f"{resource} in {namespace}" if namespace else str(resource)
            log.warning("%s: cannot read %s any more (%s)", self._cluster.name, where, reason)
        self._refused[resource, namespace] = reason
        for target in self._targets:
            target.refused(resource, namespace, reason, at)
        self._woken.set()

    async def _follow(self, kind: type[Object], space: str | None) -> None:
        def on_synced() -> None:
            self.listed.add((kind, space))

        def on_trouble(reason: str) -> None:
            self._troubled[kind.resource, space] = reason
            self._woken.set()

        scope = (self._cluster, kind.resource, kind, space)
        try:
            await follow(
                *scope,
                self,
                on_synced=on_synced,
                on_trouble=on_trouble,
                on_event=self._on_event,
                on_list=self._on_list,
                on_raw=self._on_raw,
            )
        finally:
            self._woken.set()
