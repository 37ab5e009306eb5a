"""Analyzers that are handed batch after batch, with so much time for each, and stand still in between."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from kubewhy.contracts import Analyzer
from kubewhy.errors import RetryLater
from kubewhy.events import Message
from kubewhy.runtime.fleet.analyzing import Judging
from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.reaching import short
from kubewhy.topics import DEAD_LETTERS, FAILURES

log = logging.getLogger(__name__)

Record = TypeVar("Record")

PIECE = 500  # records that are sent together
_PATIENCE = 10.0  # seconds for a piece: connections that died while we stood still say nothing
IDLE = 300.0  # seconds after which connections are not trusted: NAT and load balancers of AWS forget them after 350
_PAUSE = 0.5  # seconds between two tries
_STOPPING = 60.0


class Batches:
    """One producer serves them all, for as long as it answers. All of it is for one event loop, which lives on."""

    def __init__(self, kafka: Kafka, analyzers: Iterable[Analyzer[Any]], *, idle: float = IDLE) -> None:
        self._kafka, self._judging, self._idle = kafka, Judging(analyzers), idle
        self._producer: AIOKafkaProducer | None = None
        self._used = 0.0
        self._ready = False
        self._stopping: set[asyncio.Task[None]] = set()

    async def through(self, records: Sequence[Record], seconds: float) -> list[Record]:
        """Judges them. Returns once all that came of them has arrived, or the time is up, with those that have to come
        again: all of which that is not known.

        Raises ConfigError for what waiting cannot mend.
        """
        work = _Work(records, self._judging)
        reason = "no broker has answered by then"
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while work.left:
                    try:
                        reason = await self._attempt(work)
                    except RetryLater as error:
                        reason = str(error)
                    if work.left:
                        await asyncio.sleep(_PAUSE)
        self._judging.taken()
        work.tell(reason)
        return [records[place] for place in work.left]

    async def close(self) -> None:
        """Ends the connections."""
        self._drop()
        await asyncio.gather(*self._stopping)

    async def _attempt(self, work: "_Work") -> str:
        """Once over all that is left. Why some still is. Raises RetryLater where nothing can be sent now."""
        reason = ""
        for piece in work.pieces():
            publisher = await self._publisher()
            messages = work.messages(piece)
            answered = False
            try:
                async with asyncio.timeout(_PATIENCE):
                    failed = await publisher.once(messages)
                answered = True
            except TimeoutError:
                raise RetryLater("the brokers do not answer") from None
            finally:
                if not answered:
                    self._drop()
            self._used = time.time()
            work.sent(piece, failed)
            if failed:
                reason = publisher.trouble
        return reason

    async def _publisher(self) -> Publisher:
        # The clock of the wall, for the other one may stand still together with us.
        if abs(time.time() - self._used) > self._idle:
            self._drop()
        if self._producer is None:
            self._producer = await self._started()
        return Publisher(self._kafka, self._producer)

    async def _started(self) -> AIOKafkaProducer:
        if reason := await self._kafka.trouble():
            raise RetryLater(reason)
        if not self._ready:
            await ready(self._kafka, FAILURES, DEAD_LETTERS)
            self._ready = True
        producer = self._kafka.producer()
        started = False
        try:
            async with asyncio.timeout(_PATIENCE):
                await producer.start()
            started = True
        except (KafkaError, TimeoutError) as error:
            raise RetryLater(short(error)) from None
        finally:
            if not started:
                await producer.stop()
        self._used = time.time()
        return producer

    def _drop(self) -> None:
        """What it may still hold arrives late, or never: it is sent anew anyhow."""
        if self._producer:
            task = asyncio.create_task(_stopped(self._producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        self._producer = None


class _Work:
    """A batch, and what of it is left to do: the places in it of which not all has arrived."""

    def __init__(self, records: Sequence[Any], judging: Judging) -> None:
        self.left = list(range(len(records)))
        self._records, self._judging = records, judging
        self._judged: dict[int, list[Message]] = {}
        self._dead = 0

    def pieces(self) -> list[list[int]]:
        return [self.left[begun : begun + PIECE] for begun in range(0, len(self.left), PIECE)]

    def messages(self, piece: Iterable[int]) -> list[Message]:
        """What comes of these. Each is judged once, however often it is sent."""
        for place in piece:
            if place not in self._judged:
                self._judged[place] = list(self._judging.messages([self._records[place]]))
        return [told for place in piece for told in self._judged[place]]

    def sent(self, piece: Iterable[int], failed: Iterable[Message]) -> None:
        """All of these has arrived, but for what failed."""
        lost = {id(told) for told in failed}
        done = {place for place in piece if lost.isdisjoint(map(id, self._judged[place]))}
        self._dead += sum(any(told.topic is DEAD_LETTERS for told in self._judged[place]) for place in done)
        for place in done:
            del self._judged[place]
        self.left = [place for place in self.left if place not in done]

    def tell(self, reason: str) -> None:
        """A line for each trouble."""
        if self._dead:
            log.warning(
                "%d of %d records are dead letters now: see `kubewhy dead-letters list`", self._dead, len(self._records)
            )
        if self.left:
            log.warning(
                "kafka: %d of %d records are to come again, for what comes of them has not arrived in time (%s)",
                len(self.left),
                len(self._records),
                reason,
            )


async def _stopped(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_STOPPING):
            await producer.stop()
