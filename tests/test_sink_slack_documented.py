"""docs/slack.md: each configuration there delivers a finding to a workspace."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewhy.contracts import Letter
from kubewhy.settings import Settings
from sinks import make
from sinks.settings import SlackSettings
from tests.delivered import Memory
from tests.models.far import serving
from tests.services.slack import HOOK, TOKEN, Channel, Workspace
from tests.test_sink_slack import finding

PAGE = (Path(__file__).parent.parent / "docs" / "slack.md").read_text()
SHOWN: list[dict[str, Any]] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each["sinks"][0]["type"])
async def test_what_is_shown_delivers(shown: dict[str, Any]) -> None:
    async with serving(Workspace()) as slack:
        environ = {"SLACK_BOT_TOKEN": TOKEN, "SLACK_WEBHOOK_URL": slack.url + HOOK}
        for told in Settings.model_validate(shown).sinks:
            if isinstance(told, SlackSettings):
                told = told.model_copy(update={"url": f"{slack.url}/api/"})
                slack.channels[told.channel] = Channel()
            sink = make(told, environ)
            await sink.send([Letter(1, finding("opened"))], Memory())
            await sink.close()
            if isinstance(told, SlackSettings):
                assert len(slack.channels[told.channel].roots) == 1
            else:
                assert len(slack.hooked) == 1


def test_all_settings_are_told() -> None:
    for name in SlackSettings.model_fields.keys() - {"name", "silenced", "url", "ca_file", "timeout_seconds", "type"}:
        assert f"{name}:" in PAGE, name
