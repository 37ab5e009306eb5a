"""Brings one sink what waits for it: in its manner, again where it failed, and none twice."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kubewhy.contracts import Sink, State
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding
from kubewhy.runtime.outbox import Guarded, Outbox, SinkMemo
from kubewhy.runtime.queueing import Batch

LONGEST_PAUSE = 60.0
LONGEST_AFTER = 300.0
MENDING = 60.0  # a person needs longer than a server
_CANCELLING = 2.0  # seconds that a sink may take to be interrupted
_SAID_FROM = 3  # failures in a row that are worth a line
_BUGS = 10  # in a row, until what a sink cannot cope with is set aside
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Counts:
    """How it goes with one sink. `lag` is how old what waits longest is."""

    delivered: int
    failed: int
    dead: int
    waiting: int
    lag: timedelta


class Courier:
    """Works for one sink until cancelled.

    `say` is told what people should know, in a line; `took` what the sink has taken.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        state: State,
        say: Callable[[str, Counts], None],
        took: Callable[[Sequence[Finding]], None] = lambda findings: None,
    ) -> None:
        self._sink, self._state, self._say = sink, Guarded(state), say
        self._took = took
        self._memo, self._outbox = SinkMemo(self._state, name), Outbox(name, self._state)
        self._now, self._ending = _FIRST, False
        self._may_spare = True  # a sink may have put something off before a restart
        self._woken, self._moved = asyncio.Event(), asyncio.Event()
        self._next_call = 0.0  # by the loop's clock, as `_failing_since`
        self._delivered = self._failed = self._dead = 0
        self._spared = 0  # pieces of what was put off
        self._failures = self._bugs = 0  # in a row
        self._failing_since = 0.0
        self._mending = False  # only a person can help
        self._said: set[str] = set()
        self._at_work = asyncio.Lock()

    def stamp(self, finding: Finding) -> dict[str, bytes | None]:
        """The rows by which it waits from `go` on."""
        return self._outbox.stamp(finding)

    def go(self) -> None:
        """What was stamped is written, and waits."""
        if self._outbox.take():
            self._woken.set()

    def tick(self, now: datetime) -> None:
        """It is so late."""
        self._now = now
        if self._sink.manner.span:
            self._woken.set()

    def counts(self) -> Counts:
        """How it goes."""
        lag = self._outbox.lag(self._now)
        return Counts(self._delivered, self._failed, self._dead, len(self._outbox), lag)

    async def run(self) -> None:
        """Gives batch after batch, and lets the sink do in between what it has put off."""
        while True:
            self._woken.clear()
            if self._may_spare or self._outbox.is_due(self._sink.manner, self._until):
                await asyncio.sleep(self._next_call - asyncio.get_running_loop().time())
                async with self._at_work:
                    await self._call()
                self._moved.set()
            else:
                await self._wait()

    async def _wait(self) -> None:
        """For something to do."""
        often = self._sink.manner.often
        try:
            async with asyncio.timeout(often.total_seconds() if often else None):
                await self._woken.wait()
        except TimeoutError:
            self._may_spare = not self._ending

    async def end(self, seconds: float | None, *, patient: bool) -> None:
        """Returns once nothing waits, or so many seconds have passed: with patience, since something arrived last."""
        loop = asyncio.get_running_loop()
        self._ending = True
        self._woken.set()
        deadline = moved = None
        while self._outbox or self._may_spare:
            self._moved.clear()
            done = self._delivered + self._spared
            if seconds is not None and (deadline is None or (patient and done != moved)):
                deadline, moved = loop.time() + seconds, done
            if self._mending or (deadline is not None and self._failures and self._next_call >= deadline):
                break
            try:
                async with asyncio.timeout_at(deadline):
                    await self._moved.wait()
            except TimeoutError:
                break
        if self._outbox:
            self._tell("not all could be delivered before the end")

    async def rest(self, running: "asyncio.Task[None]", seconds: float) -> None:
        """Ends `run` between two calls, or at last within one that takes longer than so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._at_work:
                running.cancel()
        except TimeoutError:
            running.cancel()
        await asyncio.wait([running], timeout=_CANCELLING)

    @property
    def _until(self) -> datetime:
        return _LAST if self._ending else self._now

    async def _call(self) -> None:
        """One call of the sink, and what comes of it."""
        begun, batch = asyncio.get_running_loop().time(), self._outbox.batch(self._sink.manner, self._until)
        self._next_call = begun
        if not (batch and batch.aside):
            self._next_call += self._sink.manner.apart.total_seconds()
        try:
            if batch:
                await self._give(batch)
                self._may_spare = True
            elif await self._sink.spare(self._memo):
                self._spared += 1
            else:
                self._may_spare, self._next_call = False, begun
        except RetryLater as error:
            asked = None if error.after is None else min(max(error.after, 1.0), LONGEST_AFTER)
            self._fail(self._pause() if asked is None else asked, str(error))
        except Rejected as error:
            self._may_spare = False
            self._tell(f"refuses what it had put off ({error})")
        except ConfigError as error:
            self._fail(MENDING, str(error), at_once=True, mending=True)
        except Exception as error:  # noqa: BLE001 - a bug in one sink must not stop the others
            self._bugs += 1
            self._fail(self._pause(), _bug(error), at_once=True)
        else:
            self._works()
        if self._state.failed:
            raise self._state.failed

    async def _give(self, batch: Batch) -> None:
        letters = self._outbox.letters(batch)
        if self._sink.manner.span:
            self._outbox.about_to_give(batch)
        try:
            await self._sink.send(letters, self._memo)
        except Rejected as error:
            reason = str(error)
        except (RetryLater, ConfigError):
            raise
        except Exception as error:
            if self._bugs < _BUGS:
                raise
            reason = _bug(error)
        else:
            self._outbox.settle(batch.settled)
            self._delivered += len(letters)
            self._took([letter.finding for letter in letters])
            return
        if len(letters) == 1:
            self._outbox.settle(batch.settled, (letters[0], reason))
            self._dead += 1
            self._tell(f"refuses a finding, which is set aside ({reason})")
            return
        # It is one of them: the others must not suffer from it.
        for letter, settled in self._outbox.singly(batch, letters):
            await self._give(Batch((letter.position,), settled))

    def _pause(self) -> float:
        return min(2.0 ** min(self._failures, 9), LONGEST_PAUSE)

    def _fail(self, pause: float, reason: str, *, at_once: bool = False, mending: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        self._failing_since = self._failing_since if self._failures else now
        self._failed += 1
        self._failures += 1
        self._mending = mending
        self._next_call = max(self._next_call, now + pause)
        if (at_once and reason not in self._said) or (self._failures >= _SAID_FROM and not self._said):
            self._said.add(reason)
            self._tell(f"{reason}; it is tried again")

    def _works(self) -> None:
        if self._said:
            self._tell(f"works again after {asyncio.get_running_loop().time() - self._failing_since:.0f} s")
        self._failures, self._bugs, self._mending = 0, 0, False
        self._said.clear()

    def _tell(self, line: str) -> None:
        self._say(line, self.counts())


def _bug(error: Exception) -> str:
    """The sort alone: its words may hold a secret."""
    return f"{type(error).__name__}: this is a bug in kubewhy"
