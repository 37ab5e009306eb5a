"""A real reverse proxy on loopback that spoils what passes through it, as a test has scripted."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from infra.testbed.control_plane import ControlPlane


@dataclass
class Fault:
    """What happens to the next `times` requests whose path and query hold `path`, and not `unless`."""

    path: str = ""
    unless: str = "\0"
    times: int = 1
    status: int | None = None  # answered by the proxy itself
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None  # bytes of the true answer, before the connection breaks
    delay: float = 0.0
    rewrite: Callable[[bytes], bytes] | None = None  # of a WATCH each line, of all else the whole body


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]

    @property
    def is_watch(self) -> bool:
        return "watch=1" in self.path


class FaultProxy:
    """Shows the API server's own certificate, so that clients trust it. A context manager."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._faults: list[Fault] = []
        self._streams: dict[asyncio.Transport, str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.asked: list[Asked] = []
        self.silent = False  # connections stay open, and nothing more passes
        self.most_at_once = 0
        self._now = 0

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def script(self, *faults: Fault) -> None:
        """Each request takes the first fault that fits it and is not used up."""
        self._faults += faults

    def clear(self) -> None:
        self._faults.clear()

    def cut(self, path: str = "") -> None:
        """Breaks every connection on which such a path is being answered, without a goodbye."""
        self._loop.call_soon_threadsafe(self._abort, path)

    def count(self, path: str, *, watch: bool) -> int:
        """How many LISTs or WATCHes were asked of a path."""
        return sum(each.is_watch == watch and path in each.path for each in self.asked)

    def _abort(self, path: str) -> None:
        for stream, asked in list(self._streams.items()):
            if path in asked:
                stream.abort()

    async def _start(self) -> None:
        keys = self._plane.directory / "keys"
        upstream = ssl.create_default_context(cafile=str(self._plane.ca_file))
        # The proxy passes bodies on as they are, compressed or not.
        self._session = ClientSession(
            connector=TCPConnector(ssl=upstream, limit=0), auto_decompress=False, timeout=ClientTimeout(total=None)
        )
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(keys / "apiserver.crt", keys / "apiserver.key")
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=server)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _take(self, path: str) -> Fault:
        for fault in self._faults:
            if fault.times > 0 and fault.path in path and fault.unless not in path:
                fault.times -= 1
                return fault
        return Fault()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        self.asked.append(Asked(path, dict(request.headers)))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._streams[transport] = path
        try:
            return await self._answer(request, path, transport)
        finally:
            self._streams.pop(transport, None)
            self._now -= 1

    async def _answer(self, request: web.Request, path: str, transport: asyncio.Transport) -> web.StreamResponse:
        fault = self._take(path)
        await asyncio.sleep(fault.delay)
        if fault.status:
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        headers = [(key, value) for key, value in request.headers.items() if key.lower() != "host"]
        async with self._session.get(URL(self._plane.url + path, encoded=True), headers=headers) as reply:
            kept = {
                key: value for key, value in reply.headers.items() if key in ("Content-Type", "Date", "Retry-After")
            }
            response = web.StreamResponse(status=reply.status, headers=kept)
            response.enable_chunked_encoding()
            await response.prepare(request)
            passed = 0
            spoil = fault.rewrite or bytes
            pieces = reply.content if "watch=1" in path else [await reply.read()]
            async for piece in _each(pieces):
                piece = spoil(piece)
                if fault.cut_after is not None and passed + len(piece) >= fault.cut_after:
                    await response.write(piece[: fault.cut_after - passed])
                    transport.abort()
                    return response
                passed += len(piece)
                if not self.silent:
                    await response.write(piece)
            while self.silent:  # noqa: ASYNC110 (set from another thread)
                await asyncio.sleep(0.05)
            return response


async def _each(pieces: object):  # type: ignore[no-untyped-def]
    if isinstance(pieces, list):
        for piece in pieces:
            yield piece
        return
    rest = b""
    async for chunk in pieces.iter_any():  # type: ignore[attr-defined]
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
