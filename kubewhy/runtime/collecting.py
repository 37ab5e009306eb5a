"""A collector on Kafka: publishes how the objects of one cluster are, while it is the active one there."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from analyzers.stage import AnalyzerStage
from kubewhy.contracts import Analyzer
from kubewhy.events import FLEET, Message, message
from kubewhy.records import Evidence, Heartbeat, Inventory
from kubewhy.runtime.electing import Election
from kubewhy.runtime.kafka import Kafka
from kubewhy.runtime.publishing import Publisher

log = logging.getLogger(__name__)

_AT_ONCE = 500  # records on their way, and as many waiting
_AGAIN = 1.0  # seconds, where the brokers take nothing
_STANDING_BY = 30.0  # seconds that one which is active no more stays ready to go on


class Source(Protocol):
    """A collector that can be told that a record has not arrived."""

    def evidence(self) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]: ...

    def lost(self, evidence: Evidence) -> None: ...


class Collecting:
    """One cluster's collector. `start` makes what collects, for a term; `published` is told what goes out.

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
        published: Callable[[Struct], None] = lambda record: None,
        active: Callable[[int | None], None] = lambda term: None,
    ) -> None:
        self._kafka, self._cluster, self._start, self._clock = kafka, cluster, start, clock
        self._member = member
        self._stage = AnalyzerStage(analyzers) if analyzers else None
        self._published, self._active = published, active

    async def run(self) -> None:
        """Until cancelled. Raises ConfigError as what collects does."""
        election = Election(self._kafka, self._cluster, self._member, self._clock)
        async with self._kafka.producer() as producer, election:
            while True:
                term = await election.won(producer)
                source = self._start(term)
                leaving = _Leaving(Publisher(self._kafka, producer), source)
                sending = asyncio.create_task(leaving.run())
                try:
                    self._active(term)
                    await self._collect(election, leaving, source, producer, term)
                finally:
                    self._active(None)
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)

    async def _collect(self, election: Election, leaving: "_Leaving", source: Source, producer: Any, term: int) -> None:
        async with aclosing(source.evidence()) as records:
            async for record in records:
                if not election.ours:
                    log.info("another collector of %s may be the active one: standing by", self._cluster)
                    self._active(None)
                    try:
                        async with asyncio.timeout(_STANDING_BY):
                            if await election.won(producer) != term:
                                return
                    except TimeoutError:
                        return
                    self._active(term)
                await leaving.put(record, self._messages(record))
                self._published(record)

    def _messages(self, record: Struct) -> Iterable[Message]:
        if isinstance(record, Heartbeat):
            # Who is silent is told of all clusters at once, wherever each of them has its place.
            return [message(record), message(record, cluster=FLEET)._replace(key=FLEET.encode())]
        if isinstance(record, Evidence) and self._stage:
            return map(message, self._stage.feed(record, record.observed_at))
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
