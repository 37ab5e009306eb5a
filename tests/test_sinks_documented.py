"""The pages on sinks: each configuration there can be made, and the receiver's code accepts what we sign."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kubewhy.errors import ConfigError
from kubewhy.settings import Settings, load
from sinks import make
from sinks.samples import OPENED, RESOLVED
from sinks.settings import (
    AlertmanagerSettings,
    NotifySettings,
    OpsgenieSettings,
    PagerDutySettings,
    WebhookSettings,
)
from sinks.templates import Template
from sinks.webhook import signed

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in ("webhooks", "paging", "templates")}
SHOWN: list[dict[str, Any]] = [
    yaml.safe_load(block)
    for page in PAGES.values()
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    if block.startswith("sinks:")
]
SECRETS = {
    "CHAT_URL": "json://127.0.0.1/token",
    "EVENTS_URL": "https://events.example/token",
    **dict.fromkeys(("HOOK_TOKEN", "HOOK_SIGNING_KEY", "HOOK_KEY", "PAGERDUTY_KEY", "OPSGENIE_KEY"), "secret"),
}


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each["sinks"][0]["type"])
async def test_what_is_shown_can_be_made(
    shown: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail.url").write_text("mailtos://me:pass@example.com?to=team@example.com")
    for settings in Settings.model_validate(shown).sinks:
        await make(settings, SECRETS).close()


def test_a_receiver_accepts_what_is_signed_and_nothing_else() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["webhooks"], re.DOTALL)
    there: dict[str, Any] = {}
    exec(code, there)
    told = signed(b"key", OPENED.at, b"body")
    headers = {"X-Kubewhy-Timestamp": told["x-kubewhy-timestamp"], "X-Kubewhy-Signature": told["x-kubewhy-signature"]}
    assert there["is_ours"](b"key", headers, b"body")
    assert not there["is_ours"](b"key", headers, b"another")
    assert not there["is_ours"](b"other", headers, b"body")
    assert not there["is_ours"](b"key", {**headers, "X-Kubewhy-Timestamp": "0"}, b"body")


@pytest.mark.parametrize(
    ("page", "settings"),
    [
        ("webhooks", WebhookSettings),
        ("webhooks", AlertmanagerSettings),
        ("paging", NotifySettings),
        ("paging", PagerDutySettings),
        ("paging", OpsgenieSettings),
    ],
)
def test_all_settings_are_told(page: str, settings: type[BaseModel]) -> None:
    shared = {"bearer", "basic", "headers", "certificate", "ca_file", "timeout_seconds", "templates"}
    for name in settings.model_fields.keys() - {"type", "name", "silenced", "digest"}:
        told = PAGES["webhooks"] if name in shared else PAGES[page]
        assert re.search(rf"\b{name}\b", told), name


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("headers: {Host: x}", "sinks[0].headers.Host: Host is set by kubewhy itself"),
        ("headers: {X-A: 5}", "sinks[0].headers.X-A: must hold keys and values (env, file, keyring)"),
        (
            "headers: {X-A: {env: 5}}",
            "sinks[0].headers.X-A.env: input should be a valid string",
        ),
        (
            "labels: {a-b: x}",
            "sinks[0].labels.a-b: is no name of a label: write letters, digits and _, as in team_name",
        ),
        ("bearer: planted", "sinks[0].bearer: tell where the secret is, not the secret: {env: NAME}, {file: PATH}"),
        ("basic: {user: me}", "sinks[0].basic.password: is missing; it has to be given"),
        ("format: xml", "sinks[0].format: input should be 'alertmanager' or 'cloudevents'"),
        ("url_key: {env: A}", "sinks[0]: give `url` or `url_key`, where the address is"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(told: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "kubewhy.yaml"
    path.write_text(f'sinks:\n  - {{type: webhook, url: "https://host/planted", {told}}}\n')
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: {line}")
    assert "planted" not in str(error.value)


def test_the_template_that_is_shown_says_what_it_should() -> None:
    shown = next(each for each in SHOWN if "templates" in each["sinks"][0])["sinks"][0]["templates"]
    assert Template("title", shown["title"]).render(OPENED, "") == "[sample] Secret shop/password is missing"
    text = Template("text", shown["text"])
    assert text.render(OPENED, "").splitlines() == [
        "Pod web-6d4cf56db6-x2x5k: Secret shop/password does not exist",
        "The Secret was removed.",
    ]
    assert text.render(RESOLVED, "") == "over after 5m"


def test_all_filters_of_templates_are_told() -> None:
    from sinks import templates

    for name in (*templates._FILTERS, "join", "time", "age"):
        assert f"`{name}`" in PAGES["templates"], name
