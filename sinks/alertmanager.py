"""Tells Alertmanager of incidents, so that teams keep their routes and silences; and again before it forgets."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding
from sinks.alerts import Alert, Texts, all_kept, follow, forget, keep, kept, texts
from sinks.posting import Poster
from sinks.settings import AlertmanagerSettings
from sinks.stdout import pretty

log = logging.getLogger(__name__)

PATH = "/api/v2/alerts"
# As Prometheus does: Alertmanager keeps alerts in memory only, and one that was restarted knows none.
AGAIN = timedelta(minutes=1)
_AT_ONCE = 500


def made(
    settings: AlertmanagerSettings, environ: Mapping[str, str], clock: Callable[[], datetime]
) -> "AlertmanagerSink":
    """The sink of these settings. Raises ConfigError where they lead nowhere."""
    posters = [Poster(f"{url}{PATH}", "`urls`", settings, environ) for url in settings.urls]
    told = texts(settings.labels, settings.templates)
    return AlertmanagerSink(posters, told, timedelta(minutes=settings.lasts_minutes), clock)


def render(alerts: Iterable[Alert], now: datetime, lasts: timedelta) -> list[dict[str, Any]]:
    """As the API takes them. What is open ends by itself if we are heard of no more."""
    told = []
    for alert in alerts:
        ends_at = alert.ends_at or now + lasts
        told.append(
            {
                "labels": alert.labels,
                "annotations": alert.annotations,
                # Clocks differ: what ended ends now at the latest, and nothing before it started.
                "startsAt": _time(min(alert.starts_at, ends_at, now)),
                "endsAt": _time(min(ends_at, now) if alert.ends_at else ends_at),
                "generatorURL": alert.docs,
            }
        )
    return told


class AlertmanagerSink:
    """Posts to each Alertmanager of a cluster, for they do not hand on alerts. One of them is enough."""

    manner = Manner(at_most=100, often=timedelta(seconds=5))

    def __init__(
        self, posters: Sequence[Poster], texts: Texts, lasts: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._posters = posters
        self._texts = texts
        self._lasts = lasts
        self._clock = clock
        self._next = datetime.min.replace(tzinfo=UTC)
        self._failing: set[str] = set()

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns once one of them has taken all. The others hear of it within a minute."""
        told: dict[str, tuple[Alert, ...]] = {}
        for letter in letters:
            incident = letter.finding.incident.id
            before = kept(memo, incident)
            alerts = follow(before, letter.finding, self._texts)
            if alerts is None:
                continue
            if alerts is not before:
                keep(memo, incident, alerts)
            told[incident] = alerts.alerts
        await self._post(alert for alerts in told.values() for alert in alerts)

    def preview(self, finding: Finding) -> str:
        """What would be posted."""
        alerts = follow(None, finding, self._texts)
        return pretty(render(alerts.alerts, finding.at, self._lasts)) if alerts else ""

    async def spare(self, memo: Memo) -> bool:
        """Each minute, tells of all that is open, and of what has ended of late, in case that was not heard."""
        now = self._clock()
        if now < self._next:
            return False
        forget(memo, now - self._lasts)
        await self._post(alert for each in all_kept(memo).values() for alert in each.alerts)
        self._next = now + AGAIN
        return False

    async def close(self) -> None:
        """Ends its connections."""
        for poster in self._posters:
            await poster.close()

    async def _post(self, alerts: Iterable[Alert]) -> None:
        told = render(alerts, self._clock(), self._lasts)
        for at in range(0, len(told), _AT_ONCE):
            body = msgspec.json.encode(told[at : at + _AT_ONCE])
            answers = await asyncio.gather(*(self._post_to(poster, body) for poster in self._posters))
            errors = [error for error in answers if error]
            if len(errors) == len(answers):
                raise errors[0]

    async def _post_to(self, poster: Poster, body: bytes) -> ConfigError | RetryLater | Rejected | None:
        try:
            await poster.post(body, {})
        except (ConfigError, RetryLater, Rejected) as error:
            if len(self._posters) > 1 and poster.address not in self._failing:
                self._failing.add(poster.address)
                log.warning("one of several Alertmanagers hears nothing: %s", error)
            return error
        self._failing.discard(poster.address)
        return None


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
