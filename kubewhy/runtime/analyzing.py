"""Analyzer workers: evidence from Kafka, reports to Kafka. They remember nothing, so they may come and go."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from analyzers.stage import AnalyzerStage
from kubewhy.contracts import Analyzer
from kubewhy.errors import Rejected
from kubewhy.events import Message, decode, message
from kubewhy.records import Evidence, Report
from kubewhy.runtime.kafka import Kafka
from kubewhy.runtime.publishing import Publisher, appended, dead
from kubewhy.topics import EVIDENCE

log = logging.getLogger(__name__)

GROUP = "analyzers"
_AT_ONCE = 2000  # records
_DRAIN_SECONDS = 10.0


class Judging:
    """One batch to another: a report for each piece of evidence, and a dead letter for what is none. Pure."""

    def __init__(self, analyzers: Iterable[Analyzer[Any]]) -> None:
        self._stage = AnalyzerStage(analyzers)

    def messages(self, records: Iterable[Any]) -> Iterator[Message]:
        """What these records of a consumer come to. Each has a topic, partition, offset, key, value and headers."""
        for record in records:
            try:
                evidence: Evidence = decode(EVIDENCE, record.value, record.headers)
                reports = list(self._stage.feed(evidence, appended(record)))
            except Rejected as error:
                yield dead("analyzer", str(error), record)
                continue
            for report in reports:
                yield message(report)
                if report.broken:
                    yield dead("analyzer", _broken(report), record)


def _broken(report: Report) -> str:
    return f"the analyzer of {', '.join(report.broken)} raised: this is a bug in kubewhy, or in what was added to it"


async def analyze(kafka: Kafka, analyzers: Iterable[Analyzer[Any]], done: Callable[[int], None]) -> None:
    """Until cancelled. `done` is told how many records are through, with each batch."""
    judging = Judging(analyzers)
    busy = asyncio.Lock()

    class Draining(ConsumerRebalanceListener):  # type: ignore[misc]
        """Whoever takes over a partition begins where we ended: what is at work is brought to its end first."""

        async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS), busy:
                    pass
            except TimeoutError:
                log.info("what is at work did not end in time; another worker does it again")

        async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
            log.info("%d partitions are ours", len(list(assigned)))

    consumer = kafka.consumer(group=GROUP)
    consumer.subscribe([kafka.name(EVIDENCE)], listener=Draining())
    async with consumer, kafka.producer() as producer:
        publisher = Publisher(kafka, producer)
        while True:
            batch = await consumer.getmany(timeout_ms=500, max_records=_AT_ONCE)
            if not batch:
                continue
            async with busy:
                await publisher.send(message for records in batch.values() for message in judging.messages(records))
                await commit(consumer, {place: records[-1].offset + 1 for place, records in batch.items()})
            done(sum(map(len, batch.values())))


async def commit(consumer: Any, offsets: dict[TopicPartition, int]) -> None:
    """What is through is through. A partition that was taken from us is another worker's, who does it again."""
    try:
        await consumer.commit(offsets)
    except (CommitFailedError, IllegalStateError):
        log.info("a partition went to another worker before its offset was committed; it does some again")
    except KafkaError as error:
        log.info("cannot commit now (%s); it goes with the next batch", error)
