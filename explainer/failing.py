"""Which objects of one cluster fail: what is still within its hold, what counts, and what is over but kept for a while.

A failure counts from the end of its hold on. When it is seen no more it is kept open for some time, so that what comes
and goes is told once; what never counted is forgotten at once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush

from explainer.correlation import Held, ref_order
from explainer.flapping import Flapping
from explainer.known import Keeping, Known, Row, Shown, alike
from explainer.matchers import Matchers, fit
from explainer.neighbours import Neighbours
from explainer.silences import Silences, labels_of
from explainer.timed import Timed, Timing
from kubewhy.records import Failure, Inventory, Ref, Report, Version, key_hash

# A report that comes twice or late comes within this time; so long the version of what recovered is remembered.
REMEMBERED = timedelta(minutes=10)


class Failing:
    """The failing objects of one cluster. One that was never told of leaves nothing here when it is well."""

    def __init__(
        self, cluster: str, keep: timedelta, holds: Mapping[str, timedelta], silences: Silences | None = None
    ) -> None:
        self._cluster = cluster
        self._silences = silences or Silences()
        self._term = -1
        self._objects: dict[Ref, Known] = {}
        self._due: list[tuple[datetime, int, Ref]] = []
        self._caught_up: datetime | None = None  # with a silence
        self._keeping = Keeping(cluster)
        self.flapping = Flapping(keep)
        self._timing = Timing(cluster, holds, self.flapping, self._is_alone)
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

    @property
    def spared(self) -> int:
        """How many failures, so far, were over before their hold was."""
        return self._timing.spared

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

    def _fit(self, known: Known, turned: Sequence[Matchers]) -> bool:
        every = (labels_of(self._cluster, known.report, failure) for failure in known.open)
        return any(fit(matchers, labels) for labels in every for matchers in turned)

    def told_of(self, ref: Ref) -> Report | None:
        """What was last reported of an object, without its failures."""
        known = self._objects.get(ref)
        return known.report if known else None

    def shown(self, ref: Ref) -> Shown:
        """What was last seen of a failing object."""
        known = self._objects.get(ref)
        return Shown.of(known.shown) if known else Shown()

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
            known = Known.of(report)
            self._objects[known.report.ref] = known
        elif report.version < known.report.version:
            return
        if not (known.timed or report.failures or known.deleted != report.gone):
            return
        self._take(known, known.recognized(report), () if report.gone else report.failures, now)

    def inventory(self, inventory: Inventory, now: datetime) -> None:
        """Whatever fails, or is named by what fails, is in range, older, and not listed, has been deleted."""
        listed = set(inventory.hashes)
        gone = [ref for ref in self.neighbours.every_name() if self._is_missing(ref, inventory, listed)]
        for ref in sorted(gone, key=ref_order):
            version = inventory.version
            self.report(
                Report(cluster=self._cluster, version=version, ref=ref, root=ref, observed_at=now, gone=True), now
            )

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
        """Ends what is over and kept for a while, for nothing more is said."""
        over = [known for known in self._objects.values() if any(each.ended for each in known.timed.values())]
        for known in sorted(over, key=lambda each: ref_order(each.report.ref)):
            self._judge(known, now, keeps=False)

    def catch_up(self, until: datetime) -> None:
        """After a silence nothing ends, and nothing begins that was seen before, until there was time to say what is
        still so."""
        self._caught_up = until

    def row(self, ref: Ref) -> Row | None:
        """What is to be kept of an object; None where nothing is."""
        known = self._objects.get(ref)
        return known.row() if known else None

    def restore(self, term: int, rows: Iterable[Row]) -> None:
        """As it was when those rows were written. The flaps come after."""
        self._term = term
        for row in rows:
            known = self._objects[row.report.ref] = Known.again(row)
            self.neighbours.set(known.report, known.open)
            self._schedule(known)

    def active(self) -> Counter[str]:
        """How many objects show each failure now, by fingerprint."""
        every = (timed for known in self._objects.values() for timed in known.timed.values())
        return Counter(each.name for each in every if each.counts and each.ended is None)

    def _take(self, known: Known, report: Report, failures: tuple[Failure, ...], now: datetime) -> None:
        before = known.timed
        kept = self._keeping.kept(report, known.report)
        known.timed = self._timing.taken(report, failures, before, now)
        shown = Shown(report.seen, report.names).packed(known.shown) if report.failures else known.shown
        if (
            known.shown != shown
            or known.deleted != report.gone
            or not alike(kept, known.report)
            or known.timed.keys() != before.keys()
            or any(before[key] is not each for key, each in known.timed.items())
        ):
            self.changed.add(report.ref)
        known.report, known.forget, known.deleted, known.shown = kept, None, report.gone, shown
        self._judge(known, now, reported=True)

    def _is_alone(self, report: Report, failure: Failure) -> bool:
        """Whether nothing else fails now that hangs together with it."""
        names = [report.ref, report.root, *([failure.cause] if failure.cause else ())]
        near = (self._objects[ref] for refs in self.neighbours.connected(names) for ref in refs)
        return not any(each.counts and each.ended is None for known in near for each in known.timed.values())

    def _judge(self, known: Known, now: datetime, *, reported: bool = False, keeps: bool = True) -> None:
        """What of it counts at this moment. Unless it `keeps`, what is over does not."""
        timing, timed, caught_up = self._timing, known.timed, self._caught_up if keeps else None
        if timing.turn(known.report, timed, now, caught_up=caught_up, reported=reported, keeps=keeps):
            self.changed.add(known.report.ref)
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

    def _count(self, known: Known, now: datetime) -> None:
        counting = list(known.counting())
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

    def _silence(self, known: Known, counting: Iterable[Timed], now: datetime) -> bool:
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

    def _schedule(self, known: Known) -> None:
        every = (self._timing.next_turn(each, self._caught_up) for each in known.timed.values())
        due = min((when for when in every if when), default=known.forget)
        if due and (known.due is None or due < known.due):
            known.due = due
            # What is due in one moment must keep its order across restarts: that gives incidents their ids.
            heappush(self._due, (due, known.hash, known.report.ref))


def _nature(failure: Failure) -> tuple[object, ...]:
    """What of a failure decides where it belongs; its words and times do not."""
    return (failure.rule, failure.container, failure.reason, failure.severity, failure.cause, failure.symptom)
