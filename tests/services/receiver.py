"""Something that is posted to, in the test's own process: it keeps what came, and answers as it is told to."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.models.far import Asked, Reply, Script, serving, whole


class Receiver:
    """`asked` is what came, `taken` what all was well with. Scripts are used up before that."""

    def __init__(self, fine: Reply | None = None) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.taken: list[Asked] = []
        self.scripts: list[Script] = []
        self.fine = fine or Reply(200, b"ok")

    def then(self, *replies: Reply | Script) -> None:
        self.scripts += [whole(reply) if isinstance(reply, Reply) else reply for reply in replies]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.path_qs, request.headers, await request.read()))
        if self.scripts:
            return await self.scripts.pop(0)(request)
        self.taken.append(self.asked[-1])
        return await whole(self.fine)(request)


@asynccontextmanager
async def receiving(
    tls: ssl.SSLContext | None = None, fine: Reply | None = None, receiver: Receiver | None = None
) -> AsyncIterator[Receiver]:
    """A receiver on a port of its own. Whatever hangs there ends with it."""
    receiver = receiver or Receiver(fine)
    async with serving(receiver, tls):
        yield receiver
