"""Keeps a target as the cluster is: LIST, then WATCH, through everything that can happen to either."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import NamedTuple

from collectors.answers import Expired, Refused, Unreachable, Untrusted
from collectors.decoding import OnRaw
from collectors.requests import Cluster, Watched
from collectors.target import Target
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import Object, Resource

log = logging.getLogger(__name__)

# Refused so often in a row, a version is given up even where the server does not call it expired.
_HOPELESS = 5
# A WATCH that ends at once is a proxy's doing. Without a pause we would ask as fast as the network goes.
_SHORT_SECONDS = 1.0


class Skipped(NamedTuple):
    """A kind that could not be read in that namespace (None: in all)."""

    resource: Resource
    namespace: str | None
    reason: str


async def follow(
    cluster: Cluster,
    resource: Resource,
    view: type[Object],
    namespace: str | None,
    target: Target,
    *,
    on_synced: Callable[[], None] | None = None,
    labels: str = "",
    fields: str = "",
    refused_retry: float = 600.0,
    on_raw: OnRaw | None = None,
) -> None:
    """Follows one kind in one namespace (None: in all) for ever. `on_synced` is called after each completed LIST.

    Raises ConfigError only for what waiting cannot mend: a bad selector, and, before the first LIST has succeeded, a
    certificate that does not verify.
    """
    follower = _Follower(cluster, resource, view, namespace, target, on_synced, labels, fields, on_raw)
    while True:
        try:
            await follower.round()
        except Refused as refusal:
            follower.refused(str(refusal))
            await asyncio.sleep(refused_retry)
        except Expired as expiry:
            await follower.expired(str(expiry))
        except Unreachable as trouble:
            if isinstance(trouble, Untrusted) and not follower.ever_synced:
                raise
            await follower.in_trouble(trouble)


class _Follower:
    """Where one kind and scope stands: the version to go on from, and what was said of it last."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        view: type[Object],
        namespace: str | None,
        target: Target,
        on_synced: Callable[[], None] | None,
        labels: str,
        fields: str,
        on_raw: OnRaw | None,
    ) -> None:
        self.ever_synced = False
        self._cluster = cluster
        self._resource = resource
        self._view = view
        self._namespace = namespace
        self._target = target
        self._on_synced = on_synced
        self._labels, self._fields, self._on_raw = labels, fields, on_raw
        self._version = ""
        self._failures = 0
        self._told = ""

    async def round(self) -> None:
        """One LIST where there is no version to go on from, and one WATCH."""
        if not self._version:
            await self._list()
        await self._watch()

    def refused(self, reason: str) -> None:
        self._version = ""
        self._failures = 0
        self._target.refused(self._resource, self._namespace, reason, self._cluster.now())
        self._tell(f"refused: {reason}", logging.WARNING)

    async def expired(self, reason: str) -> None:
        """The version is too old. For events, and after the API server was away, that is ordinary."""
        self._version = ""
        log.info("%s: listing anew, because the server has forgotten our version (%s)", self, reason)
        await self._pause()

    async def in_trouble(self, trouble: Unreachable) -> None:
        self._tell(f"out of reach, trying again: {trouble}", logging.WARNING)
        if trouble.status >= 500 and self._failures >= _HOPELESS:
            # Such as "too large resource version" for ever, after etcd was restored from a backup.
            self._version = ""
        await self._pause(trouble.after or 0.0)

    async def _pause(self, at_least: float = 0.0) -> None:
        wait = self._cluster.limits.wait(self._failures)
        self._failures += 1
        await asyncio.sleep(max(at_least, wait))

    async def _list(self) -> None:
        await list_into(
            self._cluster,
            self._view,
            self._namespace,
            self._target,
            self._labels,
            self._fields,
            self._on_raw,
            self._keep,
        )
        self._failures = 0
        self._tell("synced", logging.INFO)
        self.ever_synced = True
        if self._on_synced:
            self._on_synced()

    def _keep(self, version: str) -> None:
        self._version = version

    async def _watch(self) -> None:
        began = asyncio.get_running_loop().time()
        events = self._cluster.watch(
            self._resource,
            self._view,
            self._namespace,
            self._version,
            labels=self._labels,
            fields=self._fields,
            on_raw=self._on_raw,
        )
        async with aclosing(events):
            async for event in events:
                self._apply(event)
        if asyncio.get_running_loop().time() - began < _SHORT_SECONDS:
            await self._pause()
        else:
            self._failures = 0

    def _apply(self, event: Watched) -> None:
        if self._failures or self._told != "synced":
            self._failures = 0
            self._tell("synced", logging.INFO)
        at = self._cluster.now()
        if event.type == "DELETED":
            self._target.remove(self._resource, event.namespace, event.name, at)
        elif event.object is not None:
            self._target.put(self._resource, event.object, at)
        # A bookmark before any object has version 0 in no server we know, but an empty one would begin anew.
        self._version = event.resource_version or self._version

    def _tell(self, state: str, level: int) -> None:
        """Once for each change of state, not for each try."""
        if state != self._told:
            self._told = state
            log.log(level, "%s: %s", self, state)

    def __str__(self) -> str:
        where = f" in namespace {self._namespace}" if self._namespace else ""
        return f"{self._resource}{where} of {self._cluster.name}"


async def list_into(
    cluster: Cluster,
    view: type[Object],
    namespace: str | None,
    target: Target,
    labels: str = "",
    fields: str = "",
    on_raw: OnRaw | None = None,
    keep: Callable[[str], None] | None = None,
) -> None:
    """One LIST into the target. `keep` is told its version before the target is told that it is complete."""
    resource = view.resource
    begun, version = False, ""
    pages = cluster.pages(resource, view, namespace, labels=labels, fields=fields, on_raw=on_raw)
    async with aclosing(pages):
        async for page in pages:
            at = cluster.now()
            if not begun or page.restarted:
                target.begin(resource, namespace, at)
                begun = True
            for subject in page.objects:
                target.put(resource, subject, at)
            version = page.resource_version
    if keep:
        keep(version)
    target.synced(resource, namespace, cluster.now())


async def read_once(
    cluster: Cluster,
    kinds: Iterable[type[Object]],
    namespaces: tuple[str, ...],
    target: Target,
    labels: str = "",
    *,
    labelled: frozenset[Resource] = frozenset(),
    on_raw: OnRaw | None = None,
) -> list[Skipped]:
    """LISTs every kind once, in those namespaces or (empty) in all. Returns what could not be read.

    The label selector applies to the `labelled` kinds alone. Raises ConfigError (a bad selector, bad credentials, no
    server) as soon as one kind meets it.
    """

    async def read(view: type[Object], namespace: str | None) -> Skipped | None:
        resource = view.resource
        try:
            await list_into(cluster, view, namespace, target, labels if resource in labelled else "", on_raw=on_raw)
        except Refused as refusal:
            target.refused(resource, namespace, str(refusal), cluster.now())
            return Skipped(resource, namespace, str(refusal))
        except Expired as expiry:
            raise ConfigError(f"listing {resource} takes longer than {cluster.server} keeps it: {expiry}") from None
        return None

    tasks = [
        asyncio.create_task(read(view, namespace))
        for view in kinds
        for namespace in (namespaces if view.resource.namespaced and namespaces else (None,))
    ]
    try:
        return [skipped for skipped in await asyncio.gather(*tasks) if skipped]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
