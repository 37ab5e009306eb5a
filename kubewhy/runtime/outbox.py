"""What waits for one sink, what it remembers and what it refused: rows of the state, all of which survive a restart."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from kubewhy.contracts import Letter, Manner, State
from kubewhy.errors import ConfigError
from kubewhy.records import Finding, encode
from kubewhy.runtime.queueing import Batch, Waiting, next_batch

# Each begins the keys of rows, before the name of the sink.
OUTBOX = "outbox\x1f"  # what waits, by position
QUEUED = "queued\x1f"  # the position given last
CUT = "cut\x1f"  # up to which position a span goes that may have arrived
MEMO = "memo\x1f"
DEAD = "dead\x1f"  # what the sink refused for good, and why
RETRY = "retry\x1f"  # what of that is to be given to it once more


class Guarded:
    """A state that remembers that it has failed: its fault must not be taken for a sink's."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.get, self.scan = state.get, state.scan
        self.failed: ConfigError | None = None

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        """As the state does."""
        try:
            self._state.write(rows)
        except ConfigError as error:
            self.failed = error
            raise


class SinkMemo:
    """What one sink remembers, in rows of its own."""

    def __init__(self, state: State, name: str) -> None:
        self._state, self._prefix = state, f"{MEMO}{name}\x1f"

    def get(self, key: str) -> bytes | None:
        """What is kept under that key."""
        return self._state.get(self._prefix + key)

    def put(self, key: str, value: bytes | None) -> None:
        """None forgets."""
        self._state.write({self._prefix + key: value})

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """What is kept under keys that begin so, in their order."""
        for key, value in self._state.scan(self._prefix + prefix):
            yield key.removeprefix(self._prefix), value


class Dead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding that the sink refused for good, and where it stands, if that is on Kafka."""

    reason: str
    finding: Finding
    partition: int = -1
    offset: int = -1


class Outbox:
    """What waits for one sink. Raises ConfigError for rows that are none."""

    def __init__(self, name: str, state: State) -> None:
        self._name, self._state = name, state
        self._waiting = list(_restored(name, state))
        self._cut = int(state.get(CUT + name) or b"0", 16) if self._waiting else 0
        self._last = int(state.get(QUEUED + name) or b"0", 16)
        self._stamped: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def stamp(self, finding: Finding) -> dict[str, bytes | None]:
        """The rows by which it waits, once they are written and `take` is called."""
        # The first position is the time, so that none comes twice though the state was lost.
        self._last = (self._last or int(finding.at.timestamp() * 1_000_000)) + 1
        self._stamped.append(Waiting.of(self._last, finding))
        return {_row(self._name, self._last): encode(finding), QUEUED + self._name: _hex(self._last)}

    def take(self) -> bool:
        """What was stamped waits. False where there was none."""
        stamped, self._stamped = self._stamped, []
        self._waiting += stamped
        return bool(stamped)

    def lag(self, now: datetime) -> timedelta:
        """How old what came first is."""
        return max(timedelta(0), now - self._waiting[0].at) if self._waiting else timedelta(0)

    def is_due(self, manner: Manner, now: datetime) -> bool:
        """Whether there is a batch."""
        return bool(self._waiting) and (not manner.span or self.batch(manner, now) is not None)

    def batch(self, manner: Manner, now: datetime) -> Batch | None:
        """What is given next. What may have arrived in one span is given again as it was."""
        if self._cut:
            return Batch.plain([each for each in self._waiting if each.position <= self._cut])
        return next_batch(self._waiting, manner, now)

    def letters(self, batch: Batch) -> list[Letter]:
        """Read back from the state, for they may be many."""
        rows = ((position, self._state.get(_row(self._name, position)) or b"") for position in batch.given)
        return [Letter(position, msgspec.json.decode(row, type=Finding)) for position, row in rows]

    def about_to_give(self, batch: Batch) -> None:
        """Remembers how a span was cut: what comes late must not change what it is made of."""
        if not self._cut:
            self._cut = batch.given[-1]
            self._state.write({CUT + self._name: _hex(self._cut)})

    def singly(self, batch: Batch, letters: list[Letter]) -> Iterator[tuple[Letter, frozenset[int]]]:
        """Each letter of a batch with the positions that are settled with it alone."""
        incidents = {each.position: each.incident for each in self._waiting if each.position in batch.settled}
        for letter in letters:
            incident = letter.finding.incident.id
            # Of what is merged only the last is given; of the others each stands for itself.
            merged = batch.settled - frozenset(batch.given)
            yield letter, frozenset(key for key in merged if incidents[key] == incident) | {letter.position}

    def settle(self, positions: frozenset[int], dead: tuple[Letter, str] | None = None) -> None:
        """These have arrived; or this one was refused for good, for that reason."""
        rows: dict[str, bytes | None] = {_row(self._name, position): None for position in positions}
        if dead:
            letter, reason = dead
            key = f"{DEAD}{self._name}\x1f{letter.position:016x}"
            rows[key] = msgspec.json.encode(Dead(reason, letter.finding))
        left = [each for each in self._waiting if each.position not in positions]
        if self._cut and not any(each.position <= self._cut for each in left[:1]):
            rows[CUT + self._name], self._cut = None, 0
        self._state.write(rows)
        self._waiting = left


def _restored(name: str, state: State) -> Iterator[Waiting]:
    prefix = f"{OUTBOX}{name}\x1f"
    for key, row in state.scan(prefix):
        try:
            yield Waiting.of(int(key.removeprefix(prefix), 16), msgspec.json.decode(row, type=Finding))
        except ValueError as error:  # as DecodeError is
            raise ConfigError(
                f"the state holds what this kubewhy cannot read ({error}); name another file, or remove that one"
            ) from None


def _row(name: str, position: int) -> str:
    return f"{OUTBOX}{name}\x1f{position:016x}"


def _hex(position: int) -> bytes:
    return f"{position:016x}".encode()
