"""S3's refusals, as https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html has them, and ways to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.models.far import Asked, Reply, Script, serving, whole

SECRET = "planted-in-a-refusal"


def refusal(status: int, code: str, *more: str, **headers: str) -> Reply:
    """One of S3's errors. Its words must not be repeated."""
    body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message>{''.join(more)}<RequestId>1</RequestId></Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body.encode(), {"content-type": "application/xml", **named})


@dataclass
class Refusing:
    """Answers by its scripts, the last one for ever."""

    scripts: list[Script]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.path, dict(request.headers), await request.read()))
        return await (self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])(request)


@dataclass
class Door:
    """The way to a store: open, unless there is something else to answer."""

    to: str
    url: str = ""
    instead: Script | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.instead:
            return await self.instead(request)
        reply = await forward(request, self.to)
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


async def forward(request: web.Request, to: str) -> Reply:
    """What is answered there."""
    headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
    url, body = f"{to}{request.rel_url}", await request.read()
    async with (
        aiohttp.ClientSession() as client,
        client.request(request.method, url, data=body, headers=headers) as reply,
    ):
        return Reply(reply.status, await reply.read(), {"etag": reply.headers.get("etag", "")})


@asynccontextmanager
async def refusing(*replies: Reply | Script) -> AsyncIterator[Refusing]:
    """A store on a port of its own."""
    async with serving(Refusing([whole(each) if isinstance(each, Reply) else each for each in replies])) as far:
        yield far
