"""Incidents over time: a deterministic fold over reports, inventories and ticks, into one finding a transition.

It reads no clock and does no I/O. What it must not forget comes out as rows and goes in again by `restore`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from explainer.correlation import Group, correlate, incident_id, ref_order
from explainer.failing import Failing, Row
from explainer.flapping import Flaps
from explainer.matchers import Matchers
from explainer.silences import Silences, object_labels
from kubewhy.records import (
    Failure,
    Finding,
    Heartbeat,
    IncidentView,
    Inventory,
    Record,
    Ref,
    Report,
    Severity,
    Silence,
    SilenceChange,
    Tick,
    Told,
    Version,
)

# A person is told of changes to one incident at most this often, and ever more seldom where they go on and on.
QUIET = timedelta(seconds=5)
_SLOWEST = 6  # times that the pause doubles: to some five minutes
# So many objects are grouped anew on every change; more of them so seldom that it takes little of the time.
SMALL = 100
PAUSE_EACH = timedelta(microseconds=200)
SHOWN = 5

# Without a heartbeat for so long, nothing that is known of a cluster is certain any more.
SILENT = timedelta(seconds=60)
# When it is heard of again, its collector has so long to say what is still so.
CATCHING_UP = timedelta(seconds=60)

# So long, and no more than so many of a cluster, resolved incidents can be looked up.
LOOKED_BACK = timedelta(days=1)
LOOKED_BACK_AT = 1000

_PRINTS = 20  # of an incident are kept, to know it again after a restart
_SEPARATOR = "\x1f"


class Shape(Record, frozen=True, kw_only=True):
    """What makes a change worth telling."""

    faults: str  # which failures, root and severity, as a hash
    root: Ref
    severity: Severity
    count: int


class Head(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One incident, as it is kept across restarts."""

    id: str
    number: int  # in the order of opening
    opened_at: datetime
    told_at: datetime
    told: Shape
    title: str
    revision: int = 1
    prints: tuple[str, ...] = ()
    changed_at: datetime | None = None  # since when it is otherwise than it was told
    silence: bool = False  # it is about the cluster being silent
    resolved_at: datetime | None = None
    resolution: str | None = None
    silenced: bool = False  # nobody is told


@dataclass(slots=True)
class _Incident:
    head: Head
    group: Group
    grouped_at: datetime


class ClusterRow(Record, frozen=True, kw_only=True):
    """One cluster, as it is kept across restarts."""

    term: int
    number: int
    born: datetime
    heartbeat_at: datetime | None = None
    nothing_ends_before: datetime | None = None


@dataclass
class _Cluster:
    failing: Failing
    born: datetime  # when it was first heard of, as far as is remembered
    asked: frozenset[str] = frozenset()  # labels that findings carry
    open: dict[str, _Incident] = field(default_factory=dict)  # the one told of the longest ago first
    of: dict[Ref, tuple[str, ...]] = field(default_factory=dict)  # the incidents that an object is in
    late: dict[str, None] = field(default_factory=dict)  # changed, not yet told
    postponed: dict[Ref, frozenset[Ref]] = field(default_factory=dict)  # touched, and to be grouped anew later
    postponed_until: datetime | None = None
    resolved: dict[str, Head] = field(default_factory=dict)  # of late, the longest ago first
    lost: dict[str, _Incident] = field(default_factory=dict)  # all of it ended just before a restart
    silence: _Incident | None = None
    heartbeat_at: datetime | None = None
    nothing_ends_before: datetime | None = None
    number: int = 0
    changed: set[str] = field(default_factory=set)  # incidents whose row is to be written
    is_changed: bool = True  # and the cluster's own


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
        self._clusters: dict[str, _Cluster] = {}

    def feed(self, record: Report | Inventory | Heartbeat | SilenceChange | Tick, now: datetime) -> Iterator[Finding]:
        """The transitions this record brings about. `now` never goes back within one partition.

        Raises Rejected for a silence that is none.
        """
        if isinstance(record, SilenceChange):
            yield from self._silenced(self._silences.put(record, now), now)
            return
        if isinstance(record, Tick):
            yield from self._silenced(self._silences.turn(now), now)
            for name, cluster in self._clusters.items():
                yield from self._tick(name, cluster, now)
            return
        cluster = self._cluster(record.cluster, now)
        term = cluster.failing.term
        if not cluster.failing.current(record.version):
            return
        cluster.is_changed |= cluster.failing.term != term
        if isinstance(record, Heartbeat):
            cluster.heartbeat_at, cluster.is_changed = now, True
        if cluster.silence:
            yield _heard(record.cluster, cluster, now)
        cluster.failing.advance(now)
        match record:
            case Report():
                cluster.failing.report(record, now)
            case Inventory():
                cluster.failing.inventory(record, now)
        yield from _regroup(record.cluster, cluster, now)

    def flush(self, now: datetime) -> Iterator[Finding]:
        """What has changed and was not told yet, to spare people: for when nothing comes after."""
        for name, cluster in self._clusters.items():
            yield from _regroup(name, cluster, now, at_once=True)
            for key in list(cluster.late):
                yield _tell(name, cluster, cluster.open[key], now)

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
        for name, cluster in self._clusters.items():
            if cluster.silence:
                yield _view(name, cluster, cluster.silence.head, cluster.silence.group.members)
            for incident in cluster.open.values():
                yield _view(name, cluster, incident.head, incident.group.members)
            for head in cluster.resolved.values() if resolved else ():
                yield _view(name, cluster, head, ())

    def rows(self) -> dict[str, bytes | None]:
        """What has changed since this was last asked, to be written when the findings have arrived; None deletes."""
        changed = {_key("", "silence", key): _encoded(self._silences.get(key)) for key in self._silences.changed}
        self._silences.changed = set()
        for name, cluster in self._clusters.items():
            failing, flapping = cluster.failing, cluster.failing.flapping
            for ref in failing.changed:
                changed[_key(name, "object", *_parts(ref))] = _encoded(failing.row(ref))
            for fingerprint in flapping.changed:
                changed[_key(name, "flaps", fingerprint)] = _encoded(flapping.row(fingerprint))
            for key in cluster.changed:
                changed[_key(name, "incident", key)] = _encoded(_head(cluster, key))
            if cluster.is_changed:
                changed[_key(name, "cluster")] = _encoded(
                    ClusterRow(
                        term=failing.term,
                        number=cluster.number,
                        born=cluster.born,
                        heartbeat_at=cluster.heartbeat_at,
                        nothing_ends_before=cluster.nothing_ends_before,
                    )
                )
            failing.changed, flapping.changed, cluster.changed, cluster.is_changed = set(), set(), set(), False
        return changed

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """As it was when those rows were written. Raises DecodeError, KeyError or ValueError for what is none."""
        found: dict[str, dict[str, list[tuple[str, bytes]]]] = {}
        for key, value in rows:
            name, sort, *rest = key.split(_SEPARATOR)
            found.setdefault(name, {}).setdefault(sort, []).append((_SEPARATOR.join(rest), value))
        # Of all clusters, so that they come under the name of none.
        kept = found.pop("", {}).get("silence", ())
        self._silences.restore(msgspec.json.decode(value, type=Silence) for _, value in kept)
        for name, sorts in found.items():
            own = msgspec.json.decode(sorts["cluster"][0][1], type=ClusterRow)
            _restore(name, self._cluster(name, own.born), own, sorts)

    def _cluster(self, name: str, born: datetime) -> _Cluster:
        cluster = self._clusters.get(name)
        if cluster is None:
            failing = Failing(name, self._keep_open, self._holds, self._silences)
            cluster = self._clusters[name] = _Cluster(failing, born, self._labels)
        return cluster

    def _silenced(self, turned: list[Matchers], now: datetime) -> Iterator[Finding]:
        """What begins and ends because silences do."""
        for name, cluster in self._clusters.items() if turned else ():
            cluster.failing.silence(turned, now)
            yield from _regroup(name, cluster, now, at_once=True)
            if cluster.silence:
                group = _silence(name, cluster, self._silences, now)
                if group.silenced != cluster.silence.head.silenced:
                    yield _end(name, cluster, cluster.silence, "silenced" if group.silenced else "superseded", now)
                    yield _silent(name, cluster, group, now)

    def _tick(self, name: str, cluster: _Cluster, now: datetime) -> Iterator[Finding]:
        if cluster.silence is None and cluster.heartbeat_at and now - cluster.heartbeat_at > SILENT:
            yield _silent(name, cluster, _silence(name, cluster, self._silences, now), now)
        if cluster.silence is None:
            for incident in cluster.lost.values():
                yield _end(name, cluster, incident, "recovered", now)
            cluster.lost = {}
            cluster.failing.advance(now)
            yield from _regroup(name, cluster, now)
            yield from _told_late(name, cluster, now)
        if self._repeat:
            yield from _repeated(name, cluster, now, self._repeat)
        while cluster.resolved:
            oldest = next(iter(cluster.resolved.values())).resolved_at
            if oldest and now - oldest < LOOKED_BACK:
                break
            _forget(cluster)


def _silent(name: str, cluster: _Cluster, group: Group, now: datetime) -> Finding:
    """Nothing is heard of the cluster: what is known of it stays as it is."""
    incident = _made(name, cluster, group, now)
    incident.head.silence = True
    cluster.silence = incident
    return _finding(name, cluster, incident, "opened", now)


def _silence(name: str, cluster: _Cluster, silences: Silences, now: datetime) -> Group:
    ref, since = Ref("Cluster", name), cluster.heartbeat_at
    assert since
    failure = Failure(
        rule="cluster-silent",
        severity=Severity.CRITICAL,
        title="Nothing is heard of the cluster",
        message="its collector has sent nothing for a minute; what was told of the cluster may be out of date",
        since=since,
    )
    report = Report(cluster=name, version=Version(cluster.failing.term, 0), ref=ref, root=ref, observed_at=since)
    silenced = silences.silence(name, report, failure, now)
    (group,) = correlate(name, [(report, failure)], lambda report, failure: silenced)
    return group


def _heard(name: str, cluster: _Cluster, now: datetime) -> Finding:
    incident = cluster.silence
    assert incident
    cluster.silence = None
    cluster.nothing_ends_before, cluster.is_changed = now + CATCHING_UP, True
    cluster.failing.let_nothing_end_before(now + CATCHING_UP)
    return _end(name, cluster, incident, "recovered", now)


def _regroup(name: str, cluster: _Cluster, now: datetime, *, at_once: bool = False) -> Iterator[Finding]:
    """Groups anew whatever hangs together with what has changed."""
    failing = cluster.failing
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
    groups = _groups(name, failing, connected)
    near = {key for refs in (names, *connected) for ref in refs for key in cluster.of.get(ref, ())}
    incidents = sorted((cluster.open[key] for key in near), key=lambda each: each.head.number)
    kept = _matched([(each.head, each.group.fingerprints) for each in incidents], groups)
    survivors = {index: key for key, index in kept.items()}
    live = {(group.silenced, each) for group in groups for each in group.fingerprints}
    for incident in incidents:
        if incident.head.id not in kept:
            yield _resolve(name, cluster, incident, live, now)
    for index, group in enumerate(groups):
        if index in survivors:
            yield from _update(name, cluster, cluster.open[survivors[index]], group, now)
        else:
            yield _open(name, cluster, group, now)


def _groups(name: str, failing: Failing, connected: Iterable[list[Ref]]) -> list[Group]:
    def silenced(report: Report, failure: Failure) -> bool:
        return failing.is_silenced(report.ref, failure)

    return [group for refs in connected for group in correlate(name, failing.held(refs), silenced)]


def _not_before(cluster: _Cluster, names: Iterable[Ref]) -> datetime | None:
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


def _matched(incidents: Iterable[tuple[Head, Iterable[str]]], groups: list[Group]) -> dict[str, int]:
    """Which group each incident goes on as: the oldest chooses first, the group it shares most with."""
    where: dict[tuple[bool, str], list[int]] = {}
    for index, group in enumerate(groups):
        for fingerprint in group.fingerprints:
            where.setdefault((group.silenced, fingerprint), []).append(index)
    taken: set[int] = set()
    kept: dict[str, int] = {}
    for head, fingerprints in incidents:
        shared: dict[int, int] = {}
        for fingerprint in fingerprints:
            for index in where.get((head.silenced, fingerprint), ()):
                if index not in taken:
                    shared[index] = shared.get(index, 0) + 1
        if shared:
            best = min(shared, key=lambda index: (-shared[index], index))
            taken.add(best)
            kept[head.id] = best
    return kept


def _made(name: str, cluster: _Cluster, group: Group, now: datetime) -> _Incident:
    cluster.number += 1
    cluster.is_changed = True
    # The number tells this incident from an earlier one of the same failure, and the birth from those of lost rows.
    key = incident_id(name, group.fingerprints[0], f"{cluster.number} {cluster.born.isoformat()}")
    head = Head(id=key, number=cluster.number, opened_at=now, told_at=now, told=_shape(group), title=group.title)
    head.prints, head.silenced = group.fingerprints[:_PRINTS], group.silenced
    cluster.changed.add(key)
    return _Incident(head, group, now)


def _open(name: str, cluster: _Cluster, group: Group, now: datetime) -> Finding:
    incident = _made(name, cluster, group, now)
    cluster.open[incident.head.id] = incident
    _join(cluster, incident.head.id, group)
    return _finding(name, cluster, incident, "opened", now)


def _update(name: str, cluster: _Cluster, incident: _Incident, group: Group, now: datetime) -> Iterator[Finding]:
    head = incident.head
    _part(cluster, head.id, incident.group)
    _join(cluster, head.id, group)
    incident.group, incident.grouped_at = group, now
    if head.prints != group.fingerprints[:_PRINTS]:
        head.prints = group.fingerprints[:_PRINTS]
        cluster.changed.add(head.id)
    changed_at = None if _shape(group) == head.told else head.changed_at or now
    if changed_at != head.changed_at:
        head.changed_at = changed_at
        cluster.changed.add(head.id)
    if changed_at is None:
        cluster.late.pop(head.id, None)
    else:
        cluster.late[head.id] = None
        yield from _told_if_due(name, cluster, incident, now)


def _pause(incident: _Incident) -> timedelta:
    """How long after it was last told of the incident may be told of again."""
    head, group = incident.head, incident.group
    if group.root != head.told.root or group.severity.rank > head.told.severity.rank:
        return QUIET
    return QUIET * 2.0 ** min(head.revision - 1, _SLOWEST)


def _told_late(name: str, cluster: _Cluster, now: datetime) -> Iterator[Finding]:
    for key in list(cluster.late):
        yield from _told_if_due(name, cluster, cluster.open[key], now)


def _told_if_due(name: str, cluster: _Cluster, incident: _Incident, now: datetime) -> Iterator[Finding]:
    """Unless all of it is over, or it becomes less and may soon be gone."""
    head, group, is_over = incident.head, incident.group, cluster.failing.is_over
    less = head.changed_at and len(group.objects) < head.told.count and now - head.changed_at < QUIET
    if now - head.told_at >= _pause(incident) and not less and not all(is_over(*each) for each in group.members):
        yield _tell(name, cluster, incident, now)


def _tell(name: str, cluster: _Cluster, incident: _Incident, now: datetime) -> Finding:
    cluster.late.pop(incident.head.id, None)
    head, group = incident.head, incident.group
    head.told, head.title, head.changed_at = _shape(group), group.title, None
    return _retold(name, cluster, incident, "updated", now)


def _repeated(name: str, cluster: _Cluster, now: datetime, repeat: timedelta) -> Iterator[Finding]:
    while cluster.open:
        incident = next(iter(cluster.open.values()))
        if now - incident.head.told_at < repeat:
            return
        yield _retold(name, cluster, incident, "repeated", now)


def _retold(name: str, cluster: _Cluster, incident: _Incident, transition: str, now: datetime) -> Finding:
    head = incident.head
    head.revision += 1
    head.told_at = now
    cluster.changed.add(head.id)
    cluster.open[head.id] = cluster.open.pop(head.id)
    return _finding(name, cluster, incident, transition, now)


def _resolve(name: str, cluster: _Cluster, incident: _Incident, live: set[tuple[bool, str]], now: datetime) -> Finding:
    head, group = incident.head, incident.group
    del cluster.open[head.id]
    cluster.late.pop(head.id, None)
    _part(cluster, head.id, group)
    told, silenced = (any((each, name) in live for name in group.fingerprints) for each in (False, True))
    if told or (silenced and head.silenced):
        resolution = "superseded"
    elif silenced:
        resolution = "silenced"
    elif all(cluster.failing.is_deleted(ref) for ref in group.objects):
        resolution = "deleted"
    else:
        resolution = "recovered"
    return _end(name, cluster, incident, resolution, now)


def _end(name: str, cluster: _Cluster, incident: _Incident, resolution: str, now: datetime) -> Finding:
    head = incident.head
    head.revision += 1
    head.resolved_at, head.resolution = now, resolution
    cluster.resolved[head.id] = head
    cluster.changed.add(head.id)
    if len(cluster.resolved) > LOOKED_BACK_AT:
        _forget(cluster)
    return _finding(name, cluster, incident, "resolved", now)


def _forget(cluster: _Cluster) -> None:
    """The incident that was resolved the longest ago."""
    key = next(iter(cluster.resolved))
    del cluster.resolved[key]
    cluster.changed.add(key)


def _head(cluster: _Cluster, key: str) -> Head | None:
    if cluster.silence and cluster.silence.head.id == key:
        return cluster.silence.head
    return cluster.open[key].head if key in cluster.open else cluster.resolved.get(key)


def _join(cluster: _Cluster, key: str, group: Group) -> None:
    for ref in group.objects:
        cluster.of[ref] = (*cluster.of.get(ref, ()), key)


def _part(cluster: _Cluster, key: str, group: Group) -> None:
    for ref in group.objects:
        rest = tuple(each for each in cluster.of.pop(ref) if each != key)
        if rest:
            cluster.of[ref] = rest


def _shape(group: Group) -> Shape:
    faults = sha256("\0".join(group.fingerprints).encode()).hexdigest()[:16]
    return Shape(faults=faults, root=group.root, severity=group.severity, count=len(group.objects))


def _finding(name: str, cluster: _Cluster, incident: _Incident, transition: str, now: datetime) -> Finding:
    head = incident.head
    key = f"{head.id} {head.revision} {transition}"
    return Finding(
        id=sha256(key.encode()).hexdigest()[:32],
        transition=transition,
        at=now,
        revision=head.revision,
        incident=_view(name, cluster, head, incident.group.members),
    )


def _view(name: str, cluster: _Cluster, head: Head, members: tuple[tuple[Ref, Failure], ...]) -> IncidentView:
    """What is over but kept for a while is not told any more, unless nothing else is left."""
    present = [each for each in members if not cluster.failing.is_over(*each)] or members
    objects = tuple(dict.fromkeys(ref for ref, _ in present))
    return IncidentView(
        id=head.id,
        cluster=name,
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
                docs=failure.docs,
                cause=failure.cause,
                labels=_labels(cluster, ref),
            )
            for ref, failure in present
        ),
        silenced=head.silenced,
    )


def _labels(cluster: _Cluster, ref: Ref) -> dict[str, str]:
    report = cluster.failing.told_of(ref) if cluster.asked else None
    return {name: value for name, value in object_labels(report).items() if name in cluster.asked} if report else {}


def _restore(name: str, cluster: _Cluster, own: ClusterRow, sorts: Mapping[str, list[tuple[str, bytes]]]) -> None:
    failing = cluster.failing
    objects = [msgspec.json.decode(value, type=Row) for _, value in sorts.get("object", ())]
    failing.restore(own.term, objects)
    flaps = ((key, msgspec.json.decode(value, type=Flaps)) for key, value in sorts.get("flaps", ()))
    failing.flapping.restore(flaps, failing.active())
    cluster.number, cluster.heartbeat_at = own.number, own.heartbeat_at
    cluster.nothing_ends_before = own.nothing_ends_before
    if own.nothing_ends_before:
        failing.let_nothing_end_before(own.nothing_ends_before)
    heads = [msgspec.json.decode(value, type=Head) for _, value in sorts.get("incident", ())]
    heads.sort(key=lambda head: head.number)
    names = [row.report.ref for row in objects]
    groups = _groups(name, failing, failing.neighbours.connected(names))
    still = [head for head in heads if not head.resolution]
    kept = _matched([(head, head.prints) for head in still if not head.silence], groups)
    over = sorted((head for head in heads if head.resolution), key=lambda head: (head.resolved_at, head.number))
    cluster.resolved = {head.id: head for head in over}
    for head in sorted(still, key=lambda head: head.told_at):
        if head.silence:
            cluster.silence = _Incident(head, _silence(name, cluster, Silences(), head.told_at), head.told_at)
        elif head.id not in kept:
            cluster.lost[head.id] = _Incident(head, _nothing(head), head.told_at)
        else:
            group = groups[kept[head.id]]
            cluster.open[head.id] = _Incident(head, group, head.told_at)
            _join(cluster, head.id, group)
            if _shape(group) != head.told:
                cluster.late[head.id] = None
    # What belongs to no incident was not told when the rows were written.
    for index, group in enumerate(groups):
        if index not in kept.values():
            failing.touched |= {ref: failing.neighbours.names(ref) for ref in group.objects}
    cluster.is_changed = False


def _nothing(head: Head) -> Group:
    told = head.told
    return Group(head.id, told.root, told.severity, head.title, None, (), head.prints)


def _key(*parts: str) -> str:
    return _SEPARATOR.join(parts)


def _parts(ref: Ref) -> tuple[str, str, str, str]:
    return (ref.group, ref.kind, ref.namespace or "", ref.name)


def _encoded(row: msgspec.Struct | None) -> bytes | None:
    return None if row is None else msgspec.json.encode(row)
