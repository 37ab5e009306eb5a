"""docs/backends.md: each configuration there is asked once, at a far side of its vendor's format."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from explainer.backends import make
from kubewhy.runtime.backends import TYPES, Kept
from tests.models import VENDORS
from tests.models.far import PROMPT, SECRET, Far, serving
from tests.models.openai import OpenAI

PAGE = (Path(__file__).parent.parent / "docs" / "backends.md").read_text()
SHOWN: list[dict[str, Any]] = [
    each for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) for each in yaml.safe_load(block)["backends"]
]
# Where it is, and who may ask, differ on loopback.
ELSEWHERE = {"url", "key", "profile", "credentials_file", "entra"}


def test_every_type_is_shown() -> None:
    assert sorted({each["type"] for each in SHOWN}) == list(TYPES)


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each.get("name", each["type"]))
async def test_what_is_shown_works(shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Kept.model_validate({"backends": [shown]})
    if shown["type"] == "rules":
        return
    vendor = next((each for each in VENDORS if each.name == shown["type"]), OpenAI(shown["type"]))
    for name, value in vendor.environ().items():
        monkeypatch.setenv(name, value)
    told = {key: value for key, value in shown.items() if key not in ELSEWHERE}
    async with serving(Far(vendor)) as far:
        backend = make(vendor.settings(far.url, **told), {"PLANTED": SECRET})
        answer = await backend.complete(PROMPT)
        await backend.close()
    assert answer.text == far.text
    wanted = shown.get("model") or shown["endpoint"]
    assert str(wanted) in far.asked[0].body.decode() + far.asked[0].path
