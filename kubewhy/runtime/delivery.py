"""Delivery: for each sink a queue of its own, in the state, so that one that is down delays no other."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial

import msgspec

from kubewhy.contracts import Sink, State
from kubewhy.records import Finding
from kubewhy.runtime.courier import Counts, Courier
from kubewhy.runtime.outbox import OUTBOX, RETRY
from kubewhy.runtime.telemetry.notes import Notes

log = logging.getLogger(__name__)

STOPPING_SECONDS = 10.0
MOMENT_SECONDS = 1.0
# At the end of a recording, or of what is watched until nothing happens: so long without anything that arrives.
PATIENCE_SECONDS = 60.0


Say = Callable[[str, str, Counts], None]


def warn(name: str, line: str, counts: Counts) -> None:
    """Says it in the log."""
    told = {**asdict(counts), "lag": f"{counts.lag.total_seconds():.0f}s"}
    log.warning("sink %s: %s", name, line, extra=told)


class Delivery:
    """Takes findings to the sinks of these names. Raises ConfigError for a state that cannot be read or written."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        state: State,
        say: Say = warn,
        ours: Container[str] = (),
        notes: Notes | None = None,
    ) -> None:
        """`say` is told the name of a sink, what people should know of it, in a line, and how it goes.

        `ours` are those that lead nowhere but out of this process: whoever reads them may take time, or never go on.
        """
        self._state, self._ours = state, ours
        noted = notes or Notes()

        def took(name: str, findings: Sequence[Finding]) -> None:
            noted.delivered(name, findings)

        self._couriers = {
            name: Courier(name, sink, state, partial(say, name), partial(took, name)) for name, sink in sinks.items()
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        waiting = Counter(key.split("\x1f")[1] for key, _ in state.scan(OUTBOX))
        for name in waiting.keys() - sinks.keys():
            line = "the settings name it no more; what waits for it stays in the state"
            say(name, line, Counts(0, 0, 0, waiting[name], timedelta(0)))

    def post(self, shares: Iterable[tuple[str, Finding]], also: Mapping[str, bytes | None]) -> None:
        """Queues what each sink is to get. That and the other rows are written together, or nothing is."""
        rows = dict(also)
        for name, finding in shares:
            rows |= self._couriers[name].stamp(finding)
        self._state.write(rows)
        for courier in self._couriers.values():
            courier.go()

    def tick(self, now: datetime) -> None:
        """It is so late, by the clock that the findings go by."""
        self._again()
        for courier in self._couriers.values():
            courier.tick(now)

    def counts(self) -> dict[str, Counts]:
        """How it goes with each sink."""
        return {name: courier.counts() for name, courier in self._couriers.items()}

    def _again(self) -> None:
        """Queues what was refused, and is to be tried once more: a command has written so into the state."""
        rows: dict[str, bytes | None] = {}
        for key, row in self._state.scan(RETRY):
            if courier := self._couriers.get(key.split("\x1f")[1]):
                rows |= courier.stamp(msgspec.json.decode(row, type=Finding)) | {key: None}
        if rows:
            self.post([], rows)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delivers meanwhile; afterwards only what can be within a few seconds. The rest stays in the state."""
        try:
            async with asyncio.TaskGroup() as group:
                self._tasks = [group.create_task(courier.run()) for courier in self._couriers.values()]
                try:
                    yield
                finally:
                    await self._end(STOPPING_SECONDS, patient=False)
                    for task in self._tasks:
                        task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def end(self) -> None:
        """Waits until all has arrived, or nothing does any more."""
        await self._end(PATIENCE_SECONDS, patient=True)

    async def _end(self, seconds: float, *, patient: bool) -> None:
        if self._over or any(task.done() for task in self._tasks):
            return
        for_ours = None if patient else MOMENT_SECONDS
        ending = [
            asyncio.create_task(courier.end(for_ours if name in self._ours else seconds, patient=patient))
            for name, courier in self._couriers.items()
        ]
        try:
            await asyncio.gather(*ending)
            self._over = True
        finally:
            for task in ending:
                task.cancel()
