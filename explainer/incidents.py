"""Incidents over time: a deterministic fold over reports, inventories and ticks, into one finding a transition.

It reads no clock and does no I/O. What it must not forget comes out as rows and goes in again by `restore`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from explainer.cluster import Cluster, Head, Incident
from explainer.correlation import ref_order
from explainer.failing import Failing
from explainer.fleet import Fleet
from explainer.matchers import Matchers
from explainer.recalling import learn
from explainer.regrouping import by_age, end, regroup, repeated, tell, told_late
from explainer.remembering import ClusterRow, by_cluster, changed_rows, encoded, key_of, restore
from explainer.silences import Silences
from explainer.telling import view
from explainer.unheard import (
    Silent,
    Ticked,
    Ticking,
    become_stale,
    fell_silent,
    heard_again,
    is_missed,
    listen,
    retold,
    silence_of,
)
from explainer.wanting import Wanted, answered, questions, wanted
from kubewhy.errors import Rejected
from kubewhy.events import FLEET
from kubewhy.records import (
    Answer,
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
)

# So long resolved incidents can be looked up.
LOOKED_BACK = timedelta(days=1)
# A collector may take so long to say all there is before anything is told of it.
LISTING = timedelta(seconds=30)


class Incidents:
    """A stage with the incidents of any number of clusters.

    `keep_open` is how long a failure that is seen no more still counts; `holds` stand in for the rules' own; an
    incident of which nothing new was told is told again after `repeat`; `labels` are those that findings carry, as
    matchers name them; `explain` says that there is a model to be asked; `silence` says who tells of clusters that
    fall silent.
    """

    def __init__(
        self,
        *,
        keep_open: timedelta = timedelta(0),
        holds: Mapping[str, timedelta] | None = None,
        repeat: timedelta | None = None,
        labels: Iterable[str] = (),
        explain: bool = False,
        silence: Silent = Silent.TOLD,
    ) -> None:
        self._explain = explain
        self._keep_open, self._holds, self._repeat = keep_open, holds or {}, repeat
        self._labels = frozenset(labels)
        self._silences = Silences()
        self._clusters: dict[str, Cluster] = {}  # in the order of their names
        self._touched: dict[str, None] = {}  # clusters of which there may be rows to be written
        self._forgotten: list[tuple[str, str]] = []
        self._ticking, self._tells = Ticking(), silence is Silent.TOLD
        fleet = Fleet(self._clusters, lambda now: self._cluster(FLEET, now), self._silences)
        self._fleet = fleet if silence is Silent.TOGETHER else None

    def feed(
        self, record: Report | Inventory | Heartbeat | SilenceChange | Answer | Tick, now: datetime
    ) -> Iterator[Finding]:
        """The transitions this record brings about. `now` never goes back within one partition.

        Raises Rejected for a silence that is none, and where a cluster bears the name of all.
        """
        if isinstance(record, SilenceChange):
            yield from self._silenced(self._silences.put(record, now), now)
            return
        if isinstance(record, Tick):
            yield from self._silenced(self._silences.turn(now), now)
            yield from self._ticked(now)
            return
        if self._fleet and record.cluster == FLEET:
            raise Rejected(f"a cluster cannot have the id {FLEET}, which stands for all of them; give it another")
        cluster = self._cluster(record.cluster, now)
        self._touched[cluster.name] = None
        if isinstance(record, Answer):
            yield from answered(cluster, record, now)
            return
        term = cluster.failing.term
        if not cluster.failing.current(record.version):
            return
        cluster.is_changed |= cluster.failing.term != term
        if self._ticking.stood_still(now) and is_missed(cluster, now):
            become_stale(cluster)
        if isinstance(record, Heartbeat):
            cluster.heartbeat_at, cluster.is_changed = now, True
            cluster.listing_until = now + LISTING if record.listing else None
            cluster.called = record.name or cluster.called
            self._ticking.begin(now)
            if cluster.is_stale:
                if self._fleet:
                    self._fleet.heard(cluster)
                yield from heard_again(cluster, now)
        news = cluster.changes.take(record, now) if isinstance(record, Report) else ()
        if not cluster.is_stale:
            cluster.failing.advance(now)
        match record:
            case Report():
                cluster.failing.report(record, now)
            case Inventory():
                cluster.failing.inventory(record, now)
        yield from regroup(cluster, now)
        if news:
            learn(cluster, news, now)

    def flush(self, now: datetime) -> Iterator[Finding]:
        """What was not told yet to spare people, and the end of what is over and kept for a while: for when nothing
        comes after."""
        for cluster in self._clusters.values():
            if not cluster.is_stale:
                cluster.failing.let_go(now)
            yield from regroup(cluster, now, at_once=True)
            for key in by_age(cluster, cluster.late):
                yield tell(cluster, cluster.open[key], now)
            self._touched[cluster.name] = None

    def call(self, cluster: str, name: str, now: datetime) -> None:
        """What people call a cluster, where no heartbeat says it."""
        self._cluster(cluster, now).called = name
        self._touched[cluster] = None

    def wanted(self, now: datetime) -> Iterator[Wanted]:
        """What a model is to be asked about. It stays wanted until an Answer says what came of it."""
        for cluster in self._clusters.values():
            yield from wanted(cluster, now)

    def questions(self) -> Iterator[Wanted]:
        """What can be asked about open incidents, whether it is wanted or not."""
        for cluster in self._clusters.values():
            yield from questions(cluster)

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
            for incident in (*cluster.unheard.values(), *cluster.open.values()):
                yield view(cluster, incident.head, incident.group.members)
            for head in cluster.resolved.values() if resolved else ():
                yield view(cluster, head, ())

    def count(self) -> Counter[tuple[str, str]]:
        """How many are open, by cluster and severity: of all that there are, also where it is none."""
        found = Counter({(name, str(severity)): 0 for name in self._clusters for severity in Severity})
        for name, cluster in self._clusters.items():
            for incident in (*cluster.unheard.values(), *cluster.open.values()):
                found[name, str(incident.head.told.severity)] += 1
        return found

    def spared(self) -> int:
        """How many failures, so far, were over before their hold was."""
        return sum(cluster.failing.spared for cluster in self._clusters.values())

    def rows(self) -> dict[str, bytes | None]:
        """What has changed since this was last asked, to be written when the findings have arrived; None deletes."""
        changed = {key_of("", "silence", key): encoded(self._silences.get(key)) for key in self._silences.changed}
        self._silences.changed = set()
        if self._ticking.is_changed:
            changed[key_of("", "ticked")] = encoded(self._ticking.kept)
            self._ticking.is_changed = False
        for name in self._touched:
            changed |= changed_rows(self._clusters[name])
        self._touched.clear()
        return changed

    def forgotten(self) -> list[tuple[str, str]]:
        """Cluster and id of each incident that can be looked up no more, since this was last asked."""
        forgotten = self._forgotten.copy()
        self._forgotten.clear()
        return forgotten

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """As it was when those rows were written. Raises DecodeError, KeyError or ValueError for what is none."""
        found = by_cluster(rows)
        # Of all clusters, so that they come under the name of none.
        whole = found.pop("", {})
        self._silences.restore(msgspec.json.decode(value, type=Silence) for _, value in whole.get("silence", ()))
        heads: list[Head] = []
        for name, sorts in found.items():
            own = msgspec.json.decode(sorts["cluster"][0][1], type=ClusterRow)
            cluster = self._cluster(name, own.born)
            for head in restore(cluster, own, sorts):
                if self._fleet and name == FLEET:
                    heads.append(head)
                    continue
                group = silence_of(cluster, Silences(), head.told_at)
                cluster.unheard[head.id] = Incident(head, group, head.told_at)
                # An earlier version did not say so.
                cluster.is_stale, cluster.fell_at = True, cluster.fell_at or head.opened_at
        if self._fleet:
            self._fleet.restore(heads)
        if any(cluster.heartbeat_at for cluster in self._clusters.values()):
            ticked = whole.get("ticked")
            self._ticking.restore(msgspec.json.decode(ticked[0][1], type=Ticked) if ticked else None)

    def _cluster(self, name: str, born: datetime) -> Cluster:
        cluster = self._clusters.get(name)
        if cluster is None:
            failing = Failing(name, self._keep_open, self._holds, self._silences)
            cluster = Cluster(name, failing, born, self._labels)
            cluster.unexplained = {} if self._explain else None
            cluster.forgotten = self._forgotten
            # Whatever comes of all of them comes in one order, also after a restart.
            every = sorted([*self._clusters.items(), (name, cluster)])
            self._clusters.clear()
            self._clusters.update(every)
        return cluster

    def _silenced(self, turned: list[Matchers], now: datetime) -> Iterator[Finding]:
        """What begins and ends because silences do."""
        for cluster in self._clusters.values() if turned else ():
            cluster.failing.silence(turned, now)
            yield from regroup(cluster, now, at_once=True)
            if cluster.unheard and cluster.heartbeat_at:
                yield from retold(cluster, silence_of(cluster, self._silences, now), now)
            self._touched[cluster.name] = None
        if self._fleet and turned:
            yield from self._fleet.silenced(now)

    def _ticked(self, now: datetime) -> Iterator[Finding]:
        self._ticking.tick(now)
        for cluster in self._clusters.values():
            if listen(cluster, self._ticking.kept, now) and self._tells:
                yield fell_silent(cluster, silence_of(cluster, self._silences, now), now)
            yield from self._tick(cluster, now)
        if self._fleet:
            yield from self._fleet.tick(now)
        self._touched |= {name: None for name, cluster in self._clusters.items() if cluster.is_touched}

    def _tick(self, cluster: Cluster, now: datetime) -> Iterator[Finding]:
        if not cluster.is_stale:
            for incident in cluster.lost.values():
                yield end(cluster, incident, "recovered", now)
            cluster.lost = {}
            cluster.failing.advance(now)
            yield from regroup(cluster, now)
            yield from told_late(cluster, now)
        cluster.changes.forget(now)
        if self._repeat:
            yield from repeated(cluster, now, self._repeat)
        while cluster.resolved:
            oldest = next(iter(cluster.resolved.values())).resolved_at
            if oldest and now - oldest < LOOKED_BACK:
                break
            cluster.forget()
