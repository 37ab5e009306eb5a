"""One API server's HTTP: credentials on every request, every failure one clear error, and the server's clock."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from collectors.answers import Unauthorized, broken, redirected, refusal
from kubewhy.errors import ConfigError

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

# Two Date headers tell the same second; beyond this the server's clock was set.
_SAME = timedelta(seconds=2)


class Renewal(Protocol):
    """Credentials that can be had anew after the server has refused them. `generation` counts how often they were."""

    @property
    def generation(self) -> int: ...

    def use(self, context: ssl.SSLContext) -> None:
        """Where renewed client certificates go."""
        ...

    async def renew(self, seen: int) -> bool:
        """True when there are other credentials now than those of generation `seen`."""
        ...


@dataclass(frozen=True)
class Access:
    """How a server is reached: the official client's configuration, further headers, and what renews credentials."""

    configuration: Any
    headers: Sequence[tuple[str, str]] = ()  # a name may come more than once, as Impersonate-Group does
    renewal: Renewal | None = None


class Connection:
    """Raises Refused, Expired, ConfigError and Unreachable (see `answers`), and never a client library's own error."""

    def __init__(self, access: Access, *, connect: float, silence: float) -> None:
        import aiohttp
        from kubernetes.aio.client.api_client import ApiClient

        self.server: str = access.configuration.host
        self.answered = False  # whether the server ever did
        self._access = access
        self._connect = connect
        self._silence = silence
        # The server's clock less our monotonic one.
        self._epoch: datetime | None = None
        watching = aiohttp.TraceConfig()
        watching.on_request_redirect.append(self._refuse_redirect)
        # The environment's proxies were looked at already, by the rules of kubectl, which are not those of aiohttp.
        access.configuration.client_session_kwargs = {"trust_env": False, "trace_configs": [watching]}
        try:
            self._client: Any = ApiClient(access.configuration)
        except (OSError, ValueError) as error:
            # ssl.SSLError is an OSError, and knows no file name.
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(
                f"cannot use the certificates for {self.server} ({why}): "
                "check certificate-authority, client-certificate and client-key in the kubeconfig"
            ) from None
        if access.renewal:
            access.renewal.use(self._client.rest_client.ssl_context)

    async def close(self) -> None:
        await self._client.close()

    def now(self) -> datetime:
        """The API server's time: its last Date header, and what has passed since. Ours before the first answer."""
        if self._epoch is None:
            return datetime.now(UTC)
        return self._epoch + timedelta(seconds=time.monotonic())

    async def get(self, path: str, query: Mapping[str, str], what: str) -> bytes:
        """The whole answer. `what` names in messages what was asked for."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect, sock_read=self._silence)
        async with self._answer(path, query, what, timeout) as answer:
            return await answer.read()

    async def beginning(self, path: str, query: Mapping[str, str], what: str, *, most: int, seconds: float) -> bytes:
        """The answer's first bytes. One that takes longer is as good as none."""
        import aiohttp

        async with self._answer(path, query, what, aiohttp.ClientTimeout(total=seconds)) as answer:
            read = bytearray()
            while len(read) < most and (chunk := await answer.content.readany()):
                read += chunk
            return bytes(read[:most])

    async def lines(
        self, path: str, query: Mapping[str, str], what: str, seconds: float, on_open: Callable[[], None] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The answer line by line, of any length, as they come. It ends quietly after `seconds` at the latest.

        `on_open` is called when the server has agreed, which may be long before the first line.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect, sock_read=None)
        # Not the client's own limit: that would start anew with each byte, or count waiting for us.
        ends = asyncio.get_running_loop().time() + seconds
        async with self._answer(path, query, what, timeout, first_byte=seconds) as answer:
            if on_open:
                on_open()
            rest = bytearray()
            while chunk := await _next_chunk(answer, ends):
                # aiohttp's own line reader refuses lines above twice its buffer; large objects exceed that.
                start = len(rest)
                rest += chunk
                if (last := rest.rfind(b"\n", start)) < 0:
                    continue
                whole = bytes(rest[:last])
                del rest[: last + 1]
                for line in whole.split(b"\n"):
                    if line:
                        yield line

    @asynccontextmanager
    async def _answer(
        self,
        path: str,
        query: Mapping[str, str],
        what: str,
        limits: "aiohttp.ClientTimeout",
        first_byte: float | None = None,
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """A successful answer. One read to its end leaves its connection for others; one left early takes it along."""
        import aiohttp

        answer: aiohttp.ClientResponse | None = None
        try:
            # A WATCH has no limit between bytes, so that its headers need one of their own.
            async with asyncio.timeout(min(first_byte, self._silence) if first_byte else None):
                answer = await self._send(path, query, limits)
                self._read_clock(answer.headers.get("Date"))
                if answer.status != 200:
                    retry_after = answer.headers.get("Retry-After")
                    raise refusal(self.server, what, answer.status, await answer.read(), retry_after)
            yield answer
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            raise broken(self.server, error) from None
        finally:
            if answer is not None:
                answer.close()

    async def _send(
        self, path: str, query: Mapping[str, str], limits: "aiohttp.ClientTimeout"
    ) -> "aiohttp.ClientResponse":
        renewal = self._access.renewal
        seen = renewal.generation if renewal else 0
        answer = await self._send_once(path, query, limits)
        if answer.status == 401 and renewal and await renewal.renew(seen):
            answer.close()
            answer = await self._send_once(path, query, limits)
        return answer

    async def _send_once(
        self, path: str, query: Mapping[str, str], limits: "aiohttp.ClientTimeout"
    ) -> "aiohttp.ClientResponse":
        from multidict import CIMultiDict

        asked = urlencode({key: value for key, value in query.items() if value}, quote_via=quote)
        _, url, headers, *_ = await self._client.param_serialize(
            "GET", f"{path}?{asked}" if asked else path, auth_settings=["BearerToken"]
        )
        every = CIMultiDict({"Accept": "application/json", **headers})
        for name, value in self._access.headers:
            every.add(name, value)
        # The client sets its own name and type; ours come last.
        for name in {name.lower() for name, _ in self._access.headers} & {key.lower() for key in headers}:
            every[name] = next(value for key, value in self._access.headers if key.lower() == name)
        if bad := next((name.title() for name, value in every.items() if set(value) & set("\r\n\0")), None):
            raise Unauthorized(
                f"the credentials for {self.server} hold a line break (in {bad}): check the user of this context"
            )
        log.debug("GET %s", url)
        reply = await self._client.call_api("GET", url, every, _request_timeout=limits)
        response: aiohttp.ClientResponse = reply.response
        self.answered = True
        return response

    async def _refuse_redirect(
        self, session: object, context: object, told: "aiohttp.TraceRequestRedirectParams"
    ) -> None:
        told.response.close()
        raise redirected(self.server, told.response.headers.get("Location", ""))

    def _read_clock(self, date: str | None) -> None:
        try:
            epoch = parsedate_to_datetime(date or "") - timedelta(seconds=time.monotonic())
        except (ValueError, TypeError, OverflowError):
            return
        # RFC 5322, 3.3: -0000 is UTC of a clock that knows no zone.
        epoch = epoch.replace(tzinfo=epoch.tzinfo or UTC)
        # The header drops the fraction, so of two the later is nearer to the truth.
        if self._epoch is None or abs(epoch - self._epoch) > _SAME or epoch > self._epoch:
            self._epoch = epoch


async def _next_chunk(answer: "aiohttp.ClientResponse", ends: float) -> bytes:
    """Empty at the end of the stream or of our patience."""
    try:
        async with asyncio.timeout_at(ends):
            return await answer.content.readany()
    except TimeoutError:
        return b""
