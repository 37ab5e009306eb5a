"""A stock Alertmanager takes our alerts, groups, silences and resolves them; our webhook is shaped as its own is."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from msgspec.structs import replace

from infra.testbed.alertmanager import alertmanager
from kubewhy.contracts import Sink
from kubewhy.records import Finding, Severity
from sinks import make
from sinks.alerts import fingerprint
from sinks.samples import OPENED
from sinks.settings import AlertmanagerSettings, WebhookSettings
from tests.delivered import Memory, letters
from tests.services.receiver import Receiver, receiving
from tests.services.v4 import V4

pytestmark = pytest.mark.live


def findings() -> list[Finding]:
    """One incident of right now, that opens, becomes worse and resolves."""
    now = datetime.now(UTC)
    incident = replace(OPENED.incident, opened_at=now - timedelta(seconds=5), severity=Severity.WARNING)
    opened = replace(OPENED, id="a" * 32, transition="opened", revision=1, at=now, incident=incident)
    worse = replace(opened, id="b" * 32, revision=2, incident=replace(incident, severity=Severity.CRITICAL))
    over = replace(
        worse,
        id="c" * 32,
        transition="resolved",
        revision=3,
        incident=replace(worse.incident, state="resolved", resolution="recovered", resolved_at=now),
    )
    return [opened, worse, over]


async def arrived(receiver: Receiver, wanted: Callable[[V4], bool]) -> V4:
    """The first post that is wanted."""
    async with asyncio.timeout(20):
        while True:
            # A stock one may send fields that are newer than what is documented for all.
            for asked in receiver.asked:
                told = V4.model_validate({name: value for name, value in asked.json.items() if name in V4.model_fields})
                if wanted(told):
                    return told
            await asyncio.sleep(0.05)


def shape(told: Any) -> Any:
    """Which fields there are, and of which types."""
    if isinstance(told, dict):
        return {name: shape(value) for name, value in told.items() if name not in ("annotations", "commonAnnotations")}
    return [shape(each) for each in told[:1]] if isinstance(told, list) else type(told).__name__


async def alerts(url: str, **query: str) -> list[dict[str, Any]]:
    async with ClientSession() as session, session.get(f"{url}/api/v2/alerts", params=query) as reply:
        told: list[dict[str, Any]] = await reply.json()
        return told


async def test_it_takes_groups_and_resolves_our_alerts_and_speaks_as_we_do(tmp_path: Path) -> None:
    opened, worse, over = findings()
    memo = Memory()
    async with receiving() as theirs, receiving() as ours:
        with alertmanager(tmp_path, theirs.url) as url:
            sink = make(AlertmanagerSettings(type="alertmanager", urls=(url,)), {})
            hook = make(WebhookSettings(type="webhook", url=ours.url), {})

            async def send(finding: Finding) -> None:
                for each, kept in ((sink, memo), (hook, Memory())):
                    await each.send(letters([finding]), kept)

            await send(opened)
            first = await arrived(theirs, lambda told: told.status == "firing")
            (kept,) = await alerts(url)
            assert kept["fingerprint"] == fingerprint(kept["labels"]) == first.alerts[0].fingerprint
            mine = V4.model_validate(ours.asked[0].json)
            assert shape(ours.asked[0].json) == {
                name: value for name, value in shape(theirs.asked[0].json).items() if name in V4.model_fields
            }
            assert mine.alerts == first.alerts
            assert (mine.groupKey, mine.groupLabels) == (first.groupKey, first.groupLabels)
            assert (mine.commonLabels, mine.commonAnnotations) == (first.commonLabels, first.commonAnnotations)

            await send(worse)
            both = await arrived(theirs, lambda told: len(told.alerts) == 2)
            assert {(each.status, each.labels["severity"]) for each in both.alerts} == {
                ("resolved", "warning"),
                ("firing", "critical"),
            }
            await sink.spare(memo)
            assert [each["labels"]["severity"] for each in await alerts(url)] == ["critical"]

            await send(over)
            ended = await arrived(theirs, lambda told: told.status == "resolved")
            assert ended.groupKey == first.groupKey
            assert not await alerts(url)
            await close(sink, hook)


async def test_a_silence_of_the_team_keeps_it_quiet(tmp_path: Path) -> None:
    opened = findings()[0]
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "namespace", "value": "shop", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "team",
        "comment": "we know",
    }
    elsewhere = replace(
        opened,
        id="d" * 32,
        incident=replace(opened.incident, id="d" * 16, root=replace(opened.incident.root, namespace="other")),
    )
    async with receiving() as theirs:
        with alertmanager(tmp_path, theirs.url) as url:
            async with ClientSession() as session, session.post(f"{url}/api/v2/silences", json=silence) as reply:
                assert reply.status == 200
            sink = make(AlertmanagerSettings(type="alertmanager", urls=(url,)), {})
            await sink.send(letters([opened, elsewhere]), Memory())
            told = await arrived(theirs, lambda told: True)
            assert told.groupLabels == {"incident": "d" * 16}
            (quiet,) = await alerts(url, active="false")
            assert quiet["status"]["state"] == "suppressed"
            await close(sink)


async def close(*sinks: Sink) -> None:
    for sink in sinks:
        await sink.close()
