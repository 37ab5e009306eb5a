"""What people are told of an incident: findings, and what an incident looks like."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from explainer.cluster import Cluster, Head, Incident
from explainer.commands import commands
from explainer.correlation import Member, leading
from explainer.silences import object_labels
from kubewhy.records import Failure, Finding, IncidentView, Ref, Seen, Told, Words

SHOWN = 5


def finding(cluster: Cluster, incident: Incident, transition: str, now: datetime) -> Finding:
    """One transition. The same one has the same id, however often it is told."""
    head = incident.head
    key = f"{head.id} {head.revision} {transition}"
    return Finding(
        id=sha256(key.encode()).hexdigest()[:32],
        transition=transition,
        at=now,
        revision=head.revision,
        incident=view(cluster, head, incident.group.members),
        explanation=head.explanation,
    )


def view(cluster: Cluster, head: Head, members: tuple[tuple[Ref, Failure], ...]) -> IncidentView:
    """What is over but kept for a while is not told any more, unless nothing else is left."""
    present = [each for each in members if not cluster.failing.is_over(*each)] or members
    objects = tuple(dict.fromkeys(ref for ref, _ in present))
    return IncidentView(
        id=head.id,
        cluster=cluster.name,
        cluster_name=cluster.called,
        title=head.title,
        severity=head.told.severity,
        state="resolved" if head.resolution else "open",
        root=head.told.root,
        members=objects[:SHOWN],
        member_count=len(objects) if objects else head.told.count,
        opened_at=head.opened_at,
        resolved_at=head.resolved_at,
        resolution=head.resolution,
        failures=tuple(
            Told(
                object=ref,
                rule=failure.rule,
                severity=failure.severity,
                message=failure.message,
                since=failure.since,
                until=failure.until,
                cause=failure.cause,
                labels=_labels(cluster, ref),
            )
            for ref, failure in present
        ),
        words=_words(head.told.root, present),
        commands=commands(head.told.root, present),
        evidence=_evidence(cluster, head.told.root, objects),
        changes=head.changes,
        silenced=head.silenced,
    )


def _words(root: Ref, members: Sequence[Member]) -> tuple[Words, ...]:
    rules: dict[str, Failure] = {}
    for _, failure in (*([leading(root, members)] if members else []), *members):
        rules.setdefault(failure.rule, failure)
    return tuple(
        Words(rule=rule, title=failure.title, why=failure.why, look=failure.look, docs=failure.docs)
        for rule, failure in rules.items()
    )


def _evidence(cluster: Cluster, root: Ref, objects: Sequence[Ref]) -> tuple[Seen, ...]:
    """Of those that are named. Replicas that look alike are one."""
    named = [root, *objects[:SHOWN]] if root in objects else objects[:SHOWN]
    found: dict[tuple[str, ...], Ref] = {}
    for ref in named:
        if lines := cluster.failing.shown(ref).seen:
            found.setdefault(lines, ref)
    return tuple(Seen(object=ref, lines=lines) for lines, ref in found.items())


def _labels(cluster: Cluster, ref: Ref) -> dict[str, str]:
    report = cluster.failing.told_of(ref) if cluster.asked else None
    return {name: value for name, value in object_labels(report).items() if name in cluster.asked} if report else {}
