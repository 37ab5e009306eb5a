"""The HTTP client for far sides, and what its failures mean.

It follows no redirect, and reads no more than an answer can be long.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.farside import (
    LONGEST_REPLY,
    Far,
    broken,
    endless,
    no_tls,
    proxy_blocks,
    proxy_refuses,
    unreachable,
    unreadable,
    untrusted,
)

Answer = TypeVar("Answer")
# Changes a request before it is sent.
Prepare = Callable[[httpx2.Request], Awaitable[None]]

CONNECT_SECONDS = 10.0

# They tell of whole addresses and headers, in which there may be secrets.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class _TooMuch(httpx2.TransportError):
    """The reply is longer than any answer."""


def connect(far: Far, timeout: float, tls: ssl.SSLContext | bool, prepare: Prepare) -> httpx2.AsyncClient:
    """A client for that far side. Proxies are found as curl finds them: HTTPS_PROXY, NO_PROXY."""

    async def plain(request: httpx2.Request) -> None:
        await prepare(request)
        # What is compressed could grow beyond any limit.
        request.headers["accept-encoding"] = "identity"
        request.headers["user-agent"] = "kubewhy"

    async def limit(response: httpx2.Response) -> None:
        response.stream = _Limited(response.stream, response.headers.get("content-encoding", "identity"))

    return httpx2.AsyncClient(
        verify=tls,
        timeout=httpx2.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
        follow_redirects=False,
        event_hooks={"request": [plain], "response": [limit]},
    )


class _Limited(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._encoding != "identity":
            raise httpx2.DecodingError("compressed, which was not asked for")
        read = 0
        async for chunk in self._stream:
            read += len(chunk)
            if read > LONGEST_REPLY:
                raise _TooMuch("the reply does not end")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def trust(far: Far, ca_file: Path | None) -> ssl.SSLContext | bool:
    """Whom to trust: those in this file, else those that the machine trusts."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file.expanduser())
    except OSError as error:
        raise far.config(f"{ca_file}: cannot be read as certificates ({error.strerror}): name a PEM file") from None


async def within(far: Far, seconds: float, call: Coroutine[Any, Any, Answer]) -> Answer:
    """What the call gives, where it gives it in time. What stops it is told as one of the three errors."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise far.later(f"no answer within {seconds:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise fault(far, error) from None


def fault(far: Far, error: BaseException) -> Exception:
    """What a broken connection means. SDKs wrap what broke it into errors of their own."""
    chain = list(_causes(error))
    for each in chain:
        match each:
            case ConfigError() | RetryLater() | Rejected():
                return each
            case _TooMuch():
                return endless(far)
            case ssl.SSLCertVerificationError():
                return untrusted(far)
            case ssl.SSLError():
                return no_tls(far)
    for each in chain:
        match each:
            case httpx2.ProxyError() if "407" in str(each):
                return proxy_refuses(far)
            case httpx2.ProxyError():
                return proxy_blocks(far)
            case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
                return far.config(f"{far.address} is no address, or HTTPS_PROXY is none: write https://host")
            case httpx2.TimeoutException():
                return far.later(f"{far.address} does not answer in time")
            case httpx2.ConnectError():
                return unreachable(far)
            case httpx2.DecodingError():
                return unreadable(far)
            case httpx2.TransportError():
                return broken(far)
    return unreadable(far)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
