"""S3's refusals, as https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html has them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.models.far import Asked, Reply, Script, whole

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


@asynccontextmanager
async def refusing(*replies: Reply | Script) -> AsyncIterator[Refusing]:
    """A store on a port of its own. Whatever hangs there ends with it."""
    far = Refusing([whole(each) if isinstance(each, Reply) else each for each in replies])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", far.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    far.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield far
    finally:
        await runner.cleanup()
