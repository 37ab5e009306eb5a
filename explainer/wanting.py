"""Which incidents a model is to be asked about, and what comes of it. Pure: the asking itself is the runtime's.

What is wanted follows from what is kept: an incident whose digest is not the one that was last answered. So a crash
costs a call, and never an explanation.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from explainer.cluster import Cluster, Incident
from explainer.correlation import Group
from explainer.telling import finding, view
from kubewhy.records import Answer, Finding, IncidentView

# What follows from one fault comes within this time: it is asked about together.
SETTLED = timedelta(seconds=5)


class Wanted(NamedTuple):
    """One incident to ask about."""

    incident: IncidentView
    asked: str


def digest(group: Group) -> str:
    """What makes another explanation: another root, or trouble of another sort. Who and how many does not."""
    sorts = {(ref.kind, each.rule, each.container, each.reason) for ref, each in group.members}
    told = (str(group.root), *map(repr, sorted(sorts)))
    return sha256("\0".join(told).encode()).hexdigest()[:16]


def want(cluster: Cluster, incident: Incident) -> None:
    """Notes whether there is something new to ask about."""
    if cluster.unexplained is None or incident.head.silenced or incident.head.silence:
        return
    if digest(incident.group) == incident.head.answered:
        cluster.unexplained.pop(incident.head.id, None)
    else:
        cluster.unexplained[incident.head.id] = None


def wanted(cluster: Cluster, now: datetime) -> Iterator[Wanted]:
    """All there is to ask about now, the worst first, then the oldest."""
    found = [cluster.open[key] for key in cluster.unexplained or ()]
    found = [each for each in found if now - each.head.opened_at >= SETTLED]
    for incident in sorted(found, key=lambda each: (-each.group.severity.rank, each.head.number)):
        yield Wanted(view(cluster, incident.head, incident.group.members), digest(incident.group))


def answered(cluster: Cluster, answer: Answer, now: datetime) -> Iterator[Finding]:
    """Unless the incident has ended or become another: then the answer is of no use."""
    incident = cluster.open.get(answer.incident)
    if incident is None or cluster.unexplained is None or digest(incident.group) != answer.asked:
        return
    head = incident.head
    if head.answered == answer.asked:
        return
    head.answered = answer.asked
    cluster.unexplained.pop(head.id, None)
    cluster.changed.add(head.id)
    if answer.explanation:
        head.explanation = answer.explanation
        head.revision += 1
        yield finding(cluster, incident, "explained", now)
