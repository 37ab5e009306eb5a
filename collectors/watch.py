"""Keeps a target as the cluster is: LIST, then WATCH, through everything that can happen to either."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from collectors.answers import Expired, NotAccepted, Refused, Unreachable, Untrusted
from collectors.decoding import OnRaw
from collectors.requests import Cluster, Watched
from collectors.target import Target
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import Object, Resource

log = logging.getLogger(__name__)

Note = Callable[[str, str], None]

# A version that is too large for the server so often in a row belongs to another history.
_HOPELESS = 5
# A WATCH that ends at once is a proxy's doing. Without a pause we would ask as fast as the network goes.
_SHORT_SECONDS = 1.0


class Skipped(NamedTuple):
    """A kind that could not be read in that namespace (None: in all)."""

    resource: Resource
    namespace: str | None
    reason: str


def unnoted(kind: str, what: str) -> None:
    """Nobody looks."""


async def follow(
    cluster: Cluster,
    resource: Resource,
    view: type[Object],
    namespace: str | None,
    target: Target,
    *,
    on_synced: Callable[[], None] | None = None,
    on_trouble: Callable[[str], None] | None = None,
    on_event: Note = unnoted,
    on_list: Note = unnoted,
    labels: str = "",
    fields: str = "",
    refused_retry: float = 600.0,
    on_raw: OnRaw | None = None,
) -> None:
    """Follows one kind in one namespace (None: in all) for ever.

    `on_synced` is called after each completed LIST, `on_trouble` with the reason when the first one fails. `on_event`
    is told the kind and the type of each event of a WATCH; `on_list` the kind of each completed LIST, and what it was
    for: start, expired, refused, restored or unreadable.

    Raises ConfigError only for what waiting cannot mend, and only before the first LIST has succeeded: a bad selector,
    and a certificate that does not verify.
    """
    notes = (on_event, on_list)
    follower = _Follower(cluster, resource, view, namespace, target, on_synced, *notes, labels, fields, on_raw)
    while True:
        try:
            await follower.round()
        except Refused as refusal:
            if follower.may_pass():
                await follower.pause()
                continue
            follower.refused(str(refusal))
            await asyncio.sleep(refused_retry)
        except Expired as expiry:
            await follower.expired(str(expiry))
        except Unreachable as trouble:
            if not follower.ever_synced:
                if isinstance(trouble, Untrusted | NotAccepted):
                    raise
                if on_trouble:
                    on_trouble(str(trouble))
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
    on_event: Note
    on_list: Note
    labels: str
    fields: str
    on_raw: OnRaw | None
    ever_synced: bool = False
    version: str = ""
    reason: str = "start"  # of the next LIST
    failures: int = 0
    opened: float | None = None
    steady: asyncio.TimerHandle | None = None

    async def round(self) -> None:
        """One LIST where there is no version to go on from, and one WATCH."""
        if not self.version:
            await self._list()
        await self._watch()

    def may_pass(self) -> bool:
        """Whether a refusal may be none: an API server that has just begun does not know yet what it allows."""
        return self.ever_synced and self.failures < self.cluster.limits.tries

    def refused(self, reason: str) -> None:
        self.anew("refused")
        self.failures = 0
        self.target.refused(self.resource, self.namespace, reason, self.cluster.now())
        self.cluster.troubles.ends(str(self))

    async def expired(self, reason: str) -> None:
        """The version is too old. For events, and after the API server was away, that is ordinary."""
        self.anew("expired")
        log.info("%s: listing anew, because the server has forgotten our version (%s)", self, reason)
        await self.pause()

    async def in_trouble(self, trouble: Unreachable) -> None:
        # A watch that breaks off, and opens again at the second try, is nobody's business.
        if self.failures > 1 or not self.version:
            self.cluster.troubles.begins(str(self), trouble)
        lagging = "resource version" in str(trouble).lower()
        if isinstance(trouble, NotAccepted) or (lagging and self.failures >= _HOPELESS):
            # A server that lags behind catches up; "too large" for ever means that etcd was restored from a backup.
            self.anew("unreadable" if isinstance(trouble, NotAccepted) else "restored")
        await self.pause(trouble.after or 0.0)

    def anew(self, reason: str) -> None:
        """There is no version to go on from."""
        if self.version:
            self.version, self.reason = "", reason

    async def pause(self, at_least: float = 0.0) -> None:
        wait = self.cluster.limits.wait(self.failures)
        self.failures += 1
        await asyncio.sleep(max(at_least, wait))

    async def _list(self) -> None:
        scope = (self.cluster, self.view, self.namespace, self.target)
        self.version = await list_into(*scope, self.labels, self.fields, self.on_raw)
        self.ever_synced = True
        self.on_list(str(self.resource), self.reason)
        log.info("%s of %s: everything is listed", self, self.cluster.name)
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
        except (Expired, Refused, Unreachable) as error:
            # Without a status it is the connection that broke.
            if self.opened and (not isinstance(error, Unreachable) or error.status):
                self.on_event(str(self.resource), "ERROR")
            raise
        finally:
            if self.steady:
                self.steady.cancel()
            lasted = self._now() - self.opened if self.opened else 0.0
            if lasted >= _SHORT_SECONDS:
                self.failures = 0
        if lasted < _SHORT_SECONDS:
            await self.pause()

    def _opens(self) -> None:
        self.opened = self._now()
        self.steady = asyncio.get_running_loop().call_later(_SHORT_SECONDS, self._in_step)

    def _apply(self, event: Watched) -> None:
        # Only now: a LIST that works and a WATCH that never does must not turn into a stream of LISTs.
        self.failures = 0
        self._in_step()
        self.on_event(str(self.resource), event.type)
        at = self.cluster.now()
        if event.type == "DELETED":
            self.target.remove(self.resource, event.namespace, event.name, at)
        elif event.object is not None:
            self.target.put(self.resource, event.object, at)
        self.version = event.resource_version or self.version

    def _in_step(self) -> None:
        """Not before: to open a watch is not yet to hear from it."""
        self.cluster.troubles.ends(str(self))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def __str__(self) -> str:
        return f"{self.resource} in {self.namespace}" if self.namespace else str(self.resource)


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
    begun, version, unreadable = False, "", 0
    pages = cluster.pages(resource, view, namespace, labels=labels, fields=fields, on_raw=on_raw)
    async with aclosing(pages):
        async for page in pages:
            at = cluster.now()
            if not begun or page.restarted:
                target.begin(resource, namespace, at)
                begun, unreadable = True, 0
            for subject in page.objects:
                target.put(resource, subject, at)
            version = page.resource_version
            unreadable += page.unreadable
    target.synced(resource, namespace, cluster.now())
    if unreadable:
        # One of these may be just what another object refers to: it must not seem to be missing.
        target.refused(resource, namespace, f"{unreadable} of them are not as their API says", cluster.now())
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
    server) as soon as one kind meets it. A kind that the server keeps failing to list is skipped: the others may do.
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
        except Unreachable as trouble:
            if not trouble.of_one_kind:
                raise
            target.refused(resource, namespace, str(trouble), cluster.now())
            return Skipped(resource, namespace, str(trouble))
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
