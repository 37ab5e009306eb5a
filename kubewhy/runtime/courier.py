"""What waits for one sink, and how it gets there: in its manner, again where it failed, and none twice."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from kubewhy.contracts import Letter, Sink, State
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, encode
from kubewhy.runtime.queueing import Batch, Waiting, next_batch

# Each begins the keys of rows, before the name of the sink.
OUTBOX = "outbox\x1f"  # what waits, by position
QUEUED = "queued\x1f"  # the position given last
CUT = "cut\x1f"  # up to which position a span goes that may have arrived
MEMO = "memo\x1f"
DEAD = "dead\x1f"  # what the sink refused for good, and why

LONGEST_PAUSE = 60.0
LONGEST_AFTER = 300.0
MENDING = 60.0  # a person needs longer than a server
_SAID_FROM = 3  # failures in a row that are worth a line
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Counts:
    """How it goes with one sink. `lag` is how old what waits longest is."""

    delivered: int
    failed: int
    dead: int
    waiting: int
    lag: timedelta


class _Guarded:
    """A state that remembers that it has failed: its fault must not be taken for a sink's."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.get, self.scan = state.get, state.scan
        self.failed: ConfigError | None = None

    def write(self, rows: Mapping[str, bytes | None]) -> None:
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
        return self._state.get(self._prefix + key)

    def put(self, key: str, value: bytes | None) -> None:
        """None forgets."""
        self._state.write({self._prefix + key: value})

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """What is kept under keys that begin so, in their order."""
        for key, value in self._state.scan(self._prefix + prefix):
            yield key.removeprefix(self._prefix), value


class Dead(msgspec.Struct, frozen=True):
    """A finding that the sink refused for good."""

    reason: str
    finding: Finding


class Courier:
    """Brings one sink what waits for it, until cancelled."""

    def __init__(self, name: str, sink: Sink, state: State, say: Callable[[str], None]) -> None:
        self._name, self._sink, self._state = name, sink, _Guarded(state)
        self._say = say  # what people should know of it, in a line
        self._memo = SinkMemo(self._state, name)
        self._outbox = f"{OUTBOX}{name}\x1f"
        self._waiting = list(self._restored())
        self._cut = int(state.get(CUT + name) or b"0", 16) if self._waiting else 0
        self._stamped: list[Waiting] = []
        self._last = int(state.get(QUEUED + name) or b"0", 16)
        self._now: datetime | None = None
        self._ending = False
        self._may_spare = True  # a sink may have put something off before a restart
        self._woken, self._moved = asyncio.Event(), asyncio.Event()
        self._next_call = 0.0  # by the loop's clock
        self._delivered = self._failed = self._dead = 0
        self._failures = 0  # in a row
        self._failing_since: float | None = None
        self._said: set[str] = set()

    def stamped(self, finding: Finding) -> dict[str, bytes | None]:
        """The rows by which it waits from `go` on."""
        # The first position is the time, so that none comes twice though the state was lost.
        self._last = (self._last or int(finding.at.timestamp() * 1_000_000)) + 1
        self._stamped.append(Waiting.of(self._last, finding))
        return {self._row(self._last): encode(finding), QUEUED + self._name: _hex(self._last)}

    def go(self) -> None:
        """What was stamped is written, and waits."""
        if self._stamped:
            self._waiting += self._stamped
            self._stamped = []
            self._woken.set()

    def tick(self, now: datetime) -> None:
        """It is so late."""
        self._now = now
        if self._waiting and self._sink.manner.span:
            self._woken.set()

    def counts(self) -> Counts:
        """How it goes."""
        lag = timedelta(0)
        if self._waiting and self._now:
            lag = max(lag, self._now - self._waiting[0].at)
        return Counts(self._delivered, self._failed, self._dead, len(self._waiting), lag)

    async def run(self) -> None:
        """Gives batch after batch, and what the sink has put off in between."""
        while True:
            self._woken.clear()
            if self._batch() or self._may_spare:
                await asyncio.sleep(self._next_call - asyncio.get_running_loop().time())
                await self._call()
                self._moved.set()
            else:
                await self._woken.wait()

    async def end(self, seconds: float, *, patient: bool) -> None:
        """Returns once nothing waits, or so many seconds have passed: with patience, since something arrived last."""
        loop = asyncio.get_running_loop()
        self._ending = True
        self._woken.set()
        delivered, deadline = self._delivered, loop.time() + seconds
        while self._waiting or self._may_spare:
            self._moved.clear()
            if patient and self._delivered > delivered:
                delivered, deadline = self._delivered, loop.time() + seconds
            if self._failures and self._next_call >= deadline:
                break
            try:
                async with asyncio.timeout_at(deadline):
                    await self._moved.wait()
            except TimeoutError:
                break
        if self._waiting:
            self._say(f"{len(self._waiting)} findings are left undelivered")

    async def _call(self) -> None:
        """One call of the sink, and what comes of it."""
        loop = asyncio.get_running_loop()
        self._next_call = loop.time() + self._sink.manner.apart.total_seconds()
        batch = self._batch()
        try:
            if batch:
                await self._give(batch)
                self._may_spare = True
            else:
                self._may_spare = await self._sink.spare(self._memo)
        except RetryLater as error:
            pause = min(2.0 ** min(self._failures, 9), LONGEST_PAUSE)
            if error.after is not None:
                pause = min(max(error.after, 1.0), LONGEST_AFTER)
            self._fail(pause, str(error), at_once=False)
        except Rejected as error:
            # Nothing is lost by what was put off.
            self._may_spare = False
            self._complain(str(error))
        except ConfigError as error:
            self._fail(MENDING, str(error), at_once=True)
        except Exception as error:  # noqa: BLE001 - a bug in one sink must not stop the others
            reason = f"{type(error).__name__}: this is a bug in kubewhy"
            self._fail(min(2.0 ** min(self._failures, 9), LONGEST_PAUSE), reason, at_once=True)
        else:
            self._works()
        if self._state.failed:
            raise self._state.failed

    async def _give(self, batch: Batch) -> None:
        letters = [Letter(position, self._finding(position)) for position in batch.given]
        if self._sink.manner.span and not self._cut:
            self._cut = batch.given[-1]
            self._state.write({CUT + self._name: _hex(self._cut)})
        try:
            await self._sink.send(letters, self._memo)
        except Rejected as error:
            await self._give_singly(batch, letters, str(error))
        else:
            self._settle(batch.settled, len(letters))

    async def _give_singly(self, batch: Batch, letters: list[Letter], reason: str) -> None:
        """One of them is refused for good: the others must not suffer from it."""
        if len(letters) == 1:
            self._bury(letters[0], batch.settled, reason)
            return
        for letter in letters:
            incident = letter.finding.incident.id
            settled = frozenset(
                each.position
                for each in self._waiting
                if each.position in batch.settled and each.incident == incident and each.position <= letter.position
            )
            try:
                await self._sink.send([letter], self._memo)
            except Rejected as error:
                self._bury(letter, settled, str(error))
            else:
                self._settle(settled, 1)

    def _settle(self, positions: frozenset[int], arrived: int, rows: dict[str, bytes | None] | None = None) -> None:
        gone: dict[str, bytes | None] = dict.fromkeys(map(self._row, positions))
        left = [each for each in self._waiting if each.position not in positions]
        over = self._cut and (not left or left[0].position > self._cut)
        if over:
            gone[CUT + self._name] = None
        self._state.write({**gone, **(rows or {})})
        self._waiting = left
        self._cut = 0 if over else self._cut
        self._delivered += arrived

    def _bury(self, letter: Letter, settled: frozenset[int], reason: str) -> None:
        row = msgspec.json.encode(Dead(reason, letter.finding))
        self._settle(settled, 0, {f"{DEAD}{self._name}\x1f{letter.position:016x}": row})
        self._dead += 1
        self._complain(reason)

    def _batch(self) -> Batch | None:
        if self._cut:
            return Batch.plain([each for each in self._waiting if each.position <= self._cut])
        now = _LATEST if self._ending else self._now or datetime.min.replace(tzinfo=UTC)
        return next_batch(self._waiting, self._sink.manner, now)

    def _fail(self, pause: float, reason: str, *, at_once: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._failed += 1
        self._failures += 1
        self._failing_since = self._failing_since or now
        self._next_call = max(self._next_call, now + pause)
        if (at_once and reason not in self._said) or (self._failures >= _SAID_FROM and not self._said):
            self._said.add(reason)
            self._say(f"{reason}; {len(self._waiting)} wait until it works again")

    def _works(self) -> None:
        if self._said and self._failing_since is not None:
            lasted = asyncio.get_running_loop().time() - self._failing_since
            self._say(f"works again after {lasted:.0f} s; {len(self._waiting)} wait")
        self._failures, self._failing_since = 0, None
        self._said.clear()

    def _complain(self, reason: str) -> None:
        self._say(f"refuses a finding ({reason}); it is set aside")

    def _row(self, position: int) -> str:
        return f"{self._outbox}{position:016x}"

    def _finding(self, position: int) -> Finding:
        return msgspec.json.decode(self._state.get(self._row(position)) or b"", type=Finding)

    def _restored(self) -> Iterator[Waiting]:
        for key, row in self._state.scan(self._outbox):
            try:
                position = int(key.removeprefix(self._outbox), 16)
                yield Waiting.of(position, msgspec.json.decode(row, type=Finding))
            except ValueError as error:  # as DecodeError is
                raise ConfigError(
                    f"the state holds what this kubewhy cannot read ({error}); name another file, or remove that one"
                ) from None


def _hex(position: int) -> bytes:
    return f"{position:016x}".encode()
