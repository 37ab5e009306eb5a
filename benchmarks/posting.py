"""Sinks that post: how many findings a second they take, against their bare client library, to the same far side."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import msgspec
from slack_sdk.web.async_client import AsyncWebClient

from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row, at_most
from kubewhy.contracts import Letter, Sink
from kubewhy.records import Finding
from sinks import make
from sinks.samples import OPENED
from sinks.settings import AlertmanagerSettings, SlackSettings, WebhookSettings
from tests.delivered import Memory
from tests.models.far import serving
from tests.services.receiver import Receiver, receiving
from tests.services.slack import CHANNEL, TOKEN, Workspace

COUNT, TIMES = 300, 3
LIMIT = 3.0

Post = Callable[[int], Awaitable[object]]


def posting(bench: Bench) -> Iterator[Row]:
    """In a process of its own."""
    yield from msgspec.json.decode(run(python("benchmarks.posting")).output, type=list[Row])


def main() -> list[Row]:
    return asyncio.run(_rows())


async def _rows() -> list[Row]:
    async with AsyncExitStack() as stack:
        workspace = await stack.enter_async_context(serving(Workspace()))
        receiver = await stack.enter_async_context(receiving(receiver=Receiver()))
        http = await stack.enter_async_context(httpx2.AsyncClient())
        client = AsyncWebClient(TOKEN, base_url=f"{workspace.url}/api/")
        bot = make(
            SlackSettings.model_validate({"type": "slack", "channel": CHANNEL, "url": f"{workspace.url}/api/"}),
            {"SLACK_BOT_TOKEN": TOKEN},
        )
        hook = make(WebhookSettings(type="webhook", url=receiver.url), {})
        events = make(WebhookSettings(type="webhook", url=receiver.url, format="cloudevents"), {})
        alerts = make(AlertmanagerSettings(type="alertmanager", urls=(receiver.url,)), {})
        for each in (bot, hook, events, alerts):
            stack.push_async_callback(each.close)
        await _sent(bot)(0)
        said = workspace.of("chat.postMessage")[0]
        blocks, attachments = _json(said["blocks"]), _json(said["attachments"])
        body = msgspec.json.encode(OPENED)

        async def bare_slack(number: int) -> object:
            text = f"{number}"
            return await client.chat_postMessage(channel=CHANNEL, text=text, blocks=blocks, attachments=attachments)

        async def bare_http(number: int) -> object:
            return await http.post(receiver.url, content=body, headers={"content-type": "application/json"})

        return [
            await _row("slack", _sent(bot), bare_slack, "slack-sdk"),
            await _row("a webhook, Alertmanager's format", _sent(hook), bare_http, "httpx2"),
            await _row("a webhook, CloudEvents", _sent(events), bare_http, "httpx2"),
            await _row("Alertmanager", _sent(alerts), bare_http, "httpx2"),
        ]


def _json(told: Any) -> Any:
    return json.loads(told) if isinstance(told, str) else told


def _sent(sink: Sink) -> Post:
    """Each finding opens an incident of its own."""
    memo, drawn = Memory(), iter(range(10**9))

    async def send(_: int) -> None:
        number = next(drawn)
        incident = msgspec.structs.replace(OPENED.incident, id=f"{number:016x}")
        finding: Finding = msgspec.structs.replace(OPENED, id=f"{number:032x}", transition="opened", incident=incident)
        await sink.send([Letter(number, finding)], memo)

    return send


async def _row(name: str, ours: Post, bare: Post, peer: str) -> Row:
    taken: dict[Post, list[float]] = {ours: [], bare: []}
    for _ in range(TIMES):
        for post, times in taken.items():
            begun = time.perf_counter()
            for number in range(COUNT):
                await post(number)
            times.append(time.perf_counter() - begun)
    best, least = min(taken[ours]), min(taken[bare])
    return at_most(f"told to {name}", f"{COUNT / best:,.0f} a second", best / least, f"bare {peer}", LIMIT)


if __name__ == "__main__":
    print(msgspec.json.encode(main()).decode())
