"""Asks one API server: LIST in pages and WATCH on raw paths, decoded straight into typed objects."""

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from collectors import answers
from collectors.answers import Absent, Expired, Refused, Unreachable
from collectors.connection import Access, Connection
from collectors.decoding import Decoded, Odd, OnRaw, decode_event, decode_one, decode_page
from collectors.decoding import identify as identity_of
from collectors.troubles import Troubles
from kubewhy.kube.meta import Object, Resource

log = logging.getLogger(__name__)
Out = TypeVar("Out")


@dataclass(frozen=True)
class Limits:
    """How patient we are. Times are in seconds."""

    page_size: int = 500
    lists_at_once: int = 3
    tries: int = 5  # of one request, before it is given up
    first_wait: float = 1.0
    longest_wait: float = 30.0
    connect: float = 10.0
    silence: float = 60.0  # of an answer that is not a WATCH
    watch: tuple[float, float] = (240.0, 290.0)
    watch_grace: float = 30.0  # how much later than the server we end a WATCH ourselves

    def wait(self, failures: int) -> float:
        """Exponential back-off with jitter, so that many clients do not come back at once."""
        wait = min(self.longest_wait, self.first_wait * 2.0 ** min(failures, 16))
        return wait * random.uniform(0.5, 1.0)


class Page(NamedTuple):
    """One page of a LIST. `restarted` says that all pages before it are void."""

    objects: list[Any]
    resource_version: str
    unreadable: int = 0
    restarted: bool = False


class Watched(NamedTuple):
    """One event. `object` is None for a BOOKMARK, for what is DELETED, and for what could not be decoded."""

    type: str
    object: Any
    resource_version: str
    namespace: str | None = None
    name: str = ""


class _Meta(msgspec.Struct, frozen=True):
    uid: str = ""


class _Namespace(msgspec.Struct, frozen=True):
    metadata: _Meta


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str = ""


class Cluster:
    """One API server, as one set of credentials sees it. Close it at the end."""

    def __init__(self, name: str, namespace: str, access: Access, limits: Limits | None = None) -> None:
        self.name = name
        self.namespace = namespace
        self.limits = limits or Limits()
        self._connection = Connection(access, connect=self.limits.connect, silence=self.limits.silence)
        self.server = self._connection.server
        self._lists = asyncio.Semaphore(self.limits.lists_at_once)
        self.troubles = Troubles(name)
        self._failing = False
        self._told: set[tuple[str, str]] = set()

    async def close(self) -> None:
        await self._connection.close()

    async def __aenter__(self) -> "Cluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def now(self) -> datetime:
        """The API server's time: its last Date header, and what has passed since. Ours before the first answer."""
        return self._connection.now()

    async def identify(self) -> str:
        """The UID of namespace kube-system; where that may not be read, a hash of the server's address."""
        try:
            body = await self._patiently(
                lambda: self._connection.get("/api/v1/namespaces/kube-system", {}, "namespace kube-system")
            )
            return msgspec.json.decode(body, type=_Namespace).metadata.uid
        except (Refused, msgspec.DecodeError):
            return "server-" + hashlib.sha256(self.server.encode()).hexdigest()[:32]

    async def has_namespace(self, name: str) -> bool | None:
        """None where that may not be known."""
        try:
            await self._patiently(lambda: self._connection.get(f"/api/v1/namespaces/{name}", {}, f"namespace {name}"))
        except Absent:
            return False
        except (Refused, Unreachable):
            return None
        return True

    async def server_version(self) -> str:
        """As v1.35.4; empty where it may not be read."""
        try:
            body = await self._patiently(lambda: self._connection.get("/version", {}, "its version"))
            return msgspec.json.decode(body, type=_Version).git_version
        except (Refused, Unreachable, msgspec.DecodeError):
            return ""

    async def log(self, namespace: str, pod: str, query: Mapping[str, str], *, most: int, seconds: float) -> bytes:
        """What containers have written, at most so many bytes. Asked for once. Raises Refused and Unreachable."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        return await self._connection.beginning(path, query, f"the log of {pod}", most=most, seconds=seconds)

    async def pages(
        self,
        resource: Resource,
        view: type[Object],
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        tries: int | None = None,
        on_raw: OnRaw | None = None,
    ) -> AsyncGenerator[Page, None]:
        """A LIST in pages of one resourceVersion. Close it (`contextlib.aclosing`) when leaving early.

        Raises Refused, Expired (its continue token expired twice), ConfigError for a bad selector, and Unreachable
        once `tries` have failed.
        """
        query = {"limit": str(self.limits.page_size), "labelSelector": labels, "fieldSelector": fields}
        token, restarts, fresh = "", 0, False
        async with self._lists:
            while True:
                asked = {**query, "continue": token}
                try:
                    page = await self._patiently(lambda: self._page(resource, namespace, asked, view, on_raw), tries)  # noqa: B023
                except Expired:
                    # The token that comes with a 410 goes on with a newer version: not one state, so not used.
                    if not token or restarts:
                        raise
                    log.info("the list of %s in %s took too long and is begun again", resource, self.name)
                    token, restarts, fresh = "", 1, True
                    continue
                for odd in page.odd:
                    self._tell(resource, odd)
                yield Page(page.objects, page.metadata.resource_version, len(page.odd), fresh)
                token, fresh = page.metadata.next, False
                if not token:
                    return

    async def watch(
        self,
        resource: Resource,
        view: type[Object],
        namespace: str | None,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        on_raw: OnRaw | None = None,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Watched, None]:
        """One WATCH, until the server ends it or falls silent. Raises Expired, Refused, Unreachable.

        An event that cannot be decoded comes without its object, so that the version still moves on.
        """
        seconds = random.uniform(*self.limits.watch)
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
            "labelSelector": labels,
            "fieldSelector": fields,
        }
        longest = seconds + self.limits.watch_grace
        lines = self._connection.lines(resource.path(namespace), query, str(resource), longest, on_open)
        # Closed here and now, or the connection would stay until the garbage collector comes by.
        async with aclosing(lines):
            async for line in lines:
                yield self._watched(resource, view, line, on_raw)

    def _watched(self, resource: Resource, view: type[Object], line: bytes, on_raw: OnRaw | None) -> Watched:
        try:
            kind, raw = decode_event(line)
        except msgspec.DecodeError:
            raise answers.foreign(self.server, line, f"watch events for {resource}") from None
        if kind == "ERROR":
            raise answers.refusal(self.server, str(resource), answers.read_status(raw).code or 500, raw)
        if on_raw and kind != "BOOKMARK":
            on_raw(resource, kind, raw)
        found = identity_of(raw)
        subject: Object | None = None
        if kind in ("ADDED", "MODIFIED"):
            one = decode_one(raw, view)
            if isinstance(one, Odd):
                self._tell(resource, one)
            else:
                subject = one
        return Watched(kind, subject, found.resource_version, found.namespace, found.name)

    def _tell(self, resource: Resource, odd: Odd) -> None:
        """Once for each way to be odd: there may be many such objects, and they may change every second."""
        key = (str(resource), odd.why)
        if key not in self._told and len(self._told) < 1000:
            self._told.add(key)
            like = "skipped %s %s and all like it, for they are not as their API says: %s"
            log.warning(like, resource.kind, odd.name, odd.why)

    async def _page(
        self,
        resource: Resource,
        namespace: str | None,
        query: Mapping[str, str],
        view: type[Object],
        on_raw: OnRaw | None,
    ) -> Decoded:
        body = await self._connection.get(resource.path(namespace), query, str(resource))
        try:
            return decode_page(body, view, on_raw)
        except msgspec.DecodeError:
            raise answers.foreign(self.server, body, f"a list of {resource}") from None

    async def _patiently(self, ask: Callable[[], Awaitable[Out]], tries: int | None = None) -> Out:
        """Tries again what may pass. A server that never answered is most likely not there: that is told at once."""
        # After one request that failed for long, the next ones need not.
        tries = 1 if self._failing else tries or self.limits.tries
        for failures in range(tries):
            try:
                answer = await ask()
            except Unreachable as error:
                self._failing = error.of_one_kind and failures + 1 == tries
                too_long = (error.after or 0.0) > self.limits.longest_wait
                if error.lasting or too_long or failures + 1 == tries or not self._connection.answered:
                    raise
                await asyncio.sleep(max(error.after or 0.0, self.limits.wait(failures)))
            else:
                self._failing = False
                return answer
        raise AssertionError("unreachable")
