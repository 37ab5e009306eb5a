"""What a settings file may say: one YAML file, closed models, every default here."""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from explainer.backends.settings import BackendSettings
from explainer.matchers import match_all, parse, parse_all
from kubewhy.brokers import BrokerSettings
from kubewhy.buckets import BucketSettings
from kubewhy.durations import parse_duration, parse_time, utc
from kubewhy.errors import ConfigError
from kubewhy.events import FLEET
from kubewhy.faults import first, where
from kubewhy.keys import Key
from kubewhy.listening import MetricsSettings
from kubewhy.records import Severity
from kubewhy.spelling import hint
from kubewhy.variables import overridden, source
from sinks.settings import SinkSettings, StdoutSettings

log = logging.getLogger(__name__)


class ClusterSettings(BaseModel, extra="forbid", frozen=True):
    """What the cluster is called. The id tells clusters apart, the name is for people."""

    id: str | None = Field(default=None, min_length=1, max_length=253)
    name: str | None = Field(default=None, min_length=1, max_length=253)

    @field_validator("id")
    @classmethod
    def _one_of_many(cls, told: str | None) -> str | None:
        if told == FLEET:
            raise ValueError(f"{FLEET} stands for all clusters at once; give the cluster another id")
        return told


def _duration(told: object) -> object:
    if isinstance(told, timedelta):
        return told
    if isinstance(told, str):
        return parse_duration(told)
    raise ValueError(f"{told!r} has no unit; write 90s, 15m, 1h30m or 7d")


def _time(told: object) -> object:
    if isinstance(told, datetime):
        return utc(told)
    # YAML makes a date of what has no time of day.
    return parse_time(str(told))


def _matchers(text: str) -> str:
    parse(text)
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Time = Annotated[datetime, BeforeValidator(_time)]
Matchers = Annotated[str, AfterValidator(_matchers)]


class IncidentSettings(BaseModel, extra="forbid", frozen=True):
    """How patient to be: `explainer/profiles.py`. What is given here comes before the profile."""

    profile: Literal["fast", "mixin"] = "fast"
    keep_open: Duration | None = None
    repeat: Duration | None = None
    holds: dict[str, Duration] = {}


class RouteSettings(BaseModel, extra="forbid", frozen=True):
    """What these sinks are told: incidents with a failure that fits all matchers and is at least so severe."""

    matchers: tuple[Matchers, ...] = ()
    severity: Severity = Severity.INFO
    sinks: tuple[str, ...] = Field(min_length=1)


class SilenceSettings(BaseModel, extra="forbid", frozen=True):
    """What nobody is told until then."""

    matchers: tuple[Matchers, ...]
    until: Time
    comment: str = Field(default="", max_length=1000)

    @model_validator(mode="after")
    def _narrow(self) -> "SilenceSettings":
        if match_all(parse_all(self.matchers)):
            raise ValueError('these matchers match everything; name what is to be silenced, as in namespace="shop"')
        return self


class PriceSettings(BaseModel, extra="forbid", frozen=True):
    """In US dollars, for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class ExplainSettings(BaseModel, extra="forbid", frozen=True):
    """Which models explain incidents, the first that can. Without any, incidents are told in the rules' words alone.

    `daily_dollars` counts only backends whose price is told.
    """

    backends: tuple[BackendSettings, ...] = ()
    language: str = Field(default="English", min_length=2, max_length=40, pattern=r"^[^\W\d_][\w ()-]*$")
    at_once: int = Field(default=4, ge=1, le=64)
    daily_tokens: int | None = Field(default=None, gt=0)
    daily_dollars: float | None = Field(default=None, gt=0)
    prices: dict[str, PriceSettings] = {}
    cache: Annotated[
        Annotated[bool, Tag("{here}")] | Annotated[BucketSettings, Tag("{shared}")],
        Discriminator(lambda told: "{here}" if isinstance(told, bool) else "{shared}"),
    ] = True  # in a file of this machine, in none, or on S3 for all who have the same masking key
    masking_key: Key | None = None  # None: one of this machine

    @model_validator(mode="after")
    def _agree(self) -> "ExplainSettings":
        names = [backend.called for backend in self.backends]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(
                    f"backends[{index}].name: there is another backend {name}; give each a name of its own"
                )
        for name in self.prices:
            if name not in names:
                raise ValueError(f"prices.{name}: there is no backend {name}{hint(name, names)}")
        if isinstance(self.cache, BucketSettings) and not self.masking_key:
            raise ValueError(
                "masking_key: is missing; with a cache that is shared all need the same, or no answer is found again: "
                "tell where it is, as in {env: NAME}"
            )
        return self


class CollectorSettings(BaseModel, extra="forbid", frozen=True):
    """How often a collector says that it lives, and which objects there are, and in what time it says all again."""

    heartbeat: Duration = timedelta(seconds=10)
    inventory: Duration = timedelta(minutes=10)
    restate: Duration = timedelta(minutes=30)


class Settings(BaseModel, extra="forbid", frozen=True):
    """What `kubewhy run` goes by; flags of the command line come before it."""

    cluster: ClusterSettings = ClusterSettings()
    kubeconfig: Path | None = None
    context: str | None = None
    namespaces: tuple[str, ...] = ()  # empty: all
    incidents: IncidentSettings = IncidentSettings()
    sinks: tuple[SinkSettings, ...] = (StdoutSettings(type="stdout"),)
    routes: tuple[RouteSettings, ...] = ()  # a sink that none of them names gets everything
    silences: tuple[SilenceSettings, ...] = ()
    explain: ExplainSettings = ExplainSettings()
    logs: bool = False  # whether the last log lines of containers that died are read
    collector: CollectorSettings = CollectorSettings()
    kafka: BrokerSettings | None = None  # None: all in one process
    metrics: MetricsSettings | None = None  # None: nobody can ask how it goes

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        names = [sink.called for sink in self.sinks]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"sinks[{index}].name: there is another sink {name}; give each a name of its own")
        for index, route in enumerate(self.routes):
            for place, name in enumerate(route.sinks):
                if name not in names:
                    known = ", ".join(names) or "none"
                    raise ValueError(
                        f"routes[{index}].sinks[{place}]: there is no sink {name}{hint(name, names)} (sinks: {known})"
                    )
        return self


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a file, if there is one, and of variables, which come before it.

    Raises ConfigError with the file or variable, the key and the remedy.
    """
    told, places = overridden(_read(path) if path else None, environ)
    file = str(path) if path else ""
    try:
        settings = Settings.model_validate({} if told is None else told)
    except ValidationError as error:
        who = source(where(error, Settings), places, file)
        raise ConfigError(f"{who}: {first(error, Settings)}") from None
    now = datetime.now(UTC)
    for index, silence in enumerate(settings.silences):
        if silence.until <= now:
            # No reason not to start: that would let a silence which ends take the next restart with it.
            log.warning(
                "%s: silences[%d].until: %s is in the past; remove this silence, or write a later time",
                source(("silences", index, "until"), places, file),
                index,
                silence.until.isoformat(),
            )
    return settings


def _read(path: Path) -> object:
    try:
        told: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings ({error.strerror}); name another file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: no text file; settings are YAML in UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_line(error)}: not YAML; mend it there") from None
    except ValueError as error:
        # YAML's own dates: it does not say where.
        raise ConfigError(f"{path}: holds a date that is none ({error}); mend it there") from None
    return told


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""
