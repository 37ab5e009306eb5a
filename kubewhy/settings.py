"""What a settings file may say: one YAML file, closed models, every default here."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from kubewhy.durations import parse_duration
from kubewhy.errors import ConfigError
from kubewhy.spelling import hint


class ClusterSettings(BaseModel, extra="forbid", frozen=True):
    """What the cluster is called. The id tells clusters apart, the name is for people."""

    id: str | None = Field(default=None, min_length=1, max_length=253)
    name: str | None = Field(default=None, min_length=1, max_length=253)


class StdoutSettings(BaseModel, extra="forbid", frozen=True):
    type: Literal["stdout"]


def _duration(told: object) -> object:
    if isinstance(told, str):
        return parse_duration(told)
    raise ValueError(f"{told!r} has no unit; write 90s, 15m, 1h30m or 7d")


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class IncidentSettings(BaseModel, extra="forbid", frozen=True):
    """How patient to be: `explainer/profiles.py`. What is given here comes before the profile.

    Without a profile, rules hold as long as they say, and what is seen no more is resolved at once.
    """

    profile: Literal["fast", "mixin"] | None = None
    keep_open: Duration | None = None
    repeat: Duration | None = None
    holds: dict[str, Duration] = {}


class Settings(BaseModel, extra="forbid", frozen=True):
    """What `kubewhy run` goes by; flags of the command line come before it."""

    cluster: ClusterSettings = ClusterSettings()
    kubeconfig: Path | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()  # empty: all
    incidents: IncidentSettings = IncidentSettings()
    sinks: tuple[StdoutSettings, ...] = (StdoutSettings(type="stdout"),)


def load(path: Path) -> Settings:
    """The settings of a file. Raises ConfigError with the file, the key and the remedy."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings ({error.strerror}); name another file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: no text file; settings are YAML in UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_line(error)}: not YAML; mend it there") from None
    try:
        return Settings.model_validate({} if told is None else told)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}") from None


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _first(error: ValidationError) -> str:
    """The first fault, by its place. The value is not told: it may be a secret."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = fault["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "the file"
    if fault["type"] == "extra_forbidden":
        known = _keys(place[:-1])
        return f"{key}: unknown key{hint(str(place[-1]), known)} (known here: {', '.join(known)})"
    if fault["type"] == "model_type":
        return f"{key}: must hold keys and values ({', '.join(_keys(place))})"
    said = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {said[0].lower()}{said[1:]}; mend it or leave it out"


def _keys(place: Sequence[int | str]) -> list[str]:
    """The keys that the model at that place knows."""
    models: dict[Any, type[BaseModel]] = {
        "cluster": ClusterSettings,
        "incidents": IncidentSettings,
        "sinks": StdoutSettings,
    }
    model = models.get(place[0], Settings) if place else Settings
    return sorted(model.model_fields)
