"""Which changes go with an incident: those of its root first, then of what its members belong to. Pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from explainer.cluster import Cluster, Head
from explainer.correlation import Group
from kubewhy.records import Ref

_MEMBERS, _CHANGES = 5, 3


def recall(cluster: Cluster, head: Head, group: Group) -> bool:
    """Takes in what is known of changes before the onset; whether it is more than before."""
    head.since = head.since or group.since or _seen_at(cluster, group)
    found = [*head.changes, *cluster.changes.before(head.since, _objects(cluster, group))]
    if len(found) == len(head.changes):
        return False
    ordered = sorted(dict.fromkeys(found), key=lambda each: each.at, reverse=True)
    changes = tuple(sorted(ordered, key=lambda each: each.object != group.root)[:_CHANGES])
    if changes == head.changes:
        return False
    head.changes = changes
    cluster.changed.add(head.id)
    return True


def learn(cluster: Cluster, names: Iterable[Ref], now: datetime) -> None:
    """Something has become known of these: whoever was told of what comes from it is told of it later."""
    connected = cluster.failing.neighbours.connected(names)
    for key in sorted({key for refs in connected for ref in refs for key in cluster.of.get(ref, ())}):
        incident = cluster.open[key]
        if recall(cluster, incident.head, incident.group):
            incident.head.changed_at = incident.head.changed_at or now
            cluster.late[key] = None


def _seen_at(cluster: Cluster, group: Group) -> datetime:
    """When any of it was seen, by the API server's clock, as all times are that are compared here."""
    reports = (cluster.failing.told_of(ref) for ref in group.objects[:_MEMBERS])
    return min((report.observed_at for report in reports if report), default=datetime.max.replace(tzinfo=UTC))


def _objects(cluster: Cluster, group: Group) -> Iterable[Ref]:
    """The root, a few members, and their workloads."""

    def each() -> Iterator[Ref]:
        yield group.root
        for ref in group.objects[:_MEMBERS]:
            report = cluster.failing.told_of(ref)
            yield from (ref, report.root) if report else (ref,)

    return dict.fromkeys(each())
