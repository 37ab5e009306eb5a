"""What is kept of a cluster's incidents across restarts, as rows of bytes by key."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from explainer.changing import ChangesRow
from explainer.cluster import Cluster, Head, Incident, matched, shape
from explainer.correlation import Group
from explainer.flapping import Flaps
from explainer.known import Row
from explainer.wanting import want
from kubewhy.records import Record, Ref

_SEPARATOR = "\x1f"


class ClusterRow(Record, frozen=True, kw_only=True):
    """One cluster, as it is kept across restarts."""

    term: int
    number: int
    born: datetime
    heartbeat_at: datetime | None = None
    nothing_ends_before: datetime | None = None
    listing_until: datetime | None = None
    called: str = ""
    is_stale: bool = False
    fell_at: datetime | None = None
    fleet: str = ""


def changed_rows(cluster: Cluster) -> dict[str, bytes | None]:
    """What has changed since this was last asked; None deletes."""
    name, changed = cluster.name, dict[str, bytes | None]()
    failing, flapping = cluster.failing, cluster.failing.flapping
    for ref in failing.changed:
        changed[key_of(name, "object", *_parts(ref))] = encoded(failing.row(ref))
    for fingerprint in flapping.changed:
        changed[key_of(name, "flaps", fingerprint)] = encoded(flapping.row(fingerprint))
    for ref in cluster.changes.changed:
        changed[key_of(name, "changes", *_parts(ref))] = encoded(cluster.changes.row(ref))
    for key in cluster.changed:
        changed[key_of(name, "incident", key)] = encoded(cluster.head(key))
    if cluster.is_changed:
        row = ClusterRow(
            term=failing.term,
            number=cluster.number,
            born=cluster.born,
            heartbeat_at=cluster.heartbeat_at,
            nothing_ends_before=cluster.nothing_ends_before,
            listing_until=cluster.listing_until,
            called=cluster.called,
            is_stale=cluster.is_stale,
            fell_at=cluster.fell_at,
            fleet=cluster.fleet,
        )
        changed[key_of(name, "cluster")] = encoded(row)
    failing.changed, flapping.changed, cluster.changed, cluster.is_changed = set(), set(), set(), False
    cluster.changes.changed = set()
    return changed


def by_cluster(rows: Iterable[tuple[str, bytes]]) -> dict[str, dict[str, list[tuple[str, bytes]]]]:
    """Rows by cluster and sort, with what is left of their keys."""
    found: dict[str, dict[str, list[tuple[str, bytes]]]] = {}
    for key, value in rows:
        name, sort, *rest = key.split(_SEPARATOR)
        found.setdefault(name, {}).setdefault(sort, []).append((_SEPARATOR.join(rest), value))
    return found


def restore(cluster: Cluster, own: ClusterRow, sorts: Mapping[str, list[tuple[str, bytes]]]) -> list[Head]:
    """As it was when those rows were written. Returns what was told of the cluster being silent, if it was."""
    failing = cluster.failing
    objects = [msgspec.json.decode(value, type=Row) for _, value in sorts.get("object", ())]
    failing.restore(own.term, objects)
    flaps = ((key, msgspec.json.decode(value, type=Flaps)) for key, value in sorts.get("flaps", ()))
    failing.flapping.restore(flaps, failing.active())
    cluster.changes.restore(msgspec.json.decode(value, type=ChangesRow) for _, value in sorts.get("changes", ()))
    cluster.number, cluster.heartbeat_at = own.number, own.heartbeat_at
    cluster.nothing_ends_before, cluster.listing_until = own.nothing_ends_before, own.listing_until
    cluster.called, cluster.is_stale = own.called, own.is_stale
    cluster.fell_at, cluster.fleet = own.fell_at, own.fleet
    if own.nothing_ends_before:
        failing.catch_up(own.nothing_ends_before)
    heads = [msgspec.json.decode(value, type=Head) for _, value in sorts.get("incident", ())]
    heads.sort(key=lambda head: head.number)
    names = [row.report.ref for row in objects]
    groups = cluster.groups(failing.neighbours.connected(names))
    still = [head for head in heads if not head.resolution]
    kept = matched([(head, head.prints) for head in still if not head.silence], groups)
    over = sorted((head for head in heads if head.resolution), key=lambda head: (head.resolved_at, head.number))
    cluster.resolved = {head.id: head for head in over}
    for head in sorted(still, key=lambda head: head.told_at):
        if head.silence:
            continue
        if head.id not in kept:
            cluster.lost[head.id] = Incident(head, nothing(head), head.told_at)
        else:
            group = groups[kept[head.id]]
            cluster.open[head.id] = Incident(head, group, head.told_at)
            cluster.join(head.id, group)
            want(cluster, cluster.open[head.id])
            if shape(group, len(head.changes)) != head.told:
                cluster.late[head.id] = None
    # What belongs to no incident was not told when the rows were written.
    for index, group in enumerate(groups):
        if index not in kept.values():
            failing.touched |= {ref: failing.neighbours.names(ref) for ref in group.objects}
    cluster.is_changed = False
    return [head for head in still if head.silence]


def nothing(head: Head) -> Group:
    """For an incident of which it is not known any more what it consisted of."""
    told = head.told
    return Group(head.id, told.root, told.severity, head.title, None, (), head.prints)


def key_of(*parts: str) -> str:
    """The key of a row."""
    return _SEPARATOR.join(parts)


def _parts(ref: Ref) -> tuple[str, str, str, str]:
    return (ref.group, ref.kind, ref.namespace or "", ref.name)


def encoded(row: msgspec.Struct | None) -> bytes | None:
    """A row as it is written; None for one that is to be deleted."""
    return None if row is None else msgspec.json.encode(row)
