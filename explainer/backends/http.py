"""The HTTP client that vendors' SDKs are given. It sends no header that is not needed."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2

from explainer.backends.refusals import Asked, refusal
from kubewhy.farside import unreadable
from kubewhy.http import connect as connected
from kubewhy.http import trust

# Adds what the far side knows us by.
Sign = Callable[[httpx2.Request], Awaitable[None]]

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


def connect(asked: Asked, timeout: float, ca_file: Path | None, sign: Sign | None = None) -> httpx2.AsyncClient:
    """A client for that backend. With `sign`, no credentials are sent but those that it adds."""

    async def prepare(request: httpx2.Request) -> None:
        for name in list(request.headers):
            if name not in _SENT or (sign and name == "authorization"):
                del request.headers[name]
        if sign:
            await sign(request)

    return connected(asked, timeout, trust(asked, ca_file), prepare)


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
