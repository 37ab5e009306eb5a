"""Which objects of one cluster fail now, what of it is still within its hold, and what fades when."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush

from explainer.correlation import Held, ahead, later
from kubewhy.records import Failure, Inventory, Ref, Report, Version, key_hash

# A report that comes twice or late comes within this time; so long the version of what recovered is remembered.
REMEMBERED = timedelta(minutes=10)

Key = tuple[str, str, str, int]  # rule, container, reason, and which of several alike


@dataclass
class _Timed:
    failure: Failure
    first_seen: datetime
    opens: datetime
    fades: datetime | None

    def open(self, now: datetime) -> bool:
        return self.opens <= now and (self.fades is None or now < self.fades)

    def next(self, now: datetime) -> datetime | None:
        """When this next changes by itself."""
        if now < self.opens:
            return self.opens
        return self.fades if self.fades and now < self.fades else None


@dataclass
class _Object:
    report: Report
    hash: int
    timed: dict[Key, _Timed] = field(default_factory=dict)
    open: tuple[Failure, ...] = ()
    due: datetime | None = None


class Failing:
    """The failing objects of one cluster. A healthy object that did not fail before leaves nothing here."""

    def __init__(self) -> None:
        self._term = -1
        self._objects: dict[Ref, _Object] = {}
        self._recovered: dict[Ref, tuple[Version, datetime]] = {}  # oldest first
        self._due: list[tuple[datetime, int, Ref]] = []
        self._scheduled = 0
        self.count = 0  # open failures
        self.changed = False  # which failures are open has changed since `settled`
        self.deleted: set[Ref] = set()  # since `settled`

    def current(self, version: Version) -> bool:
        """False for what a collector says that is no longer the active one."""
        self._term = max(self._term, version.term)
        return version.term == self._term

    def held(self) -> Iterator[Held]:
        """The open failures."""
        return ((each.report, failure) for each in self._objects.values() for failure in each.open)

    def settled(self) -> None:
        """The change has been taken notice of."""
        self.changed = False
        self.deleted = set()

    def version(self, ref: Ref) -> Version:
        """The version of what is held against a failing object."""
        return self._objects[ref].report.version

    def report(self, report: Report, now: datetime) -> None:
        """Takes what is now held against one object. A repeat does no harm; an older one is dropped."""
        known = self._objects.get(report.ref)
        if known is None:
            old = self._recovered.get(report.ref)
            if report.gone or not report.failures or (old and report.version < old[0]):
                return
            known = self._objects[report.ref] = _Object(report, key_hash(report.ref.namespace, report.ref.name))
        elif report.version < known.report.version:
            return
        if report.gone:
            self._drop(known, report.version, now, deleted=True)
            return
        self.deleted.discard(report.ref)
        timed = _timed(report, known.timed, now)
        if not timed:
            self._drop(known, report.version, now)
            return
        known.report, known.timed = report, timed
        self._judge(known, now)

    def inventory(self, inventory: Inventory, now: datetime) -> None:
        """Whatever fails, is in range, older, and not listed, has been deleted."""
        listed = set(inventory.hashes)
        for each in list(self._objects.values()):
            ref = each.report.ref
            if (
                (ref.kind, ref.group) == (inventory.kind, inventory.group)
                and (not inventory.namespaces or ref.namespace in inventory.namespaces)
                and inventory.low <= each.hash < inventory.high
                and each.report.version < inventory.version
                and each.hash not in listed
            ):
                self._drop(each, inventory.version, now, deleted=True)

    def advance(self, now: datetime) -> None:
        """Opens what has outlasted its hold, and ends what has faded."""
        while self._due and self._due[0][0] <= now:
            when, _, ref = heappop(self._due)
            known = self._objects.get(ref)
            if known and known.due == when:
                known.due = None
                self._judge(known, now)
        for ref, (_, when) in list(self._recovered.items()):
            if now - when < REMEMBERED:
                break
            del self._recovered[ref]

    def _judge(self, known: _Object, now: datetime) -> None:
        self._set(known, tuple(each.failure for each in known.timed.values() if each.open(now)))
        due = min((when for each in known.timed.values() if (when := each.next(now))), default=None)
        if due and (known.due is None or due < known.due):
            known.due = due
            self._scheduled += 1
            heappush(self._due, (due, self._scheduled, known.report.ref))

    def _set(self, known: _Object, failures: tuple[Failure, ...]) -> None:
        self.changed |= [_nature(each) for each in known.open] != [_nature(each) for each in failures]
        self.count += len(failures) - len(known.open)
        known.open = failures

    def _drop(self, known: _Object, version: Version, now: datetime, *, deleted: bool = False) -> None:
        ref = known.report.ref
        self._set(known, ())
        del self._objects[ref]
        self._recovered.pop(ref, None)
        self._recovered[ref] = (version, now)
        if deleted:
            self.deleted.add(ref)


def _timed(report: Report, before: dict[Key, _Timed], now: datetime) -> dict[Key, _Timed]:
    """The report's failures, with their times on the clock of `now`: the API server's differs, so only ages cross."""
    behind = now - report.observed_at
    timed: dict[Key, _Timed] = {}
    alike: Counter[tuple[str, str, str]] = Counter()
    for failure in report.failures:
        name = (failure.rule, failure.container, failure.reason)
        key = (*name, alike[name])
        alike[name] += 1
        told = before.get(key)
        since = later(failure.since, behind) if failure.since else None
        if since and not ahead(since, now):
            since = min(since, now)
        first_seen = told.first_seen if told else now
        opens = later(since or first_seen, timedelta(seconds=failure.hold))
        if told and told.open(now) and (since is None or since <= now):
            # A later onset, as each crash of a loop is, does not end what was open all along.
            opens = min(opens, told.opens)
        timed[key] = _Timed(failure, first_seen, opens, later(failure.until, behind) if failure.until else None)
    if report.broken:
        # A rule that raised says nothing, so what was said before stays.
        timed |= {key: each for key, each in before.items() if key not in timed}
    return timed


def _nature(failure: Failure) -> tuple[object, ...]:
    """What of a failure decides where it belongs; its words and times do not."""
    return (failure.rule, failure.container, failure.reason, failure.severity, failure.cause, failure.symptom)
