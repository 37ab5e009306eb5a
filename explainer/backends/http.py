"""The HTTP client that vendors' SDKs are given, and what its failures mean.

It sends no header that is not needed, follows no redirect, and reads no more than an answer can be long.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from explainer.backends.refusals import (
    LONGEST_REPLY,
    Asked,
    broken,
    endless,
    no_tls,
    proxy_blocks,
    proxy_refuses,
    refusal,
    unreachable,
    unreadable,
    untrusted,
)
from kubewhy.errors import ConfigError, Rejected, RetryLater

Answer = TypeVar("Answer")
# Adds what the far side knows us by.
Sign = Callable[[httpx2.Request], Awaitable[None]]

CONNECT_SECONDS = 10.0

# SDKs would also tell of the machine and the interpreter, and add what environment variables of their own say.
_SENT = {
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
    "x-goog-user-project",
}


class _TooMuch(httpx2.TransportError):
    """The reply is longer than any answer."""


def connect(asked: Asked, timeout: float, ca_file: Path | None, sign: Sign | None = None) -> httpx2.AsyncClient:
    """A client for that backend. With `sign`, no credentials are sent but those that it adds."""

    async def prepare(request: httpx2.Request) -> None:
        for name in list(request.headers):
            if name not in _SENT or (sign and name == "authorization"):
                del request.headers[name]
        # What is compressed could grow beyond any limit.
        request.headers["accept-encoding"] = "identity"
        request.headers["user-agent"] = "kubewhy"
        if sign:
            await sign(request)

    async def limit(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("compressed, which was not asked for", request=response.request)
        response.stream = _Limited(response.stream)

    return httpx2.AsyncClient(
        verify=_trust(asked, ca_file),
        timeout=httpx2.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
        follow_redirects=False,
        event_hooks={"request": [prepare], "response": [limit]},
    )


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._stream:
            read += len(chunk)
            if read > LONGEST_REPLY:
                raise _TooMuch("the reply does not end")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _trust(asked: Asked, ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file.expanduser())
    except OSError as error:
        raise asked.config(f"{ca_file}: cannot be read as certificates ({error.strerror}): name a PEM file") from None


async def post(client: httpx2.AsyncClient, asked: Asked, url: str, body: object) -> Any:
    """What that address answers to this JSON, decoded."""
    reply = await client.post(url, json=body)
    if not reply.is_success:
        raise refusal(asked, reply.status_code, reply.content, reply.headers)
    return decoded(asked, reply)


def decoded(asked: Asked, reply: httpx2.Response) -> dict[str, Any]:
    """The JSON object of an answer."""
    try:
        told = reply.json()
    except ValueError:
        raise unreadable(asked) from None
    if not isinstance(told, dict):
        raise unreadable(asked)
    return told


async def within(asked: Asked, seconds: float, call: Coroutine[Any, Any, Answer]) -> Answer:
    """What the call gives, where it gives it in time. What stops it is told as one of the three errors."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise asked.later(f"no answer within {seconds:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise fault(asked, error) from None


def fault(asked: Asked, error: BaseException) -> Exception:
    """What a broken connection means. SDKs wrap what broke it into errors of their own."""
    chain = list(_causes(error))
    for each in chain:
        match each:
            case ConfigError() | RetryLater() | Rejected():
                return each
            case _TooMuch():
                return endless(asked)
            case ssl.SSLCertVerificationError():
                return untrusted(asked)
            case ssl.SSLError():
                return no_tls(asked)
    for each in chain:
        match each:
            case httpx2.ProxyError() if "407" in str(each):
                return proxy_refuses(asked)
            case httpx2.ProxyError():
                return proxy_blocks(asked)
            case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
                return asked.config(f"{asked.address} is no address, or HTTPS_PROXY is none: write https://host")
            case httpx2.TimeoutException():
                return asked.later(f"{asked.address} does not answer in time")
            case httpx2.ConnectError():
                return unreachable(asked)
            case httpx2.DecodingError():
                return unreadable(asked)
            case httpx2.TransportError():
                return broken(asked)
    return unreadable(asked)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
