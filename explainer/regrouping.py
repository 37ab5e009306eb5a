"""Groups anew what has changed in a cluster, and tells which incidents open, change and end by that. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from explainer.cluster import PRINTS, Cluster, Head, Incident, matched, shape
from explainer.correlation import Group, incident_id, ref_order, renewed
from explainer.recalling import recall
from explainer.telling import finding
from explainer.wanting import want
from kubewhy.records import Finding, Ref

# A person is told of changes to one incident at most this often, and ever more seldom where they go on and on.
QUIET = timedelta(seconds=5)
_SLOWEST = 6  # times that the pause doubles: to some five minutes
# So many objects are grouped anew on every change; more of them so seldom that it takes little of the time.
SMALL = 100
PAUSE_EACH = timedelta(microseconds=200)

# No more resolved incidents of a cluster than this can be looked up.
LOOKED_BACK_AT = 1000


def regroup(cluster: Cluster, now: datetime, *, at_once: bool = False) -> Iterator[Finding]:
    """Groups anew whatever hangs together with what has changed."""
    failing = cluster.failing
    cluster.reword()
    if cluster.listing_until and now < cluster.listing_until and not at_once:
        return
    waiting, failing.touched = failing.touched, {}
    if cluster.postponed_until and (at_once or now >= cluster.postponed_until):
        later, cluster.postponed, cluster.postponed_until = cluster.postponed, {}, None
        waiting = {ref: waiting.get(ref, frozenset()) | later.get(ref, frozenset()) for ref in later | waiting}
    names: dict[Ref, None] = {}
    for ref, named in waiting.items():
        when = None if at_once else _not_before(cluster, named)
        if when and now < when:
            cluster.postponed[ref] = cluster.postponed.get(ref, frozenset()) | named
            cluster.postponed_until = min(when, cluster.postponed_until or when)
        else:
            names |= dict.fromkeys(sorted(named, key=ref_order))
    if not names:
        return
    connected = list(failing.neighbours.connected(names))
    groups = cluster.groups(connected)
    near = {key for refs in (names, *connected) for ref in refs for key in cluster.of.get(ref, ())}
    incidents = sorted((cluster.open[key] for key in near), key=lambda each: each.head.number)
    kept = matched([(each.head, each.group.fingerprints) for each in incidents], groups)
    survivors = {index: key for key, index in kept.items()}
    live = {(group.silenced, each) for group in groups for each in group.fingerprints}
    for incident in incidents:
        if incident.head.id not in kept:
            yield _resolve(cluster, incident, live, now)
    for index, group in enumerate(groups):
        if index in survivors:
            yield from _update(cluster, cluster.open[survivors[index]], group, now)
        else:
            yield _open(cluster, group, now)


def _not_before(cluster: Cluster, names: Iterable[Ref]) -> datetime | None:
    """When what names these may be grouped anew, if it belongs to something large."""
    times = []
    for name in names:
        ref = name if name in cluster.of else cluster.failing.neighbours.one_of(name)
        for key in cluster.of.get(ref, ()) if ref else ():
            incident = cluster.open[key]
            size = len(incident.group.members)
            if size > SMALL:
                times.append(incident.grouped_at + size * PAUSE_EACH)
    return max(times, default=None)


def made(cluster: Cluster, group: Group, now: datetime) -> Incident:
    """A new incident, under the next number."""
    cluster.number += 1
    cluster.is_changed = True
    # The number tells this incident from an earlier one of the same failure, and the birth from those of lost rows.
    key = incident_id(cluster.name, group.fingerprints[0], f"{cluster.number} {cluster.born.isoformat()}")
    head = Head(id=key, number=cluster.number, opened_at=now, told_at=now, told=shape(group), title=group.title)
    head.prints, head.silenced = group.fingerprints[:PRINTS], group.silenced
    if recall(cluster, head, group):
        head.told = shape(group, len(head.changes))
    cluster.changed.add(key)
    return Incident(head, group, now)


def _open(cluster: Cluster, group: Group, now: datetime) -> Finding:
    incident = made(cluster, group, now)
    cluster.open[incident.head.id] = incident
    cluster.join(incident.head.id, group)
    want(cluster, incident)
    return finding(cluster, incident, "opened", now)


def _update(cluster: Cluster, incident: Incident, group: Group, now: datetime) -> Iterator[Finding]:
    head = incident.head
    cluster.part(head.id, incident.group)
    cluster.join(head.id, group)
    incident.group, incident.grouped_at = group, now
    want(cluster, incident)
    if head.prints != group.fingerprints[:PRINTS]:
        head.prints = group.fingerprints[:PRINTS]
        cluster.changed.add(head.id)
    recall(cluster, head, group)
    changed_at = None if shape(group, len(head.changes)) == head.told else head.changed_at or now
    if changed_at != head.changed_at:
        head.changed_at = changed_at
        cluster.changed.add(head.id)
    if changed_at is None:
        cluster.late.pop(head.id, None)
    else:
        cluster.late[head.id] = None
        yield from _told_if_due(cluster, incident, now)


def pause(incident: Incident) -> timedelta:
    """How long after it was last told of the incident may be told of again."""
    head, group = incident.head, incident.group
    if group.root != head.told.root or group.severity.rank > head.told.severity.rank:
        return QUIET
    return QUIET * 2.0 ** min(head.revision - 1, _SLOWEST)


def by_age(cluster: Cluster, keys: Iterable[str]) -> list[str]:
    """Open incidents, the first opened first."""
    return sorted(keys, key=lambda key: cluster.open[key].head.number)


def told_late(cluster: Cluster, now: datetime) -> Iterator[Finding]:
    """Changes that had to wait, and are due."""
    for key in by_age(cluster, cluster.late):
        yield from _told_if_due(cluster, cluster.open[key], now)


def _told_if_due(cluster: Cluster, incident: Incident, now: datetime) -> Iterator[Finding]:
    """Unless all of it is over, or it becomes less and may soon be gone."""
    head, group = incident.head, incident.group
    if now - head.told_at < pause(incident):
        return
    over = sum(cluster.failing.is_over(*each) for each in group.members)
    less = over or len(group.objects) < head.told.count
    may_be_gone = less and head.changed_at and now - head.changed_at < QUIET
    if over < len(group.members) and not may_be_gone:
        yield tell(cluster, incident, now)


def tell(cluster: Cluster, incident: Incident, now: datetime) -> Finding:
    """How the incident is now."""
    cluster.late.pop(incident.head.id, None)
    head, group = incident.head, renewed(incident.group)
    head.told, head.title, head.changed_at = shape(group, len(head.changes)), group.title, None
    return _retold(cluster, incident, "updated", now)


def repeated(cluster: Cluster, now: datetime, repeat: timedelta) -> Iterator[Finding]:
    """Once more those of which nothing new was told for so long."""
    while cluster.open:
        incident = next(iter(cluster.open.values()))
        if now - incident.head.told_at < repeat:
            return
        yield _retold(cluster, incident, "repeated", now)


def _retold(cluster: Cluster, incident: Incident, transition: str, now: datetime) -> Finding:
    head, incident.group = incident.head, renewed(incident.group)
    head.revision += 1
    head.told_at = now
    cluster.changed.add(head.id)
    cluster.open[head.id] = cluster.open.pop(head.id)
    return finding(cluster, incident, transition, now)


def _resolve(cluster: Cluster, incident: Incident, live: set[tuple[bool, str]], now: datetime) -> Finding:
    head, group = incident.head, renewed(incident.group)
    incident.group = group
    del cluster.open[head.id]
    cluster.late.pop(head.id, None)
    if cluster.unexplained:
        cluster.unexplained.pop(head.id, None)
    cluster.part(head.id, group)
    told, silenced = (any((each, name) in live for name in group.fingerprints) for each in (False, True))
    if told or (silenced and head.silenced):
        resolution = "superseded"
    elif silenced:
        resolution = "silenced"
    elif all(cluster.failing.is_deleted(ref) for ref in group.objects):
        resolution = "deleted"
    else:
        resolution = "recovered"
    return end(cluster, incident, resolution, now)


def end(cluster: Cluster, incident: Incident, resolution: str, now: datetime) -> Finding:
    """The last that is told of an incident."""
    head = incident.head
    head.revision += 1
    head.resolved_at, head.resolution = now, resolution
    cluster.resolved[head.id] = head
    cluster.changed.add(head.id)
    if len(cluster.resolved) > LOOKED_BACK_AT:
        cluster.forget()
    return finding(cluster, incident, "resolved", now)
