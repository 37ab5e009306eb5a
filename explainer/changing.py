"""What was changed in the objects of one cluster, for as long as it may be why something fails. Pure.

Collectors state what they know of it again, but after a restart know less: so it is kept in rows too.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import msgspec

from explainer.correlation import SKEW, interned, later
from kubewhy.records import Change, Record, Ref, Report, Sort

# A change counts so long before the onset of what it may have brought about, which may be held back for an hour.
BEFORE = timedelta(minutes=30)
KEPT = BEFORE + timedelta(hours=1)
# What is said of one object within this time is said of the same change.
_AT_ONCE = timedelta(seconds=10)
_VAGUE = (Sort.SPECIFICATION, Sort.WRITTEN)
_OF_AN_OBJECT, _OBJECTS = 4, 10_000


class ChangesRow(Record, frozen=True, kw_only=True):
    """What is kept of one object across restarts."""

    changes: tuple[Change, ...]
    until: datetime


class Changes:
    """The last changes of each object, the newest first."""

    def __init__(self) -> None:
        self._kept: dict[Ref, ChangesRow] = {}  # roughly in the order in which they are forgotten
        self.changed: set[Ref] = set()  # objects whose row is to be written

    def take(self, report: Report, now: datetime) -> list[Ref]:
        """The objects of which something new is known by this report."""
        news = []
        for change in report.changes:
            left = min(KEPT - (report.observed_at - change.at), KEPT)
            row = self._kept.get(change.object)
            known = row.changes if row else ()
            if left <= timedelta(0) or change in known or any(_says_as_much(each, change) for each in known):
                continue
            change = msgspec.structs.replace(change, object=interned(change.object, report.root))
            better = [change, *(each for each in known if not _says_as_much(change, each))]
            newest = tuple(sorted(better, key=lambda each: each.at, reverse=True)[:_OF_AN_OBJECT])
            self._kept.pop(change.object, None)
            self._kept[change.object] = ChangesRow(changes=newest, until=max(now + left, row.until if row else now))
            self.changed.add(change.object)
            news.append(change.object)
        while len(self._kept) > _OBJECTS:
            self._forget(next(iter(self._kept)))
        return news

    def before(self, onset: datetime, refs: Iterable[Ref]) -> Iterator[Change]:
        """What may have brought about what began then in these objects."""
        for ref in refs if self._kept else ():
            row = self._kept.get(ref)
            for each in row.changes if row else ():
                if later(onset, -BEFORE) <= each.at <= later(onset, SKEW):
                    yield each

    def forget(self, now: datetime) -> None:
        """Drops what matters no more."""
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._forget(next(iter(self._kept)))

    def row(self, ref: Ref) -> ChangesRow | None:
        """What is to be kept of an object; None where nothing is."""
        return self._kept.get(ref)

    def restore(self, rows: Iterable[ChangesRow]) -> None:
        """As it was when those rows were written."""
        for row in sorted(rows, key=lambda row: row.until):
            self._kept[row.changes[0].object] = row

    def _forget(self, ref: Ref) -> None:
        del self._kept[ref]
        self.changed.add(ref)


def _says_as_much(one: Change, other: Change) -> bool:
    """Whether the other is the same change, and tells no more."""
    return abs(one.at - other.at) <= _AT_ONCE and (one.what == other.what or (other.sort in _VAGUE and one != other))
