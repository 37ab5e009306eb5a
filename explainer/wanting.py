"""Which incidents a model is to be asked about, and what comes of it. Pure: the asking itself is the runtime's.

What is wanted follows from what is kept: an incident whose digest is not the one that was last answered. So a crash
costs a call, and never an explanation.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from explainer.cluster import Cluster, Incident
from explainer.correlation import Group
from explainer.telling import finding, view
from kubewhy.kube.naming import Name
from kubewhy.records import Answer, Finding, IncidentView

# What follows from one fault comes within this time: it is asked about together.
SETTLED = timedelta(seconds=5)


class Wanted(NamedTuple):
    """One incident to ask about. `look` says how it is now, for those that are really asked about."""

    cluster: str
    incident: str
    asked: str
    look: Callable[[], "Subject"]


class Subject(NamedTuple):
    """What there is to ask about an incident, and what is named in it."""

    incident: IncidentView
    names: tuple[Name, ...]


def digest(group: Group) -> str:
    """What makes another explanation: another root, or trouble of another sort. Who and how many does not."""
    sorts = {(ref.kind, each.rule, each.container, each.reason) for ref, each in group.members}
    told = (str(group.root), *map(repr, sorted(sorts)))
    return sha256("\0".join(told).encode()).hexdigest()[:16]


def want(cluster: Cluster, incident: Incident) -> None:
    """Notes whether there is something new to ask about."""
    head = incident.head
    if cluster.unexplained is None or head.silenced or head.silence:
        return
    asked = digest(incident.group)
    if asked == head.answered:
        cluster.unexplained.pop(head.id, None)
    else:
        cluster.unexplained[head.id] = asked


def wanted(cluster: Cluster, now: datetime) -> Iterator[Wanted]:
    """All there is to ask about now, the worst first, then the oldest."""
    found = [(cluster.open[key], asked) for key, asked in (cluster.unexplained or {}).items()]
    found = [each for each in found if now - each[0].head.opened_at >= SETTLED]
    yield from _questions(cluster, found)


def questions(cluster: Cluster) -> Iterator[Wanted]:
    """What can be asked about each open incident, asked before or not, in the same order."""
    told = [each for each in cluster.open.values() if not each.head.silenced]
    yield from _questions(cluster, [(each, digest(each.group)) for each in told])


def _questions(cluster: Cluster, found: list[tuple[Incident, str]]) -> Iterator[Wanted]:
    for incident, asked in sorted(found, key=lambda each: (-each[0].group.severity.rank, each[0].head.number)):
        yield Wanted(cluster.name, incident.head.id, asked, partial(_subject, cluster, incident))


def _subject(cluster: Cluster, incident: Incident) -> Subject:
    told = view(cluster, incident.head, incident.group.members)
    shown = (cluster.failing.shown(each.object).names for each in told.failures)
    return Subject(told, tuple(dict.fromkeys(name for names in shown for name in names)))


def answered(cluster: Cluster, answer: Answer, now: datetime) -> Iterator[Finding]:
    """Unless the incident has ended or become another: then the answer is of no use."""
    incident = cluster.open.get(answer.incident)
    waiting = cluster.unexplained or {}
    if incident is None or waiting.get(answer.incident) != answer.asked:
        return
    head = incident.head
    head.answered = answer.asked
    del waiting[head.id]
    cluster.changed.add(head.id)
    if answer.explanation:
        head.explanation = answer.explanation
        head.revision += 1
        yield finding(cluster, incident, "explained", now)
