"""What an incident is at a glance, for all who tell of it."""

from collections.abc import Sequence

from kubewhy.records import IncidentView, Told

STORM = "incident-storm"  # the rule of digests
_ENDINGS = {"superseded": "it goes on as part of another incident", "deleted": "what failed was deleted"}


def is_digest(incident: IncidentView) -> bool:
    """Whether it stands for many incidents."""
    return any(failure.rule == STORM for failure in incident.failures[:1])


def alike(failures: Sequence[Told]) -> list[list[Told]]:
    """Those that read the same but for their objects, together, in the order of the first of each."""
    found: dict[tuple[str, str], list[Told]] = {}
    for told in failures:
        found.setdefault((told.rule, told.message), []).append(told)
    return list(found.values())


def cluster_of(incident: IncidentView) -> str:
    """What people call its cluster, else the cluster's id."""
    return incident.cluster_name or incident.cluster


def ending(incident: IncidentView) -> str:
    """Why it is over, in words."""
    return _ENDINGS.get(incident.resolution or "", incident.resolution or "recovered")
