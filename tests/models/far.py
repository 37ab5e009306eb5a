"""A model's far side, in the test's own process: it keeps what it was asked, and answers as its vendor would."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from aiohttp import web

from explainer.backends.settings import BackendSettings
from kubewhy.contracts import Prompt

MODEL = "model-7"
SECRET = "sk-planted-0123456789abcdef"
PROMPT = Prompt(
    system="You explain failures.",
    user="pod POD_1 is out of memory",
    schema={
        "type": "object",
        "properties": {"cause": {"type": "string"}},
        "required": ["cause"],
        "additionalProperties": False,
    },
    max_tokens=321,
)
INPUT_TOKENS, OUTPUT_TOKENS = 17, 5


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(told: object, status: int = 200, **headers: str) -> "Reply":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Reply(status, json.dumps(told).encode(), {"content-type": "application/json", **named})


class Ending(StrEnum):
    """How an answer may end."""

    WHOLE = "whole"
    CUT = "cut"
    FILTERED = "filtered"


class Trouble(StrEnum):
    """What a vendor may refuse a request for."""

    UNKNOWN_MODEL = "unknown model"
    WRONG_KEY = "wrong key"
    EXPIRED = "expired credentials"
    WRONG_REGION = "wrong region"
    SPENT = "quota used up"
    THROTTLED = "throttled"
    OVERLOADED = "overloaded"
    FILTERED = "content filter"
    TOO_LONG = "context overflow"


RETRY_AFTER = 7


class Vendor(Protocol):
    """One wire format, and the settings that lead to it."""

    @property
    def name(self) -> str: ...

    def settings(self, url: str, **more: Any) -> BackendSettings: ...

    def environ(self) -> Mapping[str, str]:
        """What has to be in the environment for these settings."""
        ...

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply: ...

    def refusal(self, trouble: Trouble) -> Reply | None:
        """None where this vendor never refuses for that."""
        ...

    def aside(self, asked: Asked) -> Reply | None:
        """What is asked for besides, such as tokens. None: it is the model that is asked."""
        ...

    def schema(self, asked: Asked) -> object:
        """The schema that came with the request, or None."""
        ...


Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Far:
    """`asked` is what came for the model, `besides` what else came. Scripts are used up before `text` is answered."""

    def __init__(self, vendor: Vendor, text: str = '{"cause": "memory"}') -> None:
        self.vendor = vendor
        self.text = text
        self.url = ""
        self.asked: list[Asked] = []
        self.besides: list[Asked] = []
        self.scripts: list[Script] = []
        self.answering: Callable[[Asked], Reply] | None = None  # in place of `text`

    def then(self, *replies: Reply | Script | None) -> None:
        for reply in replies:
            assert reply is not None
            self.scripts.append(whole(reply) if isinstance(reply, Reply) else reply)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, dict(request.headers), await request.read())
        if aside := self.vendor.aside(asked):
            self.besides.append(asked)
            return await whole(aside)(request)
        self.asked.append(asked)
        if self.scripts:
            return await self.scripts.pop(0)(request)
        reply = self.answering(asked) if self.answering else self.vendor.answer(asked, self.text)
        return await whole(reply)(request)


class Answering(Protocol):
    """Whatever answers requests, at the address that it is given."""

    url: str

    async def answer(self, request: web.Request) -> web.StreamResponse: ...


Side = TypeVar("Side", bound=Answering)


@asynccontextmanager
async def serving(far: Side, tls: ssl.SSLContext | None = None) -> AsyncIterator[Side]:
    """It on a port of its own. Whatever hangs there ends with it."""
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", far.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    far.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield far
    finally:
        await runner.cleanup()


def whole(reply: Reply) -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    return script


def half(reply: Reply) -> Script:
    """Breaks the connection in the middle of the body."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**reply.headers, "content-length": str(len(reply.body))})
        await response.prepare(request)
        await response.write(reply.body[: len(reply.body) // 2])
        assert request.transport
        request.transport.close()
        return response

    return script


async def endless(request: web.Request) -> web.StreamResponse:
    """White space before an answer that never comes: no parser stops it."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(b" " * 65536)
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def compressed(request: web.Request) -> web.StreamResponse:
    """What would be a thousand times as large."""
    return web.Response(body=b"\x1f\x8b\x08", headers={"content-encoding": "gzip", "content-type": "application/json"})
