"""Pages by Opsgenie's alerts: https://docs.opsgenie.com/docs/alert-api"""

from collections.abc import Mapping

from kubewhy.glance import cluster_of
from kubewhy.keys import read
from kubewhy.records import Finding, Severity
from sinks.paging import Page, PagingSink
from sinks.posting import Poster
from sinks.settings import OpsgenieSettings
from sinks.wording import headline, lines, rule, worded

_PATH = "/v2/alerts"
_MESSAGE, _DESCRIPTION = 130, 15_000  # characters
_PRIORITIES = {Severity.CRITICAL: "P1", Severity.WARNING: "P3", Severity.INFO: "P5"}


def made(settings: OpsgenieSettings, environ: Mapping[str, str]) -> PagingSink:
    """The sink of these settings. Raises ConfigError where the key is missing."""
    key = read(settings.api_key, environ).get_secret_value()
    title, text = worded(settings.templates, headline, lambda finding: "\n".join(lines(finding, shown=5)))
    who = {"authorization": f"GenieKey {key}"}
    poster = Poster(settings.url, "`url`", settings, environ, key=str(settings.api_key), headers=who)
    return PagingSink(poster, lambda finding: render(finding, title(finding), text(finding)))


def render(finding: Finding, title: str, text: str) -> Page:
    """What opens an alert, or closes it. Its alias is the incident's id."""
    incident = finding.incident
    if finding.transition == "resolved":
        return Page(f"{_PATH}/{incident.id}/close?identifierType=alias", {"source": "kubewhy", "note": text})
    body = {
        "message": (title or incident.title)[:_MESSAGE],
        "alias": incident.id,
        "description": text[:_DESCRIPTION],
        "entity": str(incident.root)[:512],
        "source": "kubewhy",
        "priority": _PRIORITIES[incident.severity],
        "tags": [cluster_of(incident)[:50], rule(incident)[:50]],
        "details": {"cluster": cluster_of(incident), "namespace": incident.root.namespace or ""},
    }
    return Page(_PATH, body)
