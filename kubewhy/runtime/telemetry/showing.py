"""Whoever looks after a process is answered, where the settings want it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from kubewhy.errors import ConfigError
from kubewhy.listening import MetricsSettings
from kubewhy.runtime.telemetry.health import Health
from kubewhy.runtime.telemetry.notes import Notes
from kubewhy.runtime.telemetry.serving import serving

if TYPE_CHECKING:
    from kubewhy.runtime.telemetry.shown import Shown


@asynccontextmanager
async def showing(
    settings: MetricsSettings | None, notes: Notes, role: str, *checks: str
) -> AsyncIterator["Shown | None"]:
    """Answers meanwhile, by what is noted; without settings, nobody. A process is ready once it has passed all checks.

    Raises ConfigError where it cannot listen, or a package is missing.
    """
    if settings is None:
        yield None
        return
    try:
        # It takes megabytes, which whoever shows nothing has no use for.
        from kubewhy.runtime.telemetry.families import Metrics
        from kubewhy.runtime.telemetry.shown import Shown
    except ImportError as error:
        raise ConfigError(
            f"metrics: needs a package that is not there ({error.name}): pip install 'kubewhy[kafka]'"
        ) from None
    health, metrics = Health(*checks), Metrics(role)
    async with serving(settings, metrics, health):
        notes.said = health.say
        yield Shown(metrics, notes)
