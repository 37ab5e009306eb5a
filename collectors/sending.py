"""What is to be sent, and when: what changed, at a bounded rate an object, and all again in half an hour. Pure.

Only keys wait here: evidence is gathered when it is sent, so the newest wins and an absent broker costs no memory.
"""

from collections import OrderedDict
from collections.abc import Iterator

from collectors.index import Key
from kubewhy.records import key_hash

MOST = 500  # are sent before anything else is looked after
BURST = 3
PER_SECOND = 1.0
RESTATE_SECONDS = 1800
RESTATE_PER_SECOND = 500
_CROWDED = 2000  # buckets


class Outbox:
    """Times are seconds of any steady clock, given by the caller. All is said again in so many of them."""

    def __init__(self, now: float, restate: int = RESTATE_SECONDS) -> None:
        self._round = restate
        self._dirty: OrderedDict[Key, None] = OrderedDict()
        self._late: dict[Key, float] = {}  # has used its burst: when it may speak again
        self._tokens: dict[Key, tuple[float, float]] = {}  # how many, and as of when
        self._crowded = _CROWDED
        self._sent: dict[Key, int] = {}  # the hash last acknowledged
        self._slots: dict[int, set[Key]] = {}
        self._restate: OrderedDict[Key, None] = OrderedDict()
        self._second = int(now)
        self._turn_at, self._turns = now, 0.0  # how many may be stated again, as of when

    def __len__(self) -> int:
        """How many are waiting to be sent because they changed."""
        return len(self._dirty) + len(self._late)

    def touch(self, key: Key) -> None:
        """It, or what it depends on, has changed."""
        if key not in self._late:
            self._dirty[key] = None

    def due(self, now: float, most: int = MOST) -> Iterator[tuple[Key, bool]]:
        """Which to send now, live changes first; true with those to be stated again even if unchanged."""
        for key in [key for key, when in self._late.items() if when <= now]:
            del self._late[key]
            self._dirty[key] = None
        while self._dirty and most:
            key, _ = self._dirty.popitem(last=False)
            wait = self._spend(key, now)
            if wait:
                self._late[key] = now + wait
                continue
            most -= 1
            again = key in self._restate
            self._restate.pop(key, None)
            yield key, again
        self._turn(now)
        self._turns = min(RESTATE_PER_SECOND, self._turns + (now - self._turn_at) * RESTATE_PER_SECOND)
        self._turn_at = now
        while self._restate and most and self._turns >= 1:
            key, _ = self._restate.popitem(last=False)
            most -= 1
            self._turns -= 1
            yield key, True

    def next_due(self, now: float) -> float | None:
        """Seconds until something may be sent; None when nothing waits but the next re-statement."""
        if self._dirty:
            return 0.0
        if self._restate:
            return 1 / RESTATE_PER_SECOND if self._turns < 1 else 0.0
        return max(0.0, min(self._late.values()) - now) if self._late else None

    def is_new(self, key: Key, told: int | None) -> bool:
        """Whether that content differs from what was last acknowledged. What nobody was told of need not be gone."""
        return self._sent.get(key) != told

    def acknowledged(self, key: Key, told: int | None) -> None:
        """It has arrived; `told` is None for an object that is gone."""
        slot = key_hash(key.namespace, key.name) % self._round
        if told is None:
            self._sent.pop(key, None)
            self._restate.pop(key, None)
            self._slots.get(slot, set()).discard(key)
        else:
            self._sent[key] = told
            self._slots.setdefault(slot, set()).add(key)

    def lost(self, key: Key) -> None:
        """What was acknowledged of it has not arrived after all."""
        self._sent.pop(key, None)
        self.touch(key)

    def _spend(self, key: Key, now: float) -> float:
        """Takes a token; how long to wait where there is none."""
        left, at = self._tokens.get(key, (float(BURST), now))
        left = min(BURST, left + (now - at) * PER_SECOND)
        if left < 1:
            return (1 - left) / PER_SECOND
        self._tokens[key] = (left - 1, now)
        if len(self._tokens) > self._crowded:
            self._forget_full(now)
        return 0.0

    def _forget_full(self, now: float) -> None:
        """A full bucket is as good as none."""
        waiting = {
            key: (left, at) for key, (left, at) in self._tokens.items() if left + (now - at) * PER_SECOND < BURST
        }
        self._tokens = waiting
        self._crowded = max(_CROWDED, 2 * len(waiting))  # else many at once would be gone through for each of them

    def _turn(self, now: float) -> None:
        """Puts those whose turn has come on the list to be stated again."""
        first = max(self._second, int(now) - self._round)
        for second in range(first, int(now)):
            for key in self._slots.get(second % self._round, ()):
                self._restate[key] = None
        self._second = int(now)
