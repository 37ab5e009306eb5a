"""A digest of many incidents: what is kept of it, and how people see it."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from kubewhy.glance import STORM as RULE
from kubewhy.glance import is_digest as is_digest
from kubewhy.records import IncidentView, Ref, Severity, Told, Words

# So many new incidents of a cluster are told one by one within a minute; the others come to a digest.
LIMIT = 20
SHOWN = 5
WORDS = Words(
    rule=RULE,
    title="Many incidents at once",
    why="So many at once mostly have one cause, and each hides the others.",
    look="Look for what they share: a node, a zone, the network, a registry, a webhook or the control plane.",
    docs="",
)
COMMANDS = ("kubectl get events -A --field-selector type=Warning", "kubectl get nodes")
# Of those for which its incidents ended, a digest ends for the first.
_RESOLUTIONS = ("recovered", "deleted", "superseded", "silenced")


class Digest(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One digest, as it is kept across restarts."""

    id: str
    cluster: str
    called: str = ""  # by people
    since: datetime  # the storm began
    opened_at: datetime
    taken_at: datetime  # the last incident came to it
    told_at: datetime
    told: IncidentView | None = None
    criticals: int = 0  # were open when it was told
    revision: int = 0
    count: int = 0  # of all that came to it
    worst: Severity = Severity.INFO
    resolutions: set[str] = set()
    resolved_at: datetime | None = None


def view(digest: Digest, still: dict[str, Told]) -> IncidentView:
    """A digest as people see it: how many there are, and the worst of what is still open."""
    worst = sorted(still.items(), key=lambda each: (-each[1].severity.rank, each[1].since or digest.since, each[0]))
    shown = tuple(told for _, told in worst[:SHOWN])
    severity = shown[0].severity if shown else digest.worst
    root = Ref("Cluster", digest.cluster)
    over = next((each for each in _RESOLUTIONS if each in digest.resolutions), "recovered")
    summary = Told(
        object=root,
        rule=RULE,
        severity=severity,
        message=_summary(digest, still),
        since=digest.since,
        until=None,
        cause=None,
    )
    return IncidentView(
        id=digest.id,
        cluster=digest.cluster,
        cluster_name=digest.called,
        title=f"{LIMIT + digest.count} new incidents in cluster {digest.called or digest.cluster} "
        f"since {digest.since.astimezone(UTC):%H:%M} UTC",
        severity=severity,
        state="resolved" if digest.resolved_at else "open",
        root=root,
        members=tuple(dict.fromkeys(told.object for told in shown)),
        member_count=digest.count,
        opened_at=digest.opened_at,
        resolved_at=digest.resolved_at,
        resolution=over if digest.resolved_at else None,
        failures=(summary, *shown),
        words=(WORDS,),
        commands=COMMANDS,
    )


def _summary(digest: Digest, still: dict[str, Told]) -> str:
    by_severity = [
        f"{number} {severity}"
        for severity in sorted(Severity, key=lambda each: -each.rank)
        if (number := sum(told.severity == severity for told in still.values()))
    ]
    over = digest.count - len(still)
    counts = [*([", ".join(by_severity) + " still open"] if still else []), *([f"{over} over"] if over else [])]
    return f"{LIMIT} are told one by one, {digest.count} in this digest: {'; '.join(counts)}"


def named(incident: IncidentView) -> Told:
    """An incident as its digest names it."""
    first = next(iter(incident.failures), None)
    return Told(
        object=incident.root,
        rule=first.rule if first else "",
        severity=incident.severity,
        message=incident.title,
        since=incident.opened_at,
        until=None,
        cause=None,
    )


def criticals(told: Iterable[Told]) -> int:
    """How many of them are critical."""
    return sum(each.severity == Severity.CRITICAL for each in told)
