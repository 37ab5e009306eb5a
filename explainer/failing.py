"""Which objects of one cluster fail: what is still within its hold, what counts, and what is over but kept for a while.

A failure counts from the end of its hold on. When it is seen no more it is kept open for some time, so that what comes
and goes is told once; what never counted is forgotten at once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from sys import intern

import msgspec

from explainer.correlation import Held, ahead, fingerprint, later, ref_order
from explainer.flapping import Flapping
from explainer.matchers import Matchers, fit
from explainer.neighbours import Neighbours
from explainer.silences import Silences, labels_of
from kubewhy.records import Failure, Inventory, Record, Ref, Report, Version, key_hash

# A report that comes twice or late comes within this time; so long the version of what recovered is remembered.
REMEMBERED = timedelta(minutes=10)
_NONE: dict[str, str] = {}
# What ends for good ends after its time, not at it: a failure may return in the very moment.
_MOMENT = timedelta(microseconds=1)

Key = tuple[str, str, str, int]  # rule, container, reason, and which of several alike


class Timed(msgspec.Struct):
    """One failure of one object, on the clock of `now`."""

    failure: Failure
    name: str  # its fingerprint
    first_seen: datetime
    opens: datetime
    fades: datetime | None
    counts: bool = False  # it has outlasted its hold
    ended: datetime | None = None  # since when it is seen no more
    silenced: bool = False


class Row(Record, frozen=True, kw_only=True):
    """What is kept of one object across restarts."""

    report: Report  # without its failures
    timed: list[tuple[Key, Timed]] = []
    deleted: bool = False
    forget: datetime | None = None  # it is well, and its version remembered until then


@dataclass(slots=True)
class _Object:
    report: Report
    hash: int
    timed: dict[Key, Timed] = field(default_factory=dict)
    open: tuple[Failure, ...] = ()
    due: datetime | None = None
    deleted: bool = False
    forget: datetime | None = None


class Failing:
    """The failing objects of one cluster. One that was never told of leaves nothing here when it is well."""

    def __init__(
        self, cluster: str, keep: timedelta, holds: Mapping[str, timedelta], silences: Silences | None = None
    ) -> None:
        self._cluster, self._holds = cluster, holds
        self._silences = silences or Silences()
        self._term = -1
        self._objects: dict[Ref, _Object] = {}
        self._due: list[tuple[datetime, int, Ref]] = []
        self._nothing_ends_before: datetime | None = None
        self._namespaces: dict[str | None, dict[str, str]] = {}  # the labels of each, as last told
        self.flapping = Flapping(keep)
        self.neighbours = Neighbours()
        # Objects whose failures began to count, changed or ended, and what they name or named.
        self.touched: dict[Ref, frozenset[Ref]] = {}
        self.reworded: list[tuple[Ref, Failure, Failure]] = []  # the same, in other words or of another time
        self.changed: set[Ref] = set()  # objects whose row is to be written

    def current(self, version: Version) -> bool:
        """False for what a collector says that is no longer the active one."""
        self._term = max(self._term, version.term)
        return version.term == self._term

    @property
    def term(self) -> int:
        return self._term

    def held(self, refs: Iterable[Ref]) -> list[Held]:
        """The failures of these objects that count."""
        found = (self._objects[ref] for ref in refs)
        return [(each.report, failure) for each in found for failure in each.open]

    def is_silenced(self, ref: Ref, failure: Failure) -> bool:
        """Whether nobody wants to hear of it."""
        known = self._objects.get(ref)
        return known is not None and any(each.failure is failure and each.silenced for each in known.timed.values())

    def silence(self, turned: Sequence[Matchers], now: datetime) -> None:
        """Finds out anew what of that nobody wants to hear of."""
        found = [known for known in self._objects.values() if self._fit(known, turned)]
        for known in sorted(found, key=lambda each: ref_order(each.report.ref)):
            self._count(known, now)

    def _fit(self, known: _Object, turned: Sequence[Matchers]) -> bool:
        every = (labels_of(self._cluster, known.report, failure) for failure in known.open)
        return any(fit(matchers, labels) for labels in every for matchers in turned)

    def told_of(self, ref: Ref) -> Report | None:
        """What was last reported of an object, without its failures."""
        known = self._objects.get(ref)
        return known.report if known else None

    def ignoring(self) -> Iterator[Report]:
        """The objects that fail and say, or whose namespaces say, that they are to be ignored."""
        every = (known.report for known in self._objects.values() if known.open)
        return (report for report in every if report.ignore or report.namespace_ignore)

    def is_deleted(self, ref: Ref) -> bool:
        """Whether it, and the workload that it belongs to, were last heard of as deleted."""
        known = self._objects.get(ref)
        if known is None or not known.deleted:
            return False
        workload = self._objects.get(known.report.root)
        return workload is not None and workload.deleted

    def is_over(self, ref: Ref, failure: Failure) -> bool:
        """Whether it is seen no more, and only kept for a while."""
        known = self._objects.get(ref)
        return known is not None and any(each.failure is failure and each.ended for each in known.timed.values())

    def report(self, report: Report, now: datetime) -> None:
        """Takes what is now held against one object. A repeat does no harm; an older one is dropped."""
        known = self._objects.get(report.ref)
        if known is None:
            # That a workload is gone matters where its pods are told of.
            if not report.failures and not (report.gone and self.neighbours.is_named(report.ref)):
                return
            report = msgspec.structs.replace(report, ref=_interned(report.ref), root=_interned(report.root))
            known = self._objects[report.ref] = _Object(report, key_hash(report.ref.namespace, report.ref.name))
        elif report.version < known.report.version:
            return
        if not (known.timed or report.failures or known.deleted != report.gone):
            return
        self._take(known, report, () if report.gone else report.failures, now)

    def inventory(self, inventory: Inventory, now: datetime) -> None:
        """Whatever fails, or is named by what fails, is in range, older, and not listed, has been deleted."""
        listed = set(inventory.hashes)
        gone = [ref for ref in self.neighbours.every_name() if self._is_missing(ref, inventory, listed)]
        for ref in sorted(gone, key=ref_order):
            known = self._objects.get(ref)
            root = known.report.root if known else ref
            report = Report(
                cluster=self._cluster, version=inventory.version, ref=ref, root=root, observed_at=now, gone=True
            )
            self.report(report, now)

    def _is_missing(self, ref: Ref, inventory: Inventory, listed: set[int]) -> bool:
        known = self._objects.get(ref)
        hash_ = known.hash if known else key_hash(ref.namespace, ref.name)
        return (
            (ref.kind, ref.group) == (inventory.kind, inventory.group)
            and (not inventory.namespaces or ref.namespace in inventory.namespaces)
            and inventory.low <= hash_ < inventory.high
            and (known is None or known.report.version < inventory.version)
            and hash_ not in listed
        )

    def advance(self, now: datetime) -> None:
        """Lets count what has outlasted its hold, and ends what has faded or was kept for long enough."""
        while self._due and self._due[0][0] <= now:
            when, _, ref = heappop(self._due)
            known = self._objects.get(ref)
            if known and known.due == when:
                known.due = None
                self._judge(known, now)
        self.flapping.forget(now)

    def let_go(self, now: datetime) -> None:
        """Ends what is over and kept for a while."""
        over = [known for known in self._objects.values() if any(each.ended for each in known.timed.values())]
        for known in sorted(over, key=lambda each: ref_order(each.report.ref)):
            self._judge(known, now, keeps=False)

    def let_nothing_end_before(self, when: datetime) -> None:
        """After a silence, until there was time to say what is still so."""
        self._nothing_ends_before = when

    def row(self, ref: Ref) -> Row | None:
        """What is to be kept of an object; None where nothing is."""
        known = self._objects.get(ref)
        if known is None:
            return None
        return Row(report=known.report, timed=list(known.timed.items()), deleted=known.deleted, forget=known.forget)

    def restore(self, term: int, rows: Iterable[Row]) -> None:
        """As it was when those rows were written. The flaps come after."""
        self._term = term
        for row in rows:
            ref = row.report.ref
            known = _Object(row.report, key_hash(ref.namespace, ref.name), dict(row.timed), deleted=row.deleted)
            known.forget = row.forget
            self._objects[ref] = known
            known.open = tuple(each.failure for each in known.timed.values() if each.counts)
            self.neighbours.set(known.report, known.open)
            self._schedule(known)

    def active(self) -> Counter[str]:
        """How many objects show each failure now, by fingerprint."""
        every = (timed for known in self._objects.values() for timed in known.timed.values())
        return Counter(each.name for each in every if each.counts and each.ended is None)

    def _take(self, known: _Object, report: Report, failures: tuple[Failure, ...], now: datetime) -> None:
        before = known.timed
        if known.deleted != report.gone:
            self.changed.add(report.ref)
        kept = self._kept(report, known.report)
        if not _alike(kept, known.report):
            self.changed.add(report.ref)
        known.report = kept
        known.forget, known.deleted = None, report.gone
        known.timed = dict(self._timed(report, failures, before, now))
        for key, each in before.items():
            if key in known.timed:
                continue
            if report.broken:
                # A rule that raised says nothing, so what was said before stays.
                known.timed[key] = each
            elif each.counts:
                known.timed[key] = each
                self._end(known, each, now)
        if known.timed.keys() != before.keys() or any(before[key] is not each for key, each in known.timed.items()):
            self.changed.add(report.ref)
        self._judge(known, now)

    def _kept(self, report: Report, before: Report) -> Report:
        """What is to be known of it, with what many have in common. Where nothing fails the labels stay as they were,
        for what is over and kept for a while."""
        told = report if report.failures else before
        namespace = told.namespace_labels or _NONE
        shared = self._namespaces.get(report.ref.namespace)
        if shared != namespace:
            shared = self._namespaces[report.ref.namespace] = namespace
        return msgspec.structs.replace(
            report,
            cluster=self._cluster,
            ref=before.ref,
            root=before.root if before.root == report.root else _interned(report.root),
            failures=(),
            broken=(),
            checked=(),
            labels=told.labels or _NONE,
            namespace_labels=shared,
            ignore=told.ignore,
            namespace_ignore=told.namespace_ignore,
        )

    def _timed(
        self, report: Report, failures: tuple[Failure, ...], before: Mapping[Key, Timed], now: datetime
    ) -> Iterator[tuple[Key, Timed]]:
        """The failures with their times on the clock of `now`: the API server's differs, so only ages cross."""
        behind = now - report.observed_at
        alike: Counter[tuple[str, str, str]] = Counter()
        for failure in failures:
            kind = (failure.rule, failure.container, failure.reason)
            key = (*kind, alike[kind])
            alike[kind] += 1
            told = before.get(key)
            since = later(failure.since, behind) if failure.since else None
            if since and not ahead(since, now):
                since = min(since, now)
            first_seen = told.first_seen if told else now
            hold = self._holds.get(failure.rule)
            if hold is None:
                opens = later(since or first_seen, timedelta(seconds=failure.hold))
            else:
                # Rules know how their own hold goes with a later onset, as of each crash of a loop. Others do not.
                opens = later(min(since, first_seen) if since else first_seen, hold)
                opens = min(opens, told.opens) if told and not (since and since > now) else opens
            fades = later(failure.until, behind) if failure.until else None
            name = fingerprint(self._cluster, report, failure)
            if fades and fades <= now:
                continue
            if told is None:
                yield key, Timed(_shared(failure), name, first_seen, opens, fades)
                continue
            if told.counts and since and since > now:
                continue  # a deadline that was moved ahead has not come
            yield key, self._again(told, failure, name, opens, fades, now)

    def _again(
        self, told: Timed, failure: Failure, name: str, opens: datetime, fades: datetime | None, now: datetime
    ) -> Timed:
        """Seen again. A later onset, as each crash of a loop is, does not end what has counted all along."""
        moved = name != told.name
        if told.counts and told.ended is None and moved:
            self.flapping.ended(told.name, now)
        if told.counts and (told.ended is not None or moved):
            self.flapping.began(name, now)
        if failure == told.failure and not moved and told.ended is None:
            return told
        opens = min(opens, told.opens) if told.counts else opens
        return Timed(_shared(failure), name, told.first_seen, opens, fades, counts=told.counts, silenced=told.silenced)

    def _end(self, known: _Object, each: Timed, now: datetime) -> None:
        if each.ended is None:
            each.ended = now
            self.flapping.ended(each.name, now)
            self.changed.add(known.report.ref)

    def _judge(self, known: _Object, now: datetime, *, keeps: bool = True) -> None:
        """What of it counts at this moment. Unless it `keeps`, what is over does not."""
        may_end = self._nothing_ends_before is None or now >= self._nothing_ends_before
        for key, each in list(known.timed.items()):
            if not each.counts and each.opens <= now and (each.fades is None or now < each.fades):
                each.counts = True
                self.flapping.began(each.name, now)
                self.changed.add(known.report.ref)
            if each.ended is None and each.fades and each.fades <= now and may_end:
                self.changed.add(known.report.ref)
                if each.counts:
                    self._end(known, each, now)
                else:
                    del known.timed[key]
            keep = self.flapping.keep_open(each.name) if keeps else timedelta(0)
            if each.ended is not None and may_end and (now > each.ended + keep or not keep):
                self.changed.add(known.report.ref)
                del known.timed[key]
        self._count(known, now)
        if known.timed:
            known.forget = None
        elif known.forget is None:
            known.forget = now + REMEMBERED
            self.changed.add(known.report.ref)
        elif known.forget <= now:
            del self._objects[known.report.ref]
            self.changed.add(known.report.ref)
            return
        self._schedule(known)

    def _count(self, known: _Object, now: datetime) -> None:
        counting = [each for each in known.timed.values() if each.counts]
        turned = self._silence(known, counting, now)
        before, known.open = known.open, tuple(each.failure for each in counting)
        ref = known.report.ref
        if turned or [_nature(each) for each in before] != [_nature(each) for each in known.open]:
            names = self.touched.get(ref, frozenset()) | self.neighbours.names(ref)
            self.neighbours.set(known.report, known.open)
            self.touched[ref] = names | self.neighbours.names(ref)
        else:
            pairs = zip(before, known.open, strict=True)
            self.reworded += [(ref, old, new) for old, new in pairs if old is not new]

    def _silence(self, known: _Object, counting: Iterable[Timed], now: datetime) -> bool:
        """Whether that changes for any. What is over stays as it is: nobody hears of it when a silence ends."""
        turned = False
        for each in counting:
            if each.ended is not None:
                continue
            silenced = self._silences.silence(self._cluster, known.report, each.failure, now)
            if silenced != each.silenced:
                each.silenced, turned = silenced, True
        if turned:
            self.changed.add(known.report.ref)
        return turned

    def _schedule(self, known: _Object) -> None:
        due = min((when for each in known.timed.values() if (when := self._next(each))), default=known.forget)
        if due and (known.due is None or due < known.due):
            known.due = due
            # What is due in one moment must keep its order across restarts: that gives incidents their ids.
            heappush(self._due, (due, known.hash, known.report.ref))

    def _next(self, each: Timed) -> datetime | None:
        """When it next changes by itself."""
        if not each.counts:
            return each.opens
        end = each.fades if each.ended is None else later(each.ended + self.flapping.keep_open(each.name), _MOMENT)
        return max(end, self._nothing_ends_before) if end and self._nothing_ends_before else end


def _shared(failure: Failure) -> Failure:
    """The same, with strings that all failures of its rule have in common, for there may be many."""
    return msgspec.structs.replace(
        failure, rule=intern(failure.rule), title=intern(failure.title), docs=intern(failure.docs)
    )


def _interned(ref: Ref) -> Ref:
    namespace = ref.namespace and intern(ref.namespace)
    return Ref(intern(ref.kind), ref.name, namespace, intern(ref.group))


def _alike(report: Report, other: Report) -> bool:
    """Whether silences and routes see no difference."""
    return (report.labels, report.namespace_labels, report.ignore, report.namespace_ignore) == (
        other.labels,
        other.namespace_labels,
        other.ignore,
        other.namespace_ignore,
    )


def _nature(failure: Failure) -> tuple[object, ...]:
    """What of a failure decides where it belongs; its words and times do not."""
    return (failure.rule, failure.container, failure.reason, failure.severity, failure.cause, failure.symptom)
