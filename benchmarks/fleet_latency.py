"""How soon a change reaches a sink's far side over Kafka: from before the write to the call that tells of it."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from benchmarks import filling
from benchmarks.cluster import Bench
from benchmarks.latency import Changes
from benchmarks.table import Row
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import kafka
from tests.live.watched import thread
from tests.models.far import serving
from tests.services.receiver import Receiver
from tests.services.slack import TOKEN, Channel, Workspace

RATE = 100.0  # changes a second
LIMITS = {50: 0.5, 99: 2.0}  # seconds, by percentile
# Slack takes one message a second in a channel, and an incident may take two: so each of these pods has its own.
_TOLD = {number: f"C{number:010}" for number in (0, 100, 200, 300)}
_QUIET_SECONDS = 8.0


class _Hook(Receiver):
    """Hears each finding as it is posted."""

    def __init__(self, made: Changes) -> None:
        super().__init__()
        self._made, self.last = made, time.perf_counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.last, body = time.perf_counter(), await request.read()
        self._made.line(json.dumps(json.loads(body)["data"]).encode(), self.last)
        return await super().answer(request)


class _Slack(Workspace):
    """Hears when a message is posted or changed."""

    def __init__(self, made: Changes) -> None:
        super().__init__()
        self._made, self.delays = made, list[float]()
        self.channels |= {channel: Channel() for channel in _TOLD.values()}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        at = time.perf_counter()
        answer = await super().answer(request)
        method, told = self.asked[-1]
        text = json.dumps(told)
        for number in _TOLD:
            name = filling.lone_name(number)
            made = self._made.made.get((name, method == "chat.postMessage"))
            if made and name in text and method in ("chat.postMessage", "chat.update") and "thread_ts" not in told:
                self.delays.append(at - made)
        return answer


def fleet_latency(bench: Bench) -> Iterator[Row]:
    """One worker of each role, and of each sink; without holds."""
    made, stack = Changes(bench, RATE), AsyncExitStack()
    hook, slack = _Hook(made), _Slack(made)

    async def begin() -> None:
        await stack.enter_async_context(serving(hook))
        await stack.enter_async_context(serving(slack))

    with TemporaryDirectory() as folder, kafka(Path(folder)) as broker, thread() as run:
        run(begin())
        os.environ["SLACK_BOT_TOKEN"] = TOKEN
        slacks = [
            {"type": "slack", "name": each, "channel": each, "url": f"{slack.url}/api/", "digest": False}
            for each in _TOLD.values()
        ]
        routes = [
            {"matchers": [f'name="{filling.lone_name(number)}"'], "sinks": [channel]}
            for number, channel in _TOLD.items()
        ]
        sinks = [{"type": "webhook", "url": hook.url, "format": "cloudevents"}, *slacks]
        fleet = Fleet(Path(folder), broker, {"sinks": sinks, "routes": routes})
        fleet.create_topics()
        try:
            fleet.collector("bench", bench.reader)
            fleet.start("analyzer", "analyzer")
            fleet.start("explainer", "explainer", "--no-hold")
            for name in ("webhook", *_TOLD.values()):
                fleet.start(f"sink-{name}", "sink", name)
            time.sleep(20)
            while time.perf_counter() - hook.last < _QUIET_SECONDS:
                time.sleep(1)
            told = made.make()
        finally:
            fleet.stop()
            run(stack.aclose())
    # These are few: the slowest of all stands for the slowest in a hundred.
    few = sorted(slack.delays)
    slowest = [few[ceil(len(few) * percentile / 100) - 1] for percentile in range(1, 101)]
    calls = (("a webhook's call over Kafka", told), (f"Slack's call over Kafka, of {len(few)}", [0.0, *slowest]))
    for where, delays in calls:
        for percentile, limit in LIMITS.items():
            seconds = delays[percentile]
            yield Row(
                f"API write to {where}, {RATE:.0f} changes a second, p{percentile}",
                f"{seconds * 1000:.0f} ms",
                f"{seconds / limit:.2f} of the limit",
                f"under {limit * 1000:.0f} ms",
                seconds < limit,
            )
