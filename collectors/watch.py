"""Keeps a target as the cluster is: LIST, then WATCH, through everything that can happen to either."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from collectors.answers import Expired, Refused, Unreachable, Untrusted
from collectors.decoding import OnRaw
from collectors.requests import Cluster, Watched
from collectors.target import Target
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import Object, Resource

log = logging.getLogger(__name__)

# A version that is too large for the server so often in a row belongs to another history.
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


@dataclass
class _Follower:
    """Where one kind and scope stands: the version to go on from, and what was said of it last."""

    cluster: Cluster
    resource: Resource
    view: type[Object]
    namespace: str | None
    target: Target
    on_synced: Callable[[], None] | None
    labels: str
    fields: str
    on_raw: OnRaw | None
    ever_synced: bool = False
    version: str = ""
    failures: int = 0
    told: str = ""
    opened: float | None = None

    async def round(self) -> None:
        """One LIST where there is no version to go on from, and one WATCH."""
        if not self.version:
            await self._list()
        await self._watch()

    def refused(self, reason: str) -> None:
        self.version = ""
        self.failures = 0
        self.target.refused(self.resource, self.namespace, reason, self.cluster.now())
        self._tell("refused", reason, logging.WARNING)

    async def expired(self, reason: str) -> None:
        """The version is too old. For events, and after the API server was away, that is ordinary."""
        self.version = ""
        log.info("%s: listing anew, because the server has forgotten our version (%s)", self, reason)
        await self._pause()

    async def in_trouble(self, trouble: Unreachable) -> None:
        # A watch that breaks off and opens again at once is nobody's business.
        if self.failures or not self.version:
            self._tell("out of reach", f"{trouble}; trying again", logging.WARNING)
        if "resource version" in str(trouble).lower() and self.failures >= _HOPELESS:
            # A server that lags behind catches up; "too large" for ever means that etcd was restored from a backup.
            self.version = ""
        await self._pause(trouble.after or 0.0)

    async def _pause(self, at_least: float = 0.0) -> None:
        wait = self.cluster.limits.wait(self.failures)
        self.failures += 1
        await asyncio.sleep(max(at_least, wait))

    async def _list(self) -> None:
        scope = (self.cluster, self.view, self.namespace, self.target)
        self.version = await list_into(*scope, self.labels, self.fields, self.on_raw)
        self.ever_synced = True
        self._tell("in step", "everything is listed", logging.INFO)
        if self.on_synced:
            self.on_synced()

    async def _watch(self) -> None:
        self.opened = None
        events = self.cluster.watch(
            self.resource,
            self.view,
            self.namespace,
            self.version,
            labels=self.labels,
            fields=self.fields,
            on_raw=self.on_raw,
            on_open=self._opens,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    self._apply(event)
        finally:
            lasted = self._now() - self.opened if self.opened else 0.0
            if lasted >= _SHORT_SECONDS:
                self.failures = 0
        if lasted < _SHORT_SECONDS:
            await self._pause()

    def _opens(self) -> None:
        self.opened = self._now()
        self._tell("in step", "watching again", logging.INFO)

    def _apply(self, event: Watched) -> None:
        # Only now: a LIST that works and a WATCH that never does must not turn into a stream of LISTs.
        self.failures = 0
        at = self.cluster.now()
        if event.type == "DELETED":
            self.target.remove(self.resource, event.namespace, event.name, at)
        elif event.object is not None:
            self.target.put(self.resource, event.object, at)
        self.version = event.resource_version or self.version

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tell(self, state: str, why: str, level: int) -> None:
        """Once for each change of state, not for each try."""
        if state != self.told:
            self.told = state
            log.log(level, "%s: %s (%s)", self, state, why)

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.resource}{where} of {self.cluster.name}"


async def list_into(
    cluster: Cluster,
    view: type[Object],
    namespace: str | None,
    target: Target,
    labels: str = "",
    fields: str = "",
    on_raw: OnRaw | None = None,
) -> str:
    """One LIST into the target, for the version that a WATCH goes on from."""
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
    target.synced(resource, namespace, cluster.now())
    return version


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
