"""Incidents as findings show them, for tests that are about something else."""

from datetime import UTC, datetime
from typing import Any

from kubewhy.records import IncidentView, Ref, Severity, Told

OPENED = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOYMENT = Ref("Deployment", "web", "shop", "apps")


def told(subject: Ref, rule: str = "pod-crash-looping", message: str = "it crashes", **more: Any) -> Told:
    """A failure of that object."""
    fields: dict[str, Any] = {"severity": Severity.WARNING, "since": None, "until": None, "cause": None}
    return Told(object=subject, rule=rule, message=message, **fields | more)


def view(*failures: Told, **more: Any) -> IncidentView:
    """An open incident of these failures."""
    fields: dict[str, Any] = {
        "id": "i1",
        "cluster": "c",
        "title": "it crashes",
        "severity": Severity.WARNING,
        "state": "open",
        "root": DEPLOYMENT,
        "members": tuple(dict.fromkeys(each.object for each in failures)),
        "member_count": len(failures),
        "opened_at": OPENED,
        "resolved_at": None,
        "resolution": None,
    }
    return IncidentView(failures=failures, **fields | more)
