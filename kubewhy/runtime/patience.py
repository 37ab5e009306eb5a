"""How patient incidents are, by the settings: their profile, but for what they say themselves."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from analyzers import enabled
from explainer.incidents import Incidents
from explainer.profiles import PROFILES
from explainer.unheard import Silent
from kubewhy.errors import ConfigError
from kubewhy.records import Report
from kubewhy.settings import Settings
from kubewhy.spelling import hint


def patience(
    settings: Settings,
    config: Path | None,
    labels: Iterable[str],
    *,
    no_hold: bool,
    silence: Silent = Silent.TOLD,
) -> Incidents:
    """Incidents of the profile that the settings name, but for what they say themselves."""
    told, explain = settings.incidents, bool(settings.explain.backends)
    known = {rule.id for analyzer in enabled() for rule in analyzer.rules}
    if unknown := next((rule for rule in told.holds if rule not in known), None):
        raise ConfigError(
            f"{config or 'the settings'}: incidents.holds: no rule {unknown}{hint(unknown, known)}; see `kubewhy rules`"
        )
    if no_hold:
        return Incidents(labels=labels, explain=explain, silence=silence)
    profile = PROFILES[told.profile]
    keep_open = profile.keep_open if told.keep_open is None else told.keep_open
    return Incidents(
        keep_open=keep_open,
        holds={**profile.holds, **told.holds},
        repeat=told.repeat,
        labels=labels,
        explain=explain,
        silence=silence,
    )


def at_once(report: Report) -> Report:
    """The same without holds."""
    failures = tuple(msgspec.structs.replace(failure, hold=0.0) for failure in report.failures)
    return msgspec.structs.replace(report, failures=failures)
