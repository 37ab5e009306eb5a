"""Incidents over time: a deterministic fold over reports, inventories and ticks, into one finding a transition.

It reads no clock and does no I/O. What it must not forget comes out as rows and goes in again by `restore`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from explainer.cluster import PRINTS, Cluster, Head, Incident, matched, shape
from explainer.correlation import Group, correlate, incident_id, ref_order, renewed
from explainer.failing import Failing
from explainer.matchers import Matchers
from explainer.remembering import ClusterRow, by_cluster, changed_rows, encoded, key_of, restore
from explainer.silences import Silences
from explainer.telling import finding, view
from kubewhy.records import (
    Failure,
    Finding,
    Heartbeat,
    IncidentView,
    Inventory,
    Ref,
    Report,
    Severity,
    Silence,
    SilenceChange,
    Tick,
    Version,
)

# A person is told of changes to one incident at most this often, and ever more seldom where they go on and on.
QUIET = timedelta(seconds=5)
_SLOWEST = 6  # times that the pause doubles: to some five minutes
# So many objects are grouped anew on every change; more of them so seldom that it takes little of the time.
SMALL = 100
PAUSE_EACH = timedelta(microseconds=200)

# Without a heartbeat for so long, nothing that is known of a cluster is certain any more.
SILENT = timedelta(seconds=60)
# When it is heard of again, its collector has so long to say what is still so.
CATCHING_UP = timedelta(seconds=60)

# So long, and no more than so many of a cluster, resolved incidents can be looked up.
LOOKED_BACK = timedelta(days=1)
LOOKED_BACK_AT = 1000


class Incidents:
    """A stage with the incidents of any number of clusters.

    `keep_open` is how long a failure that is seen no more still counts; `holds` stand in for the rules' own; an
    incident of which nothing new was told is told again after `repeat`; `labels` are those that findings carry, as
    matchers name them.
    """

    def __init__(
        self,
        *,
        keep_open: timedelta = timedelta(0),
        holds: Mapping[str, timedelta] | None = None,
        repeat: timedelta | None = None,
        labels: Iterable[str] = (),
    ) -> None:
        self._keep_open, self._holds, self._repeat = keep_open, holds or {}, repeat
        self._labels = frozenset(labels)
        self._silences = Silences()
        self._clusters: dict[str, Cluster] = {}

    def feed(self, record: Report | Inventory | Heartbeat | SilenceChange | Tick, now: datetime) -> Iterator[Finding]:
        """The transitions this record brings about. `now` never goes back within one partition.

        Raises Rejected for a silence that is none.
        """
        if isinstance(record, SilenceChange):
            yield from self._silenced(self._silences.put(record, now), now)
            return
        if isinstance(record, Tick):
            yield from self._silenced(self._silences.turn(now), now)
            for cluster in self._clusters.values():
                yield from self._tick(cluster, now)
            return
        cluster = self._cluster(record.cluster, now)
        term = cluster.failing.term
        if not cluster.failing.current(record.version):
            return
        cluster.is_changed |= cluster.failing.term != term
        if isinstance(record, Heartbeat):
            cluster.heartbeat_at, cluster.is_changed = now, True
        if cluster.silence:
            yield _heard(cluster, now)
        cluster.failing.advance(now)
        match record:
            case Report():
                cluster.failing.report(record, now)
            case Inventory():
                cluster.failing.inventory(record, now)
        yield from _regroup(cluster, now)

    def flush(self, now: datetime) -> Iterator[Finding]:
        """What was not told yet to spare people, and the end of what is over and kept for a while: for when nothing
        comes after."""
        for cluster in self._clusters.values():
            if not cluster.silence:
                cluster.failing.let_go(now)
            yield from _regroup(cluster, now, at_once=True)
            for key in _by_age(cluster, cluster.late):
                yield _tell(cluster, cluster.open[key], now)

    def silences(self) -> list[Silence]:
        """All that have not ended."""
        return sorted(self._silences, key=lambda silence: (silence.ends_at, silence.id))

    def ignored(self) -> list[tuple[str, Ref, str]]:
        """Cluster, object or namespace, and which rules it says are not to be told: where any such object fails."""
        found: set[tuple[str, Ref, str]] = set()
        for name, cluster in self._clusters.items():
            for report in cluster.failing.ignoring():
                if report.ignore:
                    found.add((name, report.ref, report.ignore))
                if report.namespace_ignore:
                    found.add((name, Ref("Namespace", report.ref.namespace or ""), report.namespace_ignore))
        return sorted(found, key=lambda each: (each[0], ref_order(each[1]), each[2]))

    def views(self, *, resolved: bool = False) -> Iterator[IncidentView]:
        """The open incidents, and with `resolved` those of the last day too: of these only what was told is known."""
        for cluster in self._clusters.values():
            if cluster.silence:
                yield view(cluster, cluster.silence.head, cluster.silence.group.members)
            for incident in cluster.open.values():
                yield view(cluster, incident.head, incident.group.members)
            for head in cluster.resolved.values() if resolved else ():
                yield view(cluster, head, ())

    def rows(self) -> dict[str, bytes | None]:
        """What has changed since this was last asked, to be written when the findings have arrived; None deletes."""
        changed = {key_of("", "silence", key): encoded(self._silences.get(key)) for key in self._silences.changed}
        self._silences.changed = set()
        for cluster in self._clusters.values():
            changed |= changed_rows(cluster)
        return changed

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """As it was when those rows were written. Raises DecodeError, KeyError or ValueError for what is none."""
        found = by_cluster(rows)
        # Of all clusters, so that they come under the name of none.
        kept = found.pop("", {}).get("silence", ())
        self._silences.restore(msgspec.json.decode(value, type=Silence) for _, value in kept)
        for name, sorts in found.items():
            own = msgspec.json.decode(sorts["cluster"][0][1], type=ClusterRow)
            cluster = self._cluster(name, own.born)
            for head in restore(cluster, own, sorts):
                group = _silence(cluster, Silences(), head.told_at)
                cluster.silence = Incident(head, group, head.told_at)

    def _cluster(self, name: str, born: datetime) -> Cluster:
        cluster = self._clusters.get(name)
        if cluster is None:
            failing = Failing(name, self._keep_open, self._holds, self._silences)
            cluster = self._clusters[name] = Cluster(name, failing, born, self._labels)
        return cluster

    def _silenced(self, turned: list[Matchers], now: datetime) -> Iterator[Finding]:
        """What begins and ends because silences do."""
        for cluster in self._clusters.values() if turned else ():
            cluster.failing.silence(turned, now)
            yield from _regroup(cluster, now, at_once=True)
            if cluster.silence:
                group = _silence(cluster, self._silences, now)
                if group.silenced != cluster.silence.head.silenced:
                    yield _end(cluster, cluster.silence, "silenced" if group.silenced else "superseded", now)
                    yield _silent(cluster, group, now)

    def _tick(self, cluster: Cluster, now: datetime) -> Iterator[Finding]:
        if cluster.silence is None and cluster.heartbeat_at and now - cluster.heartbeat_at > SILENT:
            yield _silent(cluster, _silence(cluster, self._silences, now), now)
        if cluster.silence is None:
            for incident in cluster.lost.values():
                yield _end(cluster, incident, "recovered", now)
            cluster.lost = {}
            cluster.failing.advance(now)
            yield from _regroup(cluster, now)
            yield from _told_late(cluster, now)
        if self._repeat:
            yield from _repeated(cluster, now, self._repeat)
        while cluster.resolved:
            oldest = next(iter(cluster.resolved.values())).resolved_at
            if oldest and now - oldest < LOOKED_BACK:
                break
            cluster.forget()


def _silent(cluster: Cluster, group: Group, now: datetime) -> Finding:
    """Nothing is heard of the cluster: what is known of it stays as it is."""
    incident = _made(cluster, group, now)
    incident.head.silence = True
    cluster.silence = incident
    return finding(cluster, incident, "opened", now)


def _silence(cluster: Cluster, silences: Silences, now: datetime) -> Group:
    ref, since = Ref("Cluster", cluster.name), cluster.heartbeat_at
    assert since
    failure = Failure(
        rule="cluster-silent",
        severity=Severity.CRITICAL,
        title="Nothing is heard of the cluster",
        message="its collector has sent nothing for a minute; what was told of the cluster may be out of date",
        since=since,
    )
    report = Report(
        cluster=cluster.name, version=Version(cluster.failing.term, 0), ref=ref, root=ref, observed_at=since
    )
    silenced = silences.silence(cluster.name, report, failure, now)
    (group,) = correlate(cluster.name, [(report, failure)], lambda report, failure: silenced)
    return group


def _heard(cluster: Cluster, now: datetime) -> Finding:
    incident = cluster.silence
    assert incident
    cluster.silence = None
    cluster.nothing_ends_before, cluster.is_changed = now + CATCHING_UP, True
    cluster.failing.let_nothing_end_before(now + CATCHING_UP)
    return _end(cluster, incident, "recovered", now)


def _regroup(cluster: Cluster, now: datetime, *, at_once: bool = False) -> Iterator[Finding]:
    """Groups anew whatever hangs together with what has changed."""
    failing = cluster.failing
    cluster.reword()
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


def _made(cluster: Cluster, group: Group, now: datetime) -> Incident:
    cluster.number += 1
    cluster.is_changed = True
    # The number tells this incident from an earlier one of the same failure, and the birth from those of lost rows.
    key = incident_id(cluster.name, group.fingerprints[0], f"{cluster.number} {cluster.born.isoformat()}")
    head = Head(id=key, number=cluster.number, opened_at=now, told_at=now, told=shape(group), title=group.title)
    head.prints, head.silenced = group.fingerprints[:PRINTS], group.silenced
    cluster.changed.add(key)
    return Incident(head, group, now)


def _open(cluster: Cluster, group: Group, now: datetime) -> Finding:
    incident = _made(cluster, group, now)
    cluster.open[incident.head.id] = incident
    cluster.join(incident.head.id, group)
    return finding(cluster, incident, "opened", now)


def _update(cluster: Cluster, incident: Incident, group: Group, now: datetime) -> Iterator[Finding]:
    head = incident.head
    cluster.part(head.id, incident.group)
    cluster.join(head.id, group)
    incident.group, incident.grouped_at = group, now
    if head.prints != group.fingerprints[:PRINTS]:
        head.prints = group.fingerprints[:PRINTS]
        cluster.changed.add(head.id)
    changed_at = None if shape(group) == head.told else head.changed_at or now
    if changed_at != head.changed_at:
        head.changed_at = changed_at
        cluster.changed.add(head.id)
    if changed_at is None:
        cluster.late.pop(head.id, None)
    else:
        cluster.late[head.id] = None
        yield from _told_if_due(cluster, incident, now)


def _pause(incident: Incident) -> timedelta:
    """How long after it was last told of the incident may be told of again."""
    head, group = incident.head, incident.group
    if group.root != head.told.root or group.severity.rank > head.told.severity.rank:
        return QUIET
    return QUIET * 2.0 ** min(head.revision - 1, _SLOWEST)


def _by_age(cluster: Cluster, keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: cluster.open[key].head.number)


def _told_late(cluster: Cluster, now: datetime) -> Iterator[Finding]:
    for key in _by_age(cluster, cluster.late):
        yield from _told_if_due(cluster, cluster.open[key], now)


def _told_if_due(cluster: Cluster, incident: Incident, now: datetime) -> Iterator[Finding]:
    """Unless all of it is over, or it becomes less and may soon be gone."""
    head, group, is_over = incident.head, incident.group, cluster.failing.is_over
    less = head.changed_at and len(group.objects) < head.told.count and now - head.changed_at < QUIET
    if now - head.told_at >= _pause(incident) and not less and not all(is_over(*each) for each in group.members):
        yield _tell(cluster, incident, now)


def _tell(cluster: Cluster, incident: Incident, now: datetime) -> Finding:
    cluster.late.pop(incident.head.id, None)
    head, group = incident.head, renewed(incident.group)
    head.told, head.title, head.changed_at = shape(group), group.title, None
    return _retold(cluster, incident, "updated", now)


def _repeated(cluster: Cluster, now: datetime, repeat: timedelta) -> Iterator[Finding]:
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
    return _end(cluster, incident, resolution, now)


def _end(cluster: Cluster, incident: Incident, resolution: str, now: datetime) -> Finding:
    head = incident.head
    head.revision += 1
    head.resolved_at, head.resolution = now, resolution
    cluster.resolved[head.id] = head
    cluster.changed.add(head.id)
    if len(cluster.resolved) > LOOKED_BACK_AT:
        cluster.forget()
    return finding(cluster, incident, "resolved", now)
