"""How often each failure has come and gone, so that one that flaps is kept open for longer. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec

# What stays well, or stays broken, for so long has stopped flapping.
REMEMBERED = timedelta(hours=1)
LONGEST = timedelta(minutes=30)


class Flaps(msgspec.Struct, frozen=True):
    """How often one failure came back, and since when it is as it is."""

    count: int
    since: datetime


class Flapping:
    """By fingerprint. `changed` holds those whose row is to be written."""

    def __init__(self, keep: timedelta) -> None:
        self._keep = keep
        self._active: Counter[str] = Counter()  # how many objects show it
        self._flaps: dict[str, Flaps] = {}
        self._quiet: dict[str, None] = {}  # shown by none, the longest ago first
        self.changed: set[str] = set()

    def keep_open(self, name: str) -> timedelta:
        """How long after it was last seen it still counts."""
        flaps = self._flaps.get(name)
        return min(self._keep * 2 ** min(flaps.count, 16), max(LONGEST, self._keep)) if flaps else self._keep

    def began(self, name: str, now: datetime, is_alone: Callable[[], bool]) -> None:
        """One more object shows it. It comes back where it `is_alone`: what fails amid an open incident has not been
        away."""
        self._active[name] += 1
        if self._active[name] > 1:
            return
        before = self._flaps.get(name)
        self._quiet.pop(name, None)
        self._put(name, Flaps(before.count + is_alone() if before else 0, now))

    def ended(self, name: str, now: datetime) -> None:
        """One object less shows it."""
        self._active[name] -= 1
        if self._active[name] > 0:
            return
        del self._active[name]
        before = self._flaps[name]
        self._quiet[name] = None
        self._put(name, Flaps(0 if now - before.since >= REMEMBERED else before.count, now))

    def forget(self, now: datetime) -> None:
        """What has been well for long enough."""
        while self._quiet:
            name = next(iter(self._quiet))
            if now - self._flaps[name].since < REMEMBERED:
                return
            del self._quiet[name], self._flaps[name]
            self.changed.add(name)

    def row(self, name: str) -> Flaps | None:
        """What is to be kept of it."""
        return self._flaps.get(name)

    def restore(self, rows: Iterator[tuple[str, Flaps]], active: Counter[str]) -> None:
        """As it was when those rows were written, and so many objects showed each."""
        self._flaps = dict(rows)
        self._active = active
        quiet = (name for name in self._flaps if not active[name])
        self._quiet = dict.fromkeys(sorted(quiet, key=lambda name: self._flaps[name].since))

    def _put(self, name: str, flaps: Flaps) -> None:
        self._flaps[name] = flaps
        self.changed.add(name)
