"""Slack's incoming webhooks: one message when an incident opens, one when it is over."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from kubewhy.contracts import Letter
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, Severity
from sinks.settings import SlackWebhookSettings
from sinks.slack.webhook import SlackWebhook
from tests.models.far import serving
from tests.services.memo import Died, MemoryMemo
from tests.services.slack import HOOK, Script, Workspace, breaks, hangs, says
from tests.services.slack_limits import calls
from tests.test_sink_slack import STORY, finding
from tests.test_sink_slack_blocks import texts


@pytest.fixture
async def slack() -> AsyncIterator[Workspace]:
    async with serving(Workspace()) as workspace:
        yield workspace


class Side:
    def __init__(self, slack: Workspace, **more: Any) -> None:
        self.slack, self.memo = slack, MemoryMemo()
        settings = SlackWebhookSettings.model_validate({"type": "slack-webhook", **more})
        self.sink = SlackWebhook(settings, SecretStr(slack.url + HOOK), lambda: datetime.fromtimestamp(slack.now, UTC))

    async def send(self, *findings: Finding) -> None:
        for at, each in enumerate(findings):
            self.slack.now += 1
            await self.sink.send([Letter(at, each)], self.memo)


@pytest.fixture
async def side(slack: Workspace) -> AsyncIterator[Side]:
    side = Side(slack, timeout_seconds=2)
    yield side
    await side.sink.close()


async def test_an_incident_is_told_when_it_opens_and_when_it_is_over(side: Side) -> None:
    await side.send(*map(finding, STORY))
    opened, resolved = ("\n".join(texts(each)) for each in side.slack.hooked)
    assert "\U0001f7e1 *i1 crashes*\nOpen · Deployment shop/web in cluster c" in opened
    assert "• Pod shop/web-1: it exits with 1" in opened
    assert "✅ *i1 crashes*\nResolved after 12m (recovered)" in resolved
    assert "exits" not in resolved
    assert not side.slack.unfit


@pytest.mark.parametrize("first", ["updated", "explained"])
async def test_what_was_merged_with_its_opening_is_told_as_open(side: Side, first: str) -> None:
    await side.send(finding(first), finding("repeated"))
    assert len(side.slack.hooked) == 1


async def test_what_is_over_before_it_was_told_is_one_message(side: Side) -> None:
    await side.send(finding("resolved"), finding("resolved"), finding("updated"))
    assert len(side.slack.hooked) == 1


async def test_what_a_digest_stands_for_is_not_told(side: Side) -> None:
    await side.send(finding("opened", "m1", digest="d1"), finding("opened", "d1"))
    assert ["d1" in said["text"] for said in side.slack.hooked] == [True]


async def test_what_may_not_have_arrived_comes_again(side: Side) -> None:
    side.slack.losing = {HOOK: 1}
    with pytest.raises(RetryLater, match="502"):
        await side.send(finding("opened"))
    await side.send(finding("opened"))
    assert len(side.slack.hooked) == 2


async def test_after_a_restart_nothing_comes_again(side: Side) -> None:
    await side.send(finding("opened"))
    side.memo.dies_after = side.memo.writes + 1
    with pytest.raises(Died):
        await side.send(finding("resolved"))
    await side.send(finding("opened"), finding("resolved"))
    assert len(side.slack.hooked) == 2


async def test_incidents_that_are_long_over_are_forgotten(side: Side) -> None:
    await side.send(finding("opened"), finding("resolved"), finding("opened", "i2"))
    side.slack.now += timedelta(days=2).total_seconds()
    assert not await side.sink.spare(side.memo)
    assert list(side.memo.kept) == ["i2"]


async def test_those_who_are_configured_are_called(slack: Workspace) -> None:
    side = Side(slack, mention={"critical": ["U0123456789"]})
    await side.send(finding("opened", severity=Severity.CRITICAL), finding("resolved", severity=Severity.CRITICAL))
    opened, resolved = slack.hooked
    assert set(calls(opened)) == {"@U0123456789"}
    assert calls(resolved) == []
    await side.sink.close()


REFUSALS: dict[str, tuple[Script, type[Exception], str]] = {
    "no such webhook": (says(404, "no_service", "text/plain"), ConfigError, "environment variable SLACK_WEBHOOK_URL"),
    "a team that is gone": (says(404, "no_team", "text/plain"), ConfigError, "check or renew"),
    "a token that is none": (says(403, "invalid_token", "text/plain"), ConfigError, "check or renew"),
    "not allowed": (says(403, "action_prohibited", "text/plain"), ConfigError, "allow it"),
    "archived": (says(410, "channel_is_archived", "text/plain"), ConfigError, "unarchive"),
    "a message that is none": (says(400, "invalid_payload", "text/plain"), Rejected, "invalid_payload"),
    "blocks that are none": (says(400, "invalid_blocks", "text/plain"), Rejected, "invalid_blocks"),
    "too often": (says(429, "", Retry_After="9"), RetryLater, "too often"),
    "Slack's own trouble": (says(500, "rollup_error", "text/plain"), RetryLater, "rollup_error"),
    "a bad gateway": (says(502, "<html>", "text/html"), RetryLater, r"fails \(502\)"),
    "a portal": (says(200, "<html>log in</html>", "text/html"), RetryLater, "not what Slack answers"),
    "a redirect": (says(302, "", Location="http://127.0.0.1:1/"), RetryLater, "redirects"),
    "half an answer": (breaks, RetryLater, "broke"),
    "no answer": (hangs, RetryLater, "in time"),
}


@pytest.mark.parametrize("trouble", REFUSALS)
async def test_refusals_say_what_to_do_and_never_the_address(
    side: Side, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script, error, words = REFUSALS[trouble]
    side.slack.scripts = {HOOK: [script]}
    with pytest.raises(error, match=words) as caught:
        await side.send(finding("opened"))
    assert "planted-secret" not in str(caught.value)
    await side.send(finding("opened"))
    assert len(side.slack.hooked) == 1
    assert "planted-secret" not in "".join(record.getMessage() for record in caplog.records if "kubewhy" in record.name)


def test_what_is_no_address_is_refused_at_once_and_not_shown() -> None:
    settings = SlackWebhookSettings(type="slack-webhook")
    with pytest.raises(ConfigError, match="SLACK_WEBHOOK_URL holds no address") as caught:
        SlackWebhook(settings, SecretStr("hooks.slack.example/planted-secret"))
    assert "planted-secret" not in str(caught.value)
