"""Storms: more new incidents than people can read become one digest, for one sink. A fold, as incidents are."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from explainer.digests import LIMIT, Digest, criticals, named, view
from kubewhy.records import Finding, IncidentView, Record, Ref, Told

MINUTE = timedelta(minutes=1)
# A digest is told anew at most this often, and ever more seldom where it goes on and on.
QUIET = timedelta(seconds=10)
_SLOWEST = 5  # times that the pause doubles: to some five minutes
# What is over is known for so long, should it be told once more.
KEPT = timedelta(hours=1)


class Opened(Record, frozen=True, kw_only=True):
    """When the last incidents of a cluster opened, the oldest first, and the digest that came of it."""

    born: datetime  # what opened before was told before there was this stage
    times: tuple[datetime, ...] = ()
    digest: str | None = None


class Known(Record, frozen=True, kw_only=True):
    """An incident that the sink has heard of: by itself, or in that digest, which may name it as `told`."""

    revision: int = 0
    digest: str | None = None
    told: Told | None = None
    over_at: datetime | None = None


class Storms:
    """A stage for one sink: it hands on every finding, those of incidents in a digest marked with it, and digests.

    A digest of which nothing new was told is told again after `repeat`.
    """

    def __init__(self, sink: str, repeat: timedelta | None = None) -> None:
        self._sink, self._repeat = sink, repeat
        self._opened: dict[str, Opened] = {}  # by cluster
        self._known: dict[str, Known] = {}
        self._over: dict[str, None] = {}  # the longest ago first
        self._digests: dict[str, Digest] = {}
        self._open: dict[str, dict[str, Told]] = {}  # of each digest, what is open of it
        self._late: set[str] = set()  # digests that may have changed since they were told
        self._changed: set[tuple[str, str]] = set()  # sort and key of the rows to be written

    def feed(self, finding: Finding, now: datetime) -> list[Finding]:
        """The finding, after the digest that it opens if it does so."""
        incident = finding.incident
        # That nothing is heard of a cluster any more must not be one of many.
        if incident.silenced or incident.root == Ref("Cluster", incident.cluster):
            return [finding]
        told: list[Finding] = []
        if incident.id not in self._known:
            if incident.state == "resolved":
                return [finding]
            told += self._first(finding, now)
        self._follow(finding, now)
        return [*told, msgspec.structs.replace(finding, digest=self._known[incident.id].digest)]

    def tick(self, now: datetime) -> list[Finding]:
        """What is to be told of digests now that it is so late."""
        while self._over and (over_at := self._known[next(iter(self._over))].over_at) and _apart(now, over_at) >= KEPT:
            key = next(iter(self._over))
            del self._over[key], self._known[key]
            self._changed.add(("incident", key))
        told: list[Finding] = []
        for digest in list(self._digests.values()):
            if digest.resolved_at and _apart(now, digest.resolved_at) >= KEPT:
                del self._digests[digest.id], self._open[digest.id]
                self._changed.add(("digest", digest.id))
            elif not digest.resolved_at:
                told += self._due(digest, now)
        return told

    def flush(self, now: datetime) -> list[Finding]:
        """What was not told yet, to spare people: for when nothing comes after."""
        told: list[Finding] = []
        for digest in self._digests.values():
            if not digest.resolved_at:
                told += self._updated(digest, now) if self._open[digest.id] else [self._resolved(digest, now)]
        return told

    def claims(self, finding: Finding) -> bool:
        """Whether that is one of its digests. What an earlier process was about to tell of it counts as told."""
        digest = self._digests.get(finding.incident.id)
        if digest and finding.revision > digest.revision:
            digest.revision, digest.told, digest.told_at = finding.revision, finding.incident, finding.at
            digest.resolved_at = finding.incident.resolved_at
            digest.criticals = criticals(self._open[digest.id].values())
            self._changed.add(("digest", digest.id))
        return digest is not None

    def rows(self) -> dict[str, bytes | None]:
        """What has changed since this was last asked, to be written when the findings have arrived; None deletes."""
        sorts: dict[str, Mapping[str, msgspec.Struct]]
        sorts = {"opened": self._opened, "incident": self._known, "digest": self._digests}
        rows: dict[str, bytes | None] = {}
        for sort, key in sorted(self._changed):
            row = sorts[sort].get(key)
            rows[f"{sort}\x1f{key}"] = None if row is None else msgspec.json.encode(row, order="deterministic")
        self._changed = set()
        return rows

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """As it was when those rows were written. A row that is none is as good as none."""
        for whole, row in rows:
            sort, _, key = whole.partition("\x1f")
            try:
                match sort:
                    case "opened":
                        self._opened[key] = msgspec.json.decode(row, type=Opened)
                    case "incident":
                        self._known[key] = msgspec.json.decode(row, type=Known)
                    case "digest":
                        self._digests[key] = msgspec.json.decode(row, type=Digest)
            except msgspec.DecodeError:
                continue
        self._digests = dict(sorted(self._digests.items(), key=lambda each: (each[1].opened_at, each[0])))
        self._open = {key: {} for key in self._digests}
        for key, known in self._known.items():
            if known.digest and known.digest not in self._digests:
                self._known[key] = msgspec.structs.replace(known, digest=None, told=None)
            elif known.digest and known.told:
                self._open[known.digest][key] = known.told
        over = sorted((known.over_at, key) for key, known in self._known.items() if known.over_at)
        self._over = {key: None for _, key in over}
        self._late = set(self._digests)

    def _first(self, finding: Finding, now: datetime) -> Iterator[Finding]:
        """The sink has not heard of that incident yet: it does by itself, unless that were too many."""
        incident = finding.incident
        opened = self._opened.setdefault(incident.cluster, Opened(born=now))
        self._known[incident.id] = Known()
        self._changed |= {("opened", incident.cluster), ("incident", incident.id)}
        if finding.transition != "opened" and incident.opened_at < opened.born:
            return
        times = (*opened.times, now)[-LIMIT:]
        self._opened[incident.cluster] = Opened(born=opened.born, times=times, digest=opened.digest)
        if len(opened.times) < LIMIT or any(_apart(now, each) >= MINUTE for each in opened.times):
            return
        digest = self._digests.get(opened.digest or "")
        if digest is None or digest.resolved_at or _apart(now, digest.taken_at) >= MINUTE:
            digest = self._made(incident, opened.times[0], now)
            self._opened[incident.cluster] = Opened(born=opened.born, times=times, digest=digest.id)
        digest.count += 1
        digest.taken_at = now
        self._known[incident.id] = Known(digest=digest.id)
        self._follow(finding, now)
        if digest.told is None:
            yield self._told(digest, "opened", now)

    def _made(self, first: IncidentView, since: datetime, now: datetime) -> Digest:
        key = sha256("\0".join((self._sink, first.cluster, first.id)).encode()).hexdigest()[:16]
        digest = Digest(
            id=key,
            cluster=first.cluster,
            called=first.cluster_name,
            since=since,
            opened_at=now,
            taken_at=now,
            told_at=now,
        )
        self._digests[key], self._open[key] = digest, {}
        return digest

    def _follow(self, finding: Finding, now: datetime) -> None:
        """Keeps how the incident is now. What was heard before is nothing new."""
        incident = finding.incident
        known = self._known[incident.id]
        if finding.revision <= known.revision:
            return
        over = incident.state == "resolved"
        told = named(incident) if known.digest and not over else None
        over_at = now if over else None
        self._known[incident.id] = Known(revision=finding.revision, digest=known.digest, told=told, over_at=over_at)
        self._changed.add(("incident", incident.id))
        if over:
            self._over[incident.id] = None
        if known.digest and (digest := self._digests.get(known.digest)):
            self._late.add(digest.id)
            self._changed.add(("digest", digest.id))
            digest.worst = max(digest.worst, incident.severity, key=lambda each: each.rank)
            if told:
                self._open[digest.id][incident.id] = told
            else:
                self._open[digest.id].pop(incident.id, None)
                digest.resolutions.add(incident.resolution or "recovered")

    def _due(self, digest: Digest, now: datetime) -> list[Finding]:
        """Where nothing is open of it any more, it ends once it takes in no more; until then, it may still go on."""
        waited, still = _apart(now, digest.told_at), self._open[digest.id]
        if not still:
            return [self._resolved(digest, now)] if _apart(now, digest.taken_at) >= MINUTE else []
        if digest.id in self._late and waited >= QUIET:
            more = criticals(still.values()) > digest.criticals
            if more or waited >= QUIET * 2.0 ** min(digest.revision - 1, _SLOWEST):
                return self._updated(digest, now)
        if self._repeat and waited >= self._repeat:
            return [self._told(digest, "repeated", now)]
        return []

    def _updated(self, digest: Digest, now: datetime) -> list[Finding]:
        self._late.discard(digest.id)
        if view(digest, self._open[digest.id]) == digest.told:
            return []
        return [self._told(digest, "updated", now)]

    def _resolved(self, digest: Digest, now: datetime) -> Finding:
        digest.resolved_at = now
        return self._told(digest, "resolved", now)

    def _told(self, digest: Digest, transition: str, now: datetime) -> Finding:
        still = self._open[digest.id]
        digest.revision += 1
        digest.told, digest.told_at, digest.criticals = view(digest, still), now, criticals(still.values())
        self._late.discard(digest.id)
        self._changed.add(("digest", digest.id))
        key = sha256(f"{digest.id} {digest.revision} {transition}".encode()).hexdigest()[:32]
        return Finding(id=key, transition=transition, at=now, revision=digest.revision, incident=digest.told)


def _apart(one: datetime, other: datetime) -> timedelta:
    """Either way: a clock that was set far back must not make what was told seem to be told just now for as long."""
    return abs(one - other)
