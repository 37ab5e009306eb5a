"""An API server of few words, in the test's own process: LIST, WATCH, refusals, and versions it has forgotten."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from kubewhy.kube.meta import Object, Resource

# Such as /apis/apps/v1/namespaces/shop/deployments.
_LOG = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/log")
_PATH = re.compile(r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/([^/]+))?/([^/]+)")
CLUSTER = "uid-of-kube-system"


class ApiServer:
    """`asked` counts requests as `list pods` and `watch pods`; `watching` are the watches open now.

    `logs` are by pod and container, with `-p` behind it for those of the run before; `read` are the queries for them.
    While `slow` they wait, and those of `endless` containers never end. Every namespace exists but the `missing` ones.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.watching = 0
        self.missing: set[str] = set()
        self.refused: dict[str, int] = {}  # status by plural, or by `plural in namespace`
        self.logs: dict[tuple[str, str], bytes] = {}
        self.read: list[tuple[str, dict[str, str]]] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.endless: set[str] = set()
        self.at_once = 0  # logs that are being read now
        self._objects: dict[tuple[str, str | None, str], dict[str, Any]] = {}
        self._log: list[tuple[str, str, dict[str, Any]]] = []  # plural, type, object; the version is its length
        self._forgotten = 0
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path, namespace: str = "default") -> Path:
        told = {
            "current-context": "shop",
            "contexts": [{"name": "shop", "context": {"cluster": "shop", "namespace": namespace}}],
            "clusters": [{"name": "shop", "cluster": {"server": self.url}}],
        }
        path = folder / "kubeconfig"
        path.write_bytes(msgspec.yaml.encode(told))
        return path

    async def put(self, kind: type[Object], name: str, namespace: str | None = "shop", **fields: Any) -> None:
        resource = kind.resource
        where = {"namespace": namespace} if resource.namespaced else {}
        meta = {"name": name, "uid": f"uid-{name}", **where, **fields.pop("metadata", {})}
        key = (resource.plural, where.get("namespace"), name)
        await self._say(resource, "MODIFIED" if key in self._objects else "ADDED", {"metadata": meta, **fields})
        self._objects[key] = self._log[-1][2]

    async def remove(self, kind: type[Object], name: str, namespace: str | None = "shop") -> None:
        key = (kind.resource.plural, namespace if kind.resource.namespaced else None, name)
        await self._say(kind.resource, "DELETED", self._objects.pop(key))

    async def forget(self) -> None:
        """Ends every watch, and answers to each version up to now that it is too old."""
        self._forgotten = len(self._log) + 1
        self._log.append(("", "", {}))
        await self._wake()

    async def _say(self, resource: Resource, event: str, subject: dict[str, Any]) -> None:
        meta = {**subject["metadata"], "resourceVersion": str(len(self._log) + 1)}
        self._log.append((resource.plural, event, {**subject, "metadata": meta}))
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"gitVersion": "v1.35.4"})
        if named := re.fullmatch("/api/v1/namespaces/([^/]+)", request.path):
            if named[1] in self.missing:
                details = {"name": named[1], "kind": "namespaces"}
                return web.json_response({"kind": "Status", "code": 404, "details": details}, status=404)
            return web.json_response({"metadata": {"uid": CLUSTER}})
        if about := _LOG.fullmatch(request.path):
            return await self._written(request, *about.groups())
        found = _PATH.fullmatch(request.path)
        assert found, request.path
        namespace, plural = found.groups()
        verb = "watch" if request.query.get("watch") else "list"
        self.asked.append(f"{verb} {plural}" + (f" in {namespace}" if namespace else ""))
        status = self.refused.get(f"{plural} in {namespace}" if namespace else plural)
        if status:
            return web.json_response({"kind": "Status", "code": status, "message": "no"}, status=status)
        if verb == "watch":
            return await self._watch(request, plural, namespace)
        items = [
            each for (kind, space, _), each in self._objects.items() if kind == plural and namespace in (None, space)
        ]
        return web.json_response({"metadata": {"resourceVersion": str(len(self._log))}, "items": items})

    async def _written(self, request: web.Request, namespace: str, pod: str) -> web.StreamResponse:
        query = dict(request.query)
        self.read.append((pod, query))
        self.at_once += 1
        try:
            await self.slow.wait()
        finally:
            self.at_once -= 1
        status = self.refused.get(f"log in {namespace}", self.refused.get("log", 0))
        name = query["container"] + ("-p" if query["previous"] == "true" else "")
        body = self.logs.get((pod, name))
        if status or body is None:
            details = {"name": pod, "kind": "pods"}
            refusal = {"kind": "Status", "code": status or 400, "message": "not to be had", "details": details}
            return web.json_response(refusal, status=status or 400)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(body)
        while name in self.endless:
            await response.write(body * 100)
        return response

    async def _watch(self, request: web.Request, plural: str, namespace: str | None) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self._forgotten:
            return web.json_response({"kind": "Status", "code": 410, "message": "too old"}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        self.watching += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                    await self._tell(response, plural, namespace, version)
        finally:
            self.watching -= 1
        return response

    async def _tell(self, response: web.StreamResponse, plural: str, namespace: str | None, version: int) -> None:
        while version >= self._forgotten:
            told, version = version, len(self._log)
            for kind, event, subject in self._log[told:version]:
                if kind == plural and namespace in (None, subject["metadata"].get("namespace")):
                    await response.write(msgspec.json.encode({"type": event, "object": subject}) + b"\n")
            async with self._changed:
                while len(self._log) == version:
                    await self._changed.wait()


@asynccontextmanager
async def api_server() -> AsyncIterator[ApiServer]:
    """One that answers until the block ends."""
    server = ApiServer()
    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
