"""Which of several collectors of one cluster is the active one. Kafka decides; nothing is written to Kubernetes."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition

from kubewhy.errors import Rejected
from kubewhy.events import decode, message
from kubewhy.records import Claim
from kubewhy.runtime.fleet.kafka import JOINING, Kafka, forever
from kubewhy.runtime.fleet.lag import lags
from kubewhy.topics import CLAIMS

log = logging.getLogger(__name__)

STANDING = "election"  # the check of whether it is the active one, or stands by
SESSION_SECONDS = 6.0  # so long after the last sign of life of the active one, another takes over


class Election:
    """One member of the group of a cluster's collectors: whoever has the one partition of the claims is the active one.

    Who becomes active says so in a claim. Where that stands in the topic is its term: whatever one with a lower term
    still says, as one that was asleep, counts no more.
    """

    def __init__(self, kafka: Kafka, cluster: str, member: str, clock: Callable[[], datetime]) -> None:
        self._kafka, self._cluster, self._member, self._clock = kafka, cluster, member, clock
        self._place = TopicPartition(kafka.name(CLAIMS), 0)
        self._consumer = kafka.consumer(group=f"collector.{cluster}", session=SESSION_SECONDS)
        self._look = partial(lags, self._consumer)
        self._consumer.subscribe([kafka.name(CLAIMS)], listener=_Listener(self, partial(kafka.notes.said, STANDING)))
        self._ours, self._heard = asyncio.Event(), asyncio.Event()
        self._next = 0  # claims up to there are known
        self._last: int | None = None  # where the last claim of this cluster stands
        self._term: int | None = None

    async def __aenter__(self) -> "Election":
        await self._consumer.start()
        self._kafka.looks.append(self._look)
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kafka.looks.remove(self._look)
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._consumer.stop()

    @property
    def ours(self) -> bool:
        """Whether this is the active one, as far as is known here."""
        return self._ours.is_set()

    async def won(self, producer: AIOKafkaProducer) -> int:
        """Returns the term, once this is the active one. It stays the same where no other was active in between."""
        while True:
            await self._ours.wait()
            await self._read()
            if not self.ours:
                continue
            if self._term is None or self._last != self._term:
                self._term = await self._claim(producer)
                log.info("this is the active collector of %s, in term %d", self._cluster, self._term)
            return self._term

    def took(self, mine: bool) -> None:
        """Kafka has given the partition to us, or taken it away."""
        if mine:
            self._ours.set()
        else:
            self._ours.clear()

    async def _follow(self) -> None:
        """Reads all claims as they come: also what keeps us a member."""
        while True:
            batch = await self._consumer.getmany(timeout_ms=1000)
            self._kafka.came(batch)
            for records in batch.values():
                for record in records:
                    self._take(record)
            self._heard.set()

    async def _read(self) -> None:
        """Returns once all claims there were are known, or the partition is no more ours."""
        end = (await self._consumer.end_offsets([self._place]))[self._place]
        while self.ours and self._next < end:
            self._heard.clear()
            await self._heard.wait()

    def _take(self, record: Any) -> None:
        self._next = record.offset + 1
        if record.key != self._cluster.encode():
            return
        try:
            decode(CLAIMS, record.value, record.headers)
        except Rejected as error:
            log.info("claim %d is passed over: %s", record.offset, error)
        else:
            self._last = record.offset

    async def _claim(self, producer: AIOKafkaProducer) -> int:
        told = message(Claim(cluster=self._cluster, member=self._member, at=self._clock()))
        term = 0

        async def attempt() -> None:
            nonlocal term
            done = await producer.send_and_wait(self._kafka.name(CLAIMS), told.value, told.key, 0, headers=told.headers)
            term = done.offset
            self._kafka.notes.produced(done.topic, 1)

        await forever(attempt, "claiming the cluster")
        self._last = term
        return term


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, election: Election, say: Callable[[str], None]) -> None:
        self._election, self._say = election, say

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._say(JOINING)
        self._election.took(False)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._say("")
        self._election.took(bool(list(assigned)))
