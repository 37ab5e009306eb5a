"""The calls to models that one process makes: which run, which wait for their time, and what came of them."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from explainer.wanting import Wanted
from kubewhy.contracts import State
from kubewhy.errors import RetryLater
from kubewhy.records import Answer, Explanation
from kubewhy.runtime.choosing import LONGEST_WAIT
from kubewhy.runtime.explaining import Explainer, Unfit

log = logging.getLogger(__name__)

_BUDGET = "budget"  # the key of its row
_PAUSES = (2, 5, 15, 30, 60)  # seconds before the same is asked again, the last one for ever
_COSTLY = (60, 120, 300, 600, 900)  # where each try is paid for


class Calls:
    """The calls of one process: `start` what is wanted, `take` what has come of it. No incident has two at once."""

    def __init__(self, explainer: Explainer, at_once: int = 4) -> None:
        self._explainer, self._at_once = explainer, at_once
        self._running: dict[tuple[str, str], asyncio.Task[Explanation | None]] = {}
        self._asked: dict[tuple[str, str], str] = {}
        self._attempts: dict[tuple[str, str, str], tuple[int, datetime]] = {}
        self._answers: list[Answer] = []
        self._spent = explainer.budget.row()

    @property
    def running(self) -> bool:
        return bool(self._running)

    def now(self) -> datetime:
        """By the clock that says when to try again."""
        return self._explainer.clock()

    def due(self) -> datetime | None:
        """When the first of those that failed may be tried again."""
        return min((due for _, due in self._attempts.values()), default=None)

    def spent(self, state: State) -> None:
        """Keeps what was spent of the day's budget."""
        row = self._explainer.budget.row()
        if row != self._spent:
            state.write({_BUDGET: row})
            self._spent = row

    def restore(self, state: State) -> None:
        """Goes on with the budget that was kept."""
        if row := state.get(_BUDGET):
            self._explainer.budget.restore(row)
            self._spent = row

    def budget(self) -> bytes:
        """What was spent of the day's budget, as a row."""
        return self._explainer.budget.row()

    def spent_before(self, row: bytes) -> None:
        """Another process, or this one before, had spent so much."""
        self._explainer.budget.at_least(row)

    def start(self, wanted: Iterable[Wanted]) -> None:
        """Those that do not run already, as many as may."""
        now = self._explainer.clock()
        named = set()
        for each in wanted:
            key = (each.cluster, each.incident)
            attempt = (*key, each.asked)
            named.add(attempt)
            due = self._attempts.get(attempt, (0, now))[1]
            if key in self._running or due > now or len(self._running) >= self._at_once:
                continue
            self._asked[key] = each.asked
            task = asyncio.create_task(self._explainer.explain(each.look()))
            self._running[key] = task
            task.add_done_callback(lambda task, key=key: self._done(key, task))  # type: ignore[misc]
        running = {(*key, self._asked[key]) for key in self._running}
        self._attempts = {key: told for key, told in self._attempts.items() if key in named | running}

    def take(self) -> list[Answer]:
        """The answers since it was last asked."""
        taken, self._answers = self._answers, []
        return taken

    async def round(self, wanted: Iterable[Wanted]) -> bool:
        """Starts as many as may, and waits for the first to end. False where none runs."""
        self.start(wanted)
        return await self.first()

    async def first(self) -> bool:
        """Waits for the first of those that run to end. False where none does."""
        if not self._running:
            return False
        await asyncio.wait(list(self._running.values()), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)  # what is done says so in its turn
        return True

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._explainer.close()

    def _done(self, key: tuple[str, str], task: "asyncio.Task[Explanation | None]") -> None:
        del self._running[key]
        if task.cancelled():
            return
        asked = self._asked.pop(key)
        error = task.exception()
        if error is None:
            self._attempts.pop((*key, asked), None)
            self._answers.append(Answer(cluster=key[0], incident=key[1], asked=asked, explanation=task.result()))
            return
        if not isinstance(error, RetryLater):
            # A bug here must not be asked for again and again, nor stop what watches.
            log.error("not explained", extra={"incident": key[1], "error": type(error).__name__})
            self._answers.append(Answer(cluster=key[0], incident=key[1], asked=asked))
            return
        attempts = self._attempts.get((*key, asked), (0, self._explainer.clock()))[0]
        pauses = _COSTLY if isinstance(error, Unfit) else _PAUSES
        pause = timedelta(seconds=pauses[min(attempts, len(pauses) - 1)])
        if error.after is not None:
            pause = min(max(pause, timedelta(seconds=error.after)), LONGEST_WAIT)
        self._attempts[(*key, asked)] = (attempts + 1, self._explainer.clock() + pause)
