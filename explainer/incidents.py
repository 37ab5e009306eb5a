"""Incidents over time: a deterministic fold over reports, inventories and ticks, into one finding a transition."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from explainer.correlation import Group, correlate, incident_id
from explainer.failing import Failing
from kubewhy.records import Finding, Heartbeat, IncidentView, Inventory, Ref, Report, Severity, Tick, Told

Shape = tuple[frozenset[tuple[Ref, str]], Severity, Ref]

# A person is told of changes to one incident at most this often.
QUIET = timedelta(seconds=5)
# So many open failures are grouped anew on every change; more of them so seldom that it takes little of the time.
SMALL = 100
PAUSE_EACH = timedelta(microseconds=200)
SHOWN = 5


@dataclass
class _Incident:
    id: str
    group: Group
    opened_at: datetime
    told_at: datetime
    told: Shape
    revision: int = 1


@dataclass
class _Cluster:
    failing: Failing = field(default_factory=Failing)
    open: dict[str, _Incident] = field(default_factory=dict)  # in the order of opening
    late: dict[str, None] = field(default_factory=dict)  # changed, not yet told
    grouped_at: datetime | None = None


class Incidents:
    """A stage with the incidents of any number of clusters. It reads no clock and does no I/O."""

    def __init__(self) -> None:
        self._clusters: dict[str, _Cluster] = {}

    def feed(self, record: Report | Inventory | Heartbeat | Tick, now: datetime) -> Iterator[Finding]:
        """The transitions this record brings about. `now` never goes back within one partition."""
        if isinstance(record, Tick):
            for name, cluster in self._clusters.items():
                cluster.failing.advance(now)
                yield from _regroup(name, cluster, now)
                yield from _told_late(name, cluster, now)
            return
        cluster = self._clusters.setdefault(record.cluster, _Cluster())
        cluster.failing.advance(now)
        if cluster.failing.current(record.version):
            match record:
                case Report():
                    cluster.failing.report(record, now)
                case Inventory():
                    cluster.failing.inventory(record, now)
        yield from _regroup(record.cluster, cluster, now)

    def flush(self, now: datetime) -> Iterator[Finding]:
        """What has changed and was not told yet, to spare people: for when nothing comes after."""
        for name, cluster in self._clusters.items():
            cluster.grouped_at = None
            yield from _regroup(name, cluster, now)
            for key in list(cluster.late):
                yield _tell(name, cluster, cluster.open[key], now)


def _regroup(name: str, cluster: _Cluster, now: datetime) -> Iterator[Finding]:
    failing = cluster.failing
    count = failing.count
    if not failing.changed:
        return
    if cluster.grouped_at and count > SMALL and now < cluster.grouped_at + count * PAUSE_EACH:
        return
    cluster.grouped_at = now
    groups = correlate(name, failing.held())
    kept = _matched(cluster.open.values(), groups)
    survivors = {index: incident for incident, index in kept.values() if incident}
    live = {each for group in groups for each in group.fingerprints}
    for incident in list(cluster.open.values()):
        if incident.id not in kept:
            yield _resolve(name, cluster, incident, live, now)
    for index, group in enumerate(groups):
        if index in survivors:
            yield from _update(name, cluster, survivors[index], group, now)
        else:
            yield _open(name, cluster, group, now)
    failing.settled()


def _matched(incidents: Iterable[_Incident], groups: list[Group]) -> dict[str, tuple[_Incident, int]]:
    """Which group each incident goes on as: the oldest chooses first, the group it shares most with."""
    where = {name: index for index, group in enumerate(groups) for name in group.fingerprints}
    taken: set[int] = set()
    kept: dict[str, tuple[_Incident, int]] = {}
    for incident in incidents:
        shared: dict[int, int] = {}
        for name in incident.group.fingerprints:
            index = where.get(name)
            if index is not None and index not in taken:
                shared[index] = shared.get(index, 0) + 1
        if shared:
            best = min(shared, key=lambda index: (-shared[index], index))
            taken.add(best)
            kept[incident.id] = (incident, best)
    return kept


def _open(name: str, cluster: _Cluster, group: Group, now: datetime) -> Finding:
    # The opening tells this incident from an earlier one of the same failure.
    first = min(cluster.failing.version(ref) for ref in group.objects)
    opening = f"{first.term}.{first.seq} {now.isoformat()}"
    incident = _Incident(incident_id(name, group.fingerprints[0], opening), group, now, now, _shape(group))
    cluster.open[incident.id] = incident
    return _finding(name, incident, "opened", now)


def _update(name: str, cluster: _Cluster, incident: _Incident, group: Group, now: datetime) -> Iterator[Finding]:
    incident.group = group
    if _shape(group) == incident.told:
        cluster.late.pop(incident.id, None)
    elif now - incident.told_at < QUIET:
        cluster.late[incident.id] = None
    else:
        yield _tell(name, cluster, incident, now)


def _told_late(name: str, cluster: _Cluster, now: datetime) -> Iterator[Finding]:
    for key in list(cluster.late):
        incident = cluster.open[key]
        if now - incident.told_at >= QUIET:
            yield _tell(name, cluster, incident, now)


def _tell(name: str, cluster: _Cluster, incident: _Incident, now: datetime) -> Finding:
    cluster.late.pop(incident.id, None)
    incident.revision += 1
    incident.told_at = now
    incident.told = _shape(incident.group)
    return _finding(name, incident, "updated", now)


def _resolve(name: str, cluster: _Cluster, incident: _Incident, live: set[str], now: datetime) -> Finding:
    del cluster.open[incident.id]
    cluster.late.pop(incident.id, None)
    incident.revision += 1
    if not live.isdisjoint(incident.group.fingerprints):
        resolution = "superseded"
    elif cluster.failing.deleted.issuperset(incident.group.objects):
        resolution = "deleted"
    else:
        resolution = "recovered"
    return _finding(name, incident, "resolved", now, resolution)


def _shape(group: Group) -> Shape:
    """What makes a change worth telling."""
    return (frozenset((ref, failure.rule) for ref, failure in group.members), group.severity, group.root)


def _finding(name: str, incident: _Incident, transition: str, now: datetime, resolution: str | None = None) -> Finding:
    group = incident.group
    objects = group.objects
    key = f"{incident.id} {incident.revision} {transition}"
    return Finding(
        id=sha256(key.encode()).hexdigest()[:32],
        transition=transition,
        at=now,
        revision=incident.revision,
        incident=IncidentView(
            id=incident.id,
            cluster=name,
            title=group.title,
            severity=group.severity,
            state="resolved" if resolution else "open",
            root=group.root,
            members=objects[:SHOWN],
            member_count=len(objects),
            opened_at=incident.opened_at,
            resolved_at=now if resolution else None,
            resolution=resolution,
            failures=tuple(
                Told(
                    object=ref,
                    rule=failure.rule,
                    severity=failure.severity,
                    message=failure.message,
                    since=failure.since,
                    until=failure.until,
                    docs=failure.docs,
                    cause=failure.cause,
                )
                for ref, failure in group.members
            ),
        ),
    )
