"""`kubewhy run` killed twenty times while it tells Slack, mostly between Slack's answer and its own record of it."""

import asyncio
import random
import signal
import time
from pathlib import Path

import pytest
from aiohttp import web

from kubewhy.kube.core import PersistentVolumeClaim
from tests.api_server import api_server
from tests.models.far import serving
from tests.services.slack import CHANNEL, TOKEN, Workspace
from tests.test_run import lose, start

KILLS = 20
CLAIMS = [f"data-{number}" for number in range(8)]


class Deadly(Workspace):
    """Kills who asks: once it has done what it is asked for, and before it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.time()
        self.victim: asyncio.subprocess.Process | None = None
        self._drawn = random.Random(5)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        reply = await super().answer(request)
        if self.victim and self.victim.returncode is None and self._drawn.random() < 0.6:
            self.victim.kill()
            await self.victim.wait()
        return reply


def breaks(life: int) -> list[str]:
    """What breaks in each life: one claim in every second one."""
    return [CLAIMS[life // 2]] if life % 2 == 0 and life // 2 < len(CLAIMS) else []


def headers(slack: Workspace) -> list[str]:
    return [each.header for each in slack.channel.roots]


async def until(slack: Workspace, mark: str) -> None:
    async with asyncio.timeout(90):
        while sum(mark in header and name in header for header in headers(slack) for name in CLAIMS) < len(CLAIMS):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_twenty_kills_leave_one_message_an_incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    async with api_server() as server, serving(Deadly()) as slack:
        config = tmp_path / "kubewhy.yaml"
        config.write_text(
            f"sinks: [{{type: slack, channel: {CHANNEL}, url: '{slack.url}/api/'}}]\nincidents: {{keep_open: 0s}}"
        )
        where: list[str | Path] = ["run", "--no-hold", "--kubeconfig", server.kubeconfig(tmp_path)]
        where += ["--config", config, "--state", tmp_path / "state"]
        for life in range(KILLS):
            await lose(server, *breaks(life))
            slack.victim = await start(*where)
            try:
                async with asyncio.timeout(2.5):
                    await slack.victim.wait()
            except TimeoutError:
                slack.victim.kill()
            assert await slack.victim.wait() == -signal.SIGKILL
        asked, slack.victim = len(slack.asked), None
        last = await start(*where)
        await until(slack, "")
        for name in CLAIMS:
            await server.remove(PersistentVolumeClaim, name)
        await until(slack, "\u2705")
        last.send_signal(signal.SIGTERM)
        assert await last.wait() == 0
    assert asked >= KILLS
    assert len(slack.channel.roots) == len(CLAIMS)
    assert slack.unfit == []
