"""A collector on Kafka: publishes how the objects of one cluster are, while it is the active one there."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from analyzers.stage import AnalyzerStage
from kubewhy.contracts import Analyzer
from kubewhy.events import FLEET, Message, message
from kubewhy.records import Evidence, Heartbeat, Inventory
from kubewhy.runtime.fleet.electing import Election
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher

log = logging.getLogger(__name__)

_AT_ONCE = 500  # records on their way, and as many waiting
_AGAIN = 1.0  # seconds, where the brokers take nothing
_STANDING_BY = 30.0  # seconds that one which is active no more stays ready to go on


class Source(Protocol):
    """A collector that can be told that a record has not arrived."""

    @property
    def waiting(self) -> int:
        """Objects of which something is still to be said."""
        ...

    def evidence(self) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]: ...

    def lost(self, evidence: Evidence) -> None: ...


class Collecting:
    """One cluster's collector. `start` makes what collects, for a term.

    With analyzers, it judges the evidence itself, and publishes what they say in its place.
    """

    def __init__(
        self,
        kafka: Kafka,
        cluster: str,
        start: Callable[[int], Source],
        *,
        member: str,
        clock: Callable[[], datetime],
        analyzers: Sequence[Analyzer[Any]] = (),
    ) -> None:
        self._kafka, self._cluster, self._start, self._clock = kafka, cluster, start, clock
        self._member = member
        self._stage = AnalyzerStage(analyzers) if analyzers else None
        self._source: Source | None = None

    @property
    def waiting(self) -> int:
        """Objects of which something is still to be said. While this is not the active one, another says it."""
        return self._source.waiting if self._source else 0

    async def run(self) -> None:
        """Until cancelled. Raises ConfigError as what collects does."""
        election = Election(self._kafka, self._cluster, self._member, self._clock)
        async with self._kafka.producer() as producer, election:
            while True:
                term = await election.won(producer)
                source = self._source = self._start(term)
                leaving = _Leaving(Publisher(self._kafka, producer), source)
                sending = asyncio.create_task(leaving.run())
                try:
                    self._kafka.notes.active(term)
                    await self._collect(election, leaving, source, producer, term)
                finally:
                    self._source = None
                    self._kafka.notes.active(None)
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)

    async def _collect(self, election: Election, leaving: "_Leaving", source: Source, producer: Any, term: int) -> None:
        async with aclosing(source.evidence()) as records:
            async for record in records:
                if not election.ours:
                    log.info("another collector of %s may be the active one: standing by", self._cluster)
                    self._kafka.notes.active(None)
                    try:
                        async with asyncio.timeout(_STANDING_BY):
                            if await election.won(producer) != term:
                                return
                    except TimeoutError:
                        return
                    self._kafka.notes.active(term)
                said = self._judged(record) if self._stage and isinstance(record, Evidence) else [record]
                await leaving.put(record, [told for each in said for told in _messages(each)])
                for each in said:
                    self._kafka.notes.published(each)

    def _judged(self, evidence: Evidence) -> list[Struct]:
        """What is said in place of evidence."""
        assert self._stage
        began = time.perf_counter()
        reports = list(self._stage.feed(evidence, evidence.observed_at))
        self._kafka.notes.judged(reports, 1, time.perf_counter() - began)
        return [*reports]


def _messages(record: Struct) -> list[Message]:
    if isinstance(record, Heartbeat):
        # Who is silent is told of all clusters at once, wherever each of them has its place.
        return [message(record), message(record, cluster=FLEET)._replace(key=FLEET.encode())]
    return [message(record)]


class _Leaving:
    """What is on its way to the brokers: all that waits goes at once. What does not arrive is said again as it is then.

    With the brokers away, nothing but what is on its way is kept: whoever puts more has to wait.
    """

    def __init__(self, publisher: Publisher, source: Source) -> None:
        self._publisher, self._source = publisher, source
        self._waiting: list[tuple[Struct, Message]] = []
        self._more, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, record: Struct, messages: Iterable[Message]) -> None:
        """Returns once there is room for it."""
        while len(self._waiting) >= _AT_ONCE:
            self._room.clear()
            await self._room.wait()
        self._waiting += ((record, told) for told in messages)
        self._more.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            batch, self._waiting = self._waiting, []
            self._room.set()
            failed = await self._publisher.once([told for _, told in batch])
            if not failed:
                continue
            lost = set(map(id, failed))
            for record, told in batch:
                if id(told) in lost and isinstance(record, Evidence):
                    self._source.lost(record)
            await asyncio.sleep(_AGAIN)
