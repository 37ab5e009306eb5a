"""Analyzer workers: evidence from Kafka, reports to Kafka. They remember nothing, so they may come and go."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from analyzers.stage import AnalyzerStage
from kubewhy.contracts import Analyzer
from kubewhy.errors import Rejected
from kubewhy.events import Message, decode, message
from kubewhy.records import Evidence, Report
from kubewhy.runtime.fleet.kafka import JOINING, Kafka
from kubewhy.runtime.fleet.lag import lags
from kubewhy.runtime.fleet.publishing import Publisher, appended, dead
from kubewhy.topics import EVIDENCE, RESTATED, Topic

log = logging.getLogger(__name__)

Batch = dict[TopicPartition, list[Any]]

GROUP = "analyzers"
RESTATED_PER_SECOND = 2000  # records that are no news, by one worker
_AT_ONCE = 2000  # records
_PIECE = 200
_BEHIND_SECONDS = 1.0  # between two such pieces, as long as news wait
_DRAIN_SECONDS = 10.0


class Judging:
    """One batch to another: a report for each piece of evidence, and a dead letter for what is none. Pure."""

    def __init__(self, analyzers: Iterable[Analyzer[Any]]) -> None:
        self._stage = AnalyzerStage(analyzers)
        self._reports: list[Report] = []

    def taken(self) -> list[Report]:
        """What was judged since this was last asked."""
        taken, self._reports = self._reports, []
        return taken

    def messages(self, records: Iterable[Any]) -> Iterator[Message]:
        """What these records of a consumer come to. Each has a topic, partition, offset, key, value and headers."""
        for record in records:
            try:
                evidence: Evidence = decode(EVIDENCE, record.value, record.headers)
                reports = list(self._stage.feed(evidence, appended(record)))
            except Rejected as error:
                yield dead("analyzer", str(error), record)
                continue
            self._reports += reports
            for report in reports:
                yield message(report)
                if report.broken:
                    yield dead("analyzer", _broken(report), record)


def _broken(report: Report) -> str:
    return f"the analyzer of {', '.join(report.broken)} raised: this is a bug in kubewhy, or in what was added to it"


class Analyzing:
    """One worker."""

    def __init__(self, kafka: Kafka, analyzers: Iterable[Analyzer[Any]]) -> None:
        self._kafka, self._judging = kafka, Judging(analyzers)
        self._behind = asyncio.Event()  # there are more news than were taken at once

    async def run(self) -> None:
        """Until cancelled."""
        async with self._kafka.producer() as producer, asyncio.TaskGroup() as group:
            publisher = Publisher(self._kafka, producer)
            group.create_task(self._news(publisher))
            group.create_task(self._restated(publisher))

    async def _news(self, publisher: Publisher) -> None:
        async with _Reader(self._kafka, EVIDENCE, GROUP) as reader:
            while True:
                batch = await reader.next(_AT_ONCE)
                if sum(map(len, batch.values())) == _AT_ONCE:
                    self._behind.set()
                else:
                    self._behind.clear()
                if batch:
                    await self._through(reader, publisher, batch)

    async def _restated(self, publisher: Publisher) -> None:
        """In small pieces, a bounded number a second, and few while news wait: a thousand collectors may start."""
        loop = asyncio.get_running_loop()
        async with _Reader(self._kafka, RESTATED, f"{GROUP}.restated") as reader:
            while True:
                batch = await reader.next(_PIECE)
                if not batch:
                    continue
                if self._behind.is_set():
                    await asyncio.sleep(_BEHIND_SECONDS)
                began = loop.time()
                await self._through(reader, publisher, batch)
                await asyncio.sleep(began + sum(map(len, batch.values())) / RESTATED_PER_SECOND - loop.time())

    async def _through(self, reader: "_Reader", publisher: Publisher, batch: Batch) -> None:
        began, notes = asyncio.get_running_loop().time(), self._kafka.notes
        async with reader.busy:
            judged = list(self._judging.messages(record for records in batch.values() for record in records))
            reports = self._judging.taken()
            await publisher.send(judged)
            notes.judged(reports, sum(map(len, batch.values())), asyncio.get_running_loop().time() - began)
            offsets = {place: records[-1].offset + 1 for place, records in batch.items()}
            if not await commit(reader.consumer, offsets):
                notes.commit_failed()


class _Reader:
    """A consumer of one topic. Whoever takes over a partition begins where we ended: what is at work is ended first."""

    def __init__(self, kafka: Kafka, topic: Topic, group: str) -> None:
        self._kafka = kafka
        self.consumer = kafka.consumer(group=group)
        self.busy = asyncio.Lock()
        self._look = partial(lags, self.consumer)
        self.consumer.subscribe(
            [kafka.name(topic)], listener=_Draining(self.busy, partial(kafka.notes.said, topic.name))
        )

    async def __aenter__(self) -> "_Reader":
        await self.consumer.start()
        self._kafka.looks.append(self._look)
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._kafka.looks.remove(self._look)
        await self.consumer.stop()

    async def next(self, most: int) -> Batch:
        """What there is, by partition; nothing where there was none for a while."""
        batch: Batch = await self.consumer.getmany(timeout_ms=500, max_records=most)
        self._kafka.came(batch)
        return batch


class _Draining(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, busy: asyncio.Lock, say: Callable[[str], None]) -> None:
        self._busy, self._say = busy, say

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._say(JOINING)
        try:
            async with asyncio.timeout(_DRAIN_SECONDS), self._busy:
                pass
        except TimeoutError:
            log.info("what is at work did not end in time; another worker does it again")

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._say("")  # also where there is none for us: so we stand by
        log.info("%d partitions are ours", len(list(assigned)))


async def commit(consumer: Any, offsets: dict[TopicPartition, int]) -> bool:
    """What is through is through. A partition that was taken from us is another worker's, who does it again."""
    try:
        await consumer.commit(offsets)
        return True
    except (CommitFailedError, IllegalStateError):
        log.info("a partition went to another worker before its offset was committed; it does some again")
    except KafkaError as error:
        log.info("cannot commit now (%s); it goes with the next batch", error)
    return False
