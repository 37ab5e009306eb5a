"""What docs/sinks.md tells of settings is what they take."""

import re
from pathlib import Path
from typing import get_args

import pytest

from kubewhy.settings import load
from sinks.settings import SinkSettings

PAGE = (Path(__file__).parents[1] / "docs" / "sinks.md").read_text()


@pytest.mark.parametrize("settings", re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S))
def test_settings_are_taken(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "kubewhy.yaml"
    path.write_text(settings)
    assert load(path).sinks


def test_every_type_is_listed() -> None:
    _, *listed = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.split("## Which there are")[1].split("##")[0], re.M)
    models = get_args(get_args(SinkSettings)[0])
    assert set(listed) == {name for model in models for name in get_args(model.model_fields["type"].annotation)}
