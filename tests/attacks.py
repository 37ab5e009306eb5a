"""The corpus of hostile texts: tests/attacks.yaml."""

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Attack:
    """A text, where in a cluster it stands, and whom it means to steer."""

    number: int
    place: str
    at: str
    text: str

    def __str__(self) -> str:
        return f"{self.number}-{self.place}-{self.at}"


def _load() -> list[Attack]:
    listed = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return [Attack(number, each["in"], each["at"], each["text"]) for number, each in enumerate(listed, 1)]


ATTACKS = _load()
