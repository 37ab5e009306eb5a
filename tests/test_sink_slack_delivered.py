"""Slack behind the real delivery, which is killed meanwhile: what stands in the channel in the end."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from kubewhy.contracts import Sink, State
from kubewhy.glance import STORM
from kubewhy.records import Ref, Severity
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.outbox import DEAD
from kubewhy.runtime.state import MemoryState
from sinks.settings import SlackSettings
from sinks.slack.bot import SlackBot
from tests.hurry import hurried
from tests.models.far import serving
from tests.services.slack import BEGINNING, CHANNEL, TOKEN, Workspace, refuses
from tests.test_sink_slack import STORY, finding
from tests.views import told

RANKS = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)


class Killed(BaseException):
    """Nobody outlives it."""


class Fragile(MemoryState):
    """The process dies at some writes: before they are done, or after."""

    def __init__(self, seed: int = 0, deaths: int = 0) -> None:
        super().__init__()
        self._random, self.deaths, self._left = random.Random(seed), deaths, 20

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        self._left -= 1
        dies = self.deaths > 0 and self._left <= 0
        if dies:
            self.deaths -= 1
            self._left = self._random.randrange(5, 60)
        if not dies or self._random.random() < 0.5:
            super().write(rows)
        if dies:
            raise Killed


def seconds() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def workspace() -> AsyncIterator[Workspace]:
    async with serving(Workspace(seconds)) as slack:
        slack.apart = 1.0
        yield slack


@asynccontextmanager
async def delivering(slack: Workspace, state: State) -> AsyncIterator[Delivery]:
    settings = SlackSettings.model_validate({"type": "slack", "channel": CHANNEL, "url": f"{slack.url}/api/"})
    sink: Sink = SlackBot(settings, SecretStr(TOKEN), lambda: datetime.fromtimestamp(BEGINNING + seconds(), UTC))
    try:
        delivery = Delivery({"slack": sink}, state)
        async with delivery.running():
            yield delivery
    finally:
        await sink.close()


@pytest.mark.parametrize("seed", range(3))
@hurried
async def test_twenty_kills_leave_one_message_an_incident_each_with_its_final_state(seed: int) -> None:
    state, kills = Fragile(seed, deaths=25), 0
    unsent = [
        finding(transition, f"i{number:02}", severity=RANKS[number % 3]) for transition in STORY for number in range(40)
    ]
    async with workspace() as slack:
        while True:
            try:
                async with delivering(slack, state) as delivery:
                    while unsent:
                        delivery.post([("slack", unsent[0])], {})
                        unsent.pop(0)
                        await asyncio.sleep(0.7)
                    await delivery.end()
                    break
            except Killed:
                kills += 1
        assert kills >= 20
        headers = sorted(each.header for each in slack.channel.roots)
        assert headers == sorted(f"✅ i{number:02} crashes" for number in range(40))
        for root in slack.channel.roots:
            replies = [each.said["text"].partition(":")[0] for each in slack.channel.thread(root.ts)]
            assert sorted(replies) == ["Details", "✅ Resolved after 12m (recovered)"]
        assert slack.unfit == []
        assert list(state.scan(DEAD)) == []


@hurried
async def test_a_burst_of_three_hundred_is_in_the_channel_in_time_the_worst_first_and_edits_are_merged() -> None:
    async with workspace() as slack:
        begun = seconds()
        async with delivering(slack, MemoryState()) as delivery:
            for transition in ("opened", "updated", "explained"):
                for number in range(300):
                    letter = finding(transition, f"i{number:03}", severity=RANKS[number % 3])
                    delivery.post([("slack", letter)], {})
            await delivery.end()
        assert slack.channel.roots[-1].at - begun <= 310
        marks = [each.header[0] for each in slack.channel.roots]
        assert marks == ["🔴"] * 100 + ["🟡"] * 100 + ["🔵"] * 100
        assert all("The password is wrong." in str(each.said) for each in slack.channel.roots)
        assert slack.of("chat.update") == []


@hurried
async def test_a_storm_is_one_digest_with_its_incidents_beneath_and_keeps_nobody_waiting() -> None:
    storm = (
        told(Ref("Cluster", "c"), STORM, "20 are told one by one"),
        told(Ref("Pod", "a", "b"), message="a crashes"),
    )
    async with workspace() as slack:
        async with delivering(slack, MemoryState()) as delivery:
            for number in range(200):
                delivery.post([("slack", finding("opened", f"m{number:03}", digest="d1"))], {})
            delivery.post([("slack", finding("opened", "d1", failures=storm))], {})
            await asyncio.sleep(30)
            begun = seconds()
            delivery.post([("slack", finding("opened", "later"))], {})
            await delivery.end()
        digest, later = slack.channel.roots
        assert later.at - begun < 3
        assert (digest.header, later.header) == ("🟡 d1 crashes", "🟡 later crashes")
        assert len(slack.channel.thread(digest.ts)) == 200


@hurried
async def test_what_slack_asks_to_wait_is_waited_and_what_it_never_takes_is_set_aside() -> None:
    state = MemoryState()
    async with workspace() as slack:
        slack.scripts = {"chat.postMessage": [refuses("rate_limited"), refuses("msg_too_long"), refuses("fatal_error")]}
        async with delivering(slack, state) as delivery:
            for number in range(3):
                delivery.post([("slack", finding("opened", f"i{number}"))], {})
            await delivery.end()
        assert [each.header for each in slack.channel.roots] == ["🟡 i1 crashes", "🟡 i2 crashes"]
    assert len(list(state.scan(DEAD))) == 1


@hurried
async def test_a_wrong_token_is_mended_while_it_runs_and_nothing_is_lost() -> None:
    async with workspace() as slack:
        slack.tokens = set()
        async with delivering(slack, MemoryState()) as delivery:
            delivery.post([("slack", finding("opened"))], {})
            await asyncio.sleep(timedelta(minutes=5).total_seconds())
            assert slack.channel.messages == []
            slack.tokens = {TOKEN}
            await asyncio.sleep(61)
            assert len(slack.channel.roots) == 1
