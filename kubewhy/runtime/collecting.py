"""A collector on Kafka: publishes how the objects of one cluster are, while it is the active one there."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from aiokafka.errors import KafkaError
from msgspec import Struct

from analyzers.stage import AnalyzerStage
from kubewhy.contracts import Analyzer
from kubewhy.events import FLEET, Message, message
from kubewhy.records import Evidence, Heartbeat, Inventory
from kubewhy.runtime.electing import Election
from kubewhy.runtime.kafka import Kafka
from kubewhy.runtime.publishing import Publisher

log = logging.getLogger(__name__)

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
            publisher = Publisher(self._kafka, producer)
            while True:
                term = await election.won(producer)
                self._active(term)
                try:
                    await self._collect(election, publisher, producer, term)
                finally:
                    self._active(None)

    async def _collect(self, election: Election, publisher: Publisher, producer: Any, term: int) -> None:
        source = self._start(term)
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
                await self._publish(publisher, source, record)

    async def _publish(self, publisher: Publisher, source: Source, record: Struct) -> None:
        """Hands it over. What does not arrive in time is said again as it is then."""
        for told in self._messages(record):
            try:
                future = await publisher.begin(told)
            except KafkaError:
                _lost(source, record)
                continue
            future.add_done_callback(partial(_done, source, record))
        self._published(record)

    def _messages(self, record: Struct) -> Iterable[Message]:
        if isinstance(record, Heartbeat):
            # Who is silent is told of all clusters at once, wherever each of them has its place.
            return [message(record), message(record, cluster=FLEET)._replace(key=FLEET.encode())]
        if isinstance(record, Evidence) and self._stage:
            return map(message, self._stage.feed(record, record.observed_at))
        return [message(record)]


def _done(source: Source, record: Struct, future: "asyncio.Future[Any]") -> None:
    if future.cancelled() or future.exception():
        _lost(source, record)


def _lost(source: Source, record: Struct) -> None:
    if isinstance(record, Evidence):
        source.lost(record)
