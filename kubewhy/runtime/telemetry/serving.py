"""Answers whoever looks after a process: its metrics, and whether it is well. In a thread of its own.

So it answers also while the process hangs, and nobody who asks slowly, or nonsense, is in anyone's way.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

from kubewhy.errors import ConfigError
from kubewhy.listening import MetricsSettings
from kubewhy.runtime.telemetry.health import Answer, Health

log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds for one question, from its first byte to the last of the answer
_LONGEST = 8192  # bytes of a line
_MOST_LINES = 100
_AT_ONCE = 256
_BACKLOG = 256


class Shows(Protocol):
    """What is shown as metrics: `families.Metrics` is."""

    async def look(self) -> None: ...

    def text(self, accept: str) -> tuple[bytes, str]: ...


@asynccontextmanager
async def serving(
    settings: MetricsSettings | None, metrics: Shows, health: Health, patience: float = _PATIENCE
) -> AsyncIterator[int | None]:
    """Answers meanwhile, and says on which port; without settings, nowhere. Raises ConfigError where it cannot listen.

    The loop it is called in is the one that has to turn, and in which metrics are looked at.
    """
    if settings is None:
        yield None
        return
    server = _Server(_listen(settings), metrics, health, patience)
    beating = asyncio.create_task(health.beating())
    server.start()
    try:
        yield server.port
    finally:
        beating.cancel()
        await server.stop()


def _listen(settings: MetricsSettings) -> socket.socket:
    host, port = settings.place
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Names that cannot be found have numbers below 0, and words of their own; to others Python adds the address.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigError(
            f"metrics.listen: cannot listen on {settings.listen} ({why}): "
            "name another address, or end what listens there"
        ) from None


class _Server(threading.Thread):
    """Its thread ends with the process at the latest."""

    def __init__(self, listening: socket.socket, metrics: Shows, health: Health, patience: float) -> None:
        super().__init__(name="metrics", daemon=True)
        self.port: int = listening.getsockname()[1]
        self._listening, self._metrics, self._health, self._patience = listening, metrics, health, patience
        self._main = asyncio.get_running_loop()
        self._own = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._asking: set[asyncio.Task[Any]] = set()

    def run(self) -> None:
        """Until it is stopped."""
        self._own.set_exception_handler(_quietly)
        try:
            self._own.run_until_complete(self._serve())
        finally:
            self._own.close()

    async def stop(self) -> None:
        """Returns once nothing listens any more."""
        if self.is_alive():
            self._own.call_soon_threadsafe(self._over.set)
            await asyncio.to_thread(self.join, _PATIENCE)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening, limit=_LONGEST)
        try:
            await self._over.wait()
        finally:
            server.close()
            # Those who have only just come are in no hands yet, so more than one round may be needed.
            while left := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in self._asking:
                    task.cancel()
                await asyncio.wait(left)
            await asyncio.sleep(0)  # what is closed is so in the loop's next turn

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._asking.add(task)
        try:
            if len(self._asking) <= _AT_ONCE:
                async with asyncio.timeout(self._patience):
                    if asked := await _read(reader):
                        writer.write(await self._reply(asked))
                        await writer.drain()
        except (TimeoutError, OSError):
            writer.transport.abort()
        finally:
            self._asking.discard(task)
            writer.close()

    async def _reply(self, asked: "_Asked") -> bytes:
        answers: dict[str, Callable[[], Answer]] = {"/healthz": self._health.alive, "/readyz": self._health.ready}
        if asked.fault:
            return _written(asked.fault, Answer(False, b""), asked)
        if asked.path != "/metrics" and asked.path not in answers:
            return _written(HTTPStatus.NOT_FOUND, Answer(False, b"there are /metrics, /healthz and /readyz\n"), asked)
        if asked.method not in ("GET", "HEAD"):
            return _written(HTTPStatus.METHOD_NOT_ALLOWED, Answer(False, b"only GET and HEAD\n"), asked)
        answer = await self._shown(asked.accept) if asked.path == "/metrics" else answers[asked.path]()
        return _written(HTTPStatus.OK if answer.well else HTTPStatus.SERVICE_UNAVAILABLE, answer, asked)

    async def _shown(self, accept: str) -> Answer:
        # What is read is the other loop's, and only there it holds still. Where that hangs, the rest is shown anyway.
        looking = asyncio.run_coroutine_threadsafe(self._metrics.look(), self._main)
        try:
            async with asyncio.timeout(self._patience / 2):
                await asyncio.wrap_future(looking)
        except TimeoutError:
            log.info("metrics are shown as they were, for the loop does not turn")
        return Answer(True, *self._metrics.text(accept))


@dataclass(frozen=True)
class _Asked:
    """What somebody wants; or why it cannot be understood."""

    method: str = "GET"
    path: str = ""
    accept: str = ""
    fault: HTTPStatus | None = None


async def _read(reader: asyncio.StreamReader) -> _Asked | None:
    """The head of a question; nothing where somebody has gone away."""
    try:
        first = await reader.readline()
        headers: dict[str, str] = {}
        for _ in range(_MOST_LINES):
            line = await reader.readline()
            if not line.endswith(b"\n"):
                return None
            if not line.strip():
                return _understood(first.decode("latin-1"), headers.get("accept", ""))
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
    except ValueError:  # a line that is too long
        pass
    return _Asked(fault=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _understood(line: str, accept: str) -> _Asked:
    parts = line.split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return _Asked(fault=HTTPStatus.BAD_REQUEST)
    try:
        return _Asked(parts[0], urlsplit(parts[1]).path, accept)
    except ValueError:
        return _Asked(fault=HTTPStatus.BAD_REQUEST)


def _written(status: HTTPStatus, answer: Answer, asked: _Asked) -> bytes:
    body = answer.body or f"{status.phrase.lower()}\n".encode()
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"date: {formatdate(usegmt=True)}",
        f"content-type: {answer.type}",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "connection: close",
        *(["allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + (b"" if asked.method == "HEAD" else body)


def _quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Whoever asks can break off at any moment: that is nobody's business."""
    log.debug("metrics: %s", context.get("message"))
