"""Pages by PagerDuty's Events API v2: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/"""

from collections.abc import Mapping
from typing import Any

from kubewhy.glance import cluster_of
from kubewhy.keys import read
from kubewhy.records import Finding
from sinks.paging import KEY, Page, PagingSink
from sinks.posting import Poster
from sinks.settings import PagerDutySettings
from sinks.wording import docs, headline, lines, rule, worded

_PATH = "/v2/enqueue"
_SUMMARY = 1024  # characters


def made(settings: PagerDutySettings, environ: Mapping[str, str]) -> PagingSink:
    """The sink of these settings. Raises ConfigError where the key is missing."""
    key = read(settings.routing_key, environ).get_secret_value()
    title, text = worded(settings.templates, headline, lambda finding: "\n".join(lines(finding, shown=5)))
    # The key stands in the body: a wrong one is a bad request.
    poster = Poster(settings.url, "`url`", settings, environ, key=str(settings.routing_key))
    return PagingSink(poster, lambda finding: Page(_PATH, render(finding, key, title(finding), text(finding))))


def render(finding: Finding, key: str, title: str, text: str) -> dict[str, Any]:
    """An event. Those with one `dedup_key` are of one incident."""
    incident = finding.incident
    event: dict[str, Any] = {KEY: key, "dedup_key": incident.id}
    if finding.transition == "resolved":
        return event | {"event_action": "resolve"}
    link = docs(incident)
    return event | {
        "event_action": "trigger",
        "client": "kubewhy",
        "payload": {
            "summary": title[:_SUMMARY] or incident.title[:_SUMMARY],
            "source": cluster_of(incident),
            "severity": str(incident.severity),
            "timestamp": incident.opened_at,
            "component": str(incident.root),
            "group": incident.root.namespace or "",
            "class": rule(incident),
            "custom_details": {"description": text, "commands": list(incident.commands[:5])},
        },
        "links": [{"href": link, "text": "What it means"}] if link else [],
    }
