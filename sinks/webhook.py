"""Posts each finding to one address: in the format of Alertmanager's own webhooks, or as a CloudEvent."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import msgspec
from msgspec.structs import replace

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import Rejected
from kubewhy.keys import read
from kubewhy.records import Finding
from sinks.alerts import Alert, Kept, Texts, follow, forget, keep, kept, texts
from sinks.posting import Poster, TooLarge, secret_address
from sinks.settings import WebhookSettings
from sinks.stdout import pretty

NEVER = "0001-01-01T00:00:00Z"  # what Alertmanager tells as the end of what goes on
# By then it has been told for sure, or is set aside.
_REMEMBERED = timedelta(days=1)
_OFTEN = timedelta(hours=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


def made(settings: WebhookSettings, environ: Mapping[str, str]) -> "WebhookSink":
    """The sink of these settings. Raises ConfigError where they lead nowhere."""
    where, setting = str(settings.url or ""), "`url`"
    if settings.url_key:
        where, setting = secret_address(settings.url_key, environ), str(settings.url_key)
    key = read(settings.signing_key, environ).get_secret_value().encode() if settings.signing_key else None
    told = texts(settings.labels, settings.templates) if settings.format == "alertmanager" else None
    return WebhookSink(settings.called, Poster(where, setting, settings, environ), told, key)


def v4(receiver: str, incident: str, alerts: Sequence[Alert]) -> dict[str, Any]:
    """Version 4 of Alertmanager's body, for a group of one incident's alerts.

    https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    """
    firing = any(alert.ends_at is None for alert in alerts)
    return {
        "version": "4",
        "groupKey": f'{{}}:{{incident="{incident}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": receiver,
        "groupLabels": {"incident": incident},
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": "",
        "alerts": [
            {
                "status": "resolved" if alert.ends_at else "firing",
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": _time(alert.starts_at),
                "endsAt": _time(alert.ends_at) if alert.ends_at else NEVER,
                "generatorURL": alert.docs,
                "fingerprint": alert.fingerprint,
            }
            for alert in alerts
        ],
    }


def cloud_event(finding: Finding) -> dict[str, Any]:
    """CloudEvents 1.0 in structured mode. `source` and `id` tell one from all others, also when it comes again."""
    return {
        "specversion": "1.0",
        "id": finding.id,
        "type": f"dev.kubewhy.finding.{finding.transition}.v1",
        "source": f"/kubewhy/clusters/{quote(finding.incident.cluster, safe='')}",
        "subject": finding.incident.id,
        "time": _time(finding.at),
        "datacontenttype": "application/json",
        "data": finding,
    }


def signed(key: bytes, at: datetime, body: bytes) -> dict[str, str]:
    """What a receiver can check: that who posts has the key. Constant, however often it is posted."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(key, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"x-kubewhy-timestamp": timestamp, "x-kubewhy-signature": f"v1={digest}"}


def smaller(finding: Finding) -> Finding:
    """The same with one failure, and without what shows it."""
    incident = finding.incident
    return replace(finding, incident=replace(incident, failures=incident.failures[:1], evidence=(), changes=()))


class WebhookSink:
    """With `texts` in Alertmanager's format, else as CloudEvents; signed where there is a key."""

    manner = Manner(at_most=1, shared=True)

    def __init__(self, name: str, poster: Poster, texts: Texts | None, key: bytes | None = None) -> None:
        self._name = name
        self._poster = poster
        self._texts = texts
        self._key = key
        self._forgot = WeakKeyDictionary[Memo, datetime]()

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns once all are taken."""
        for letter in letters:
            finding = letter.finding
            if self._texts:
                await self._send_alerts(finding, self._texts, memo)
            else:
                bodies = cloud_event(finding), cloud_event(smaller(finding))
                await self._post(finding, bodies, "application/cloudevents+json")

    def preview(self, finding: Finding) -> str:
        """The body."""
        if self._texts is None:
            return pretty(cloud_event(finding))
        alerts = follow(None, finding, self._texts)
        return pretty(v4(self._name, finding.incident.id, alerts.alerts)) if alerts else ""

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """Ends its connections."""
        await self._poster.close()

    async def _send_alerts(self, finding: Finding, texts: Texts, memo: Memo) -> None:
        incident, before = finding.incident.id, kept(memo, finding.incident.id)
        alerts = follow(before, finding, texts)
        if alerts is None:
            return
        if alerts is not before:
            keep(memo, incident, alerts)
        told = _now(alerts, finding)
        bodies = v4(self._name, incident, told), v4(self._name, incident, [each.brief for each in told])
        await self._post(finding, bodies, "application/json")
        if finding.transition == "resolved" and finding.at - self._forgot.get(memo, _NEVER) > _OFTEN:
            forget(memo, finding.at - _REMEMBERED)
            self._forgot[memo] = finding.at

    async def _post(self, finding: Finding, bodies: Sequence[Mapping[str, Any]], content_type: str) -> None:
        """The first of these bodies that is not too large."""
        for told in bodies:
            body = msgspec.json.encode(told)
            headers = {"content-type": content_type, "idempotency-key": finding.id}
            if self._key:
                headers |= signed(self._key, finding.at, body)
            try:
                await self._poster.post(body, headers)
            except TooLarge as error:
                too_large = f"{error}, even with one failure alone"
            else:
                return
        raise Rejected(too_large)


def _now(shown: Kept, finding: Finding) -> list[Alert]:
    """The alert there is, and the one that it takes over from just now."""
    return [*(each for each in shown.alerts[:-1] if each.ends_at == finding.at), shown.alerts[-1]]


def _common(told: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {name: value for name, value in told[0].items() if all(each.get(name) == value for each in told)}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
