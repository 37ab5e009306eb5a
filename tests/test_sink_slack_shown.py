"""What `kubewhy sinks preview` shows of a Slack message."""

from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from kubewhy.runtime.trying import story
from sinks.settings import SlackSettings, SlackWebhookSettings
from sinks.slack.bot import SlackBot
from sinks.slack.shown import shown
from sinks.slack.webhook import SlackWebhook
from tests.golden import golden

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS: dict[str, Any] = {"mention": {"info": ["U012"]}, "buttons": {"Logs": "https://logs.example/{namespace}"}}


def test_a_message_and_its_thread() -> None:
    bot = SlackBot(SlackSettings(type="slack", channel="C0123456789", **SETTINGS), SecretStr("xoxb-1"))
    golden("slack-preview.txt", "\n\n".join(map(bot.preview, story("i1", NOW))) + "\n")


def test_a_webhook_tells_when_it_opens_and_when_it_is_over() -> None:
    settings = SlackWebhookSettings(type="slack-webhook", **SETTINGS)
    told = list(map(SlackWebhook(settings, SecretStr("https://hooks.example/x")).preview, story("i1", NOW)))
    assert [bool(each) for each in told] == [True, False, True]
    assert "[Logs]" in told[0]


def test_mark_up_is_shown_as_what_it_stands_for() -> None:
    text = "*bold* _so_ `x &lt; 1` <https://x.example|a link> <!date^1^{date}|then> 2*3*4 snake_case_name <@U012>"
    block = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    assert shown({"blocks": [block]}) == "bold so x < 1 a link then 2*3*4 snake_case_name @U012"
