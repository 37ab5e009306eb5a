"""Workers of sinks as processes that can be killed: `python -m tests.live.delivering CONFIG NAME SESSION`."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError

from infra.testbed.processes import Process
from kubewhy.cli.stopping import until_stopped
from kubewhy.events import decode, message
from kubewhy.records import DeadLetter, Finding, Ref
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.remembered import between
from kubewhy.runtime.fleet.sinking import deliver
from kubewhy.settings import Settings, load
from kubewhy.topics import DEAD_LETTERS, FINDINGS, SINK_STATE, TOPICS
from tests.views import told, view

PARTITIONS = 4
SESSION = 2.0  # seconds


class Member(NamedTuple):
    """As the group has it."""

    known: str
    partitions: int


class Bench:
    """One fleet's topics, and workers of its sinks."""

    def __init__(self, folder: Path, bootstrap: str, sinks: Sequence[Mapping[str, Any]], **more: Any) -> None:
        brokers = {"servers": [bootstrap], "prefix": f"{uuid4().hex}.", "partitions": PARTITIONS, "replication": 1}
        self.config = folder / "kubewhy.yaml"
        self.config.write_text(json.dumps({"kafka": brokers, "sinks": list(sinks), **more}))
        self.settings: Settings = load(self.config)
        assert self.settings.kafka
        self.kafka = Kafka(self.settings.kafka, {}, "test")
        self.workers: dict[str, Process] = {}
        self._folder = folder

    def start(self, sink: str, called: str = "", session: float = SESSION) -> Process:
        """A worker of that sink. One that has ended is started again."""
        called = called or sink
        if called not in self.workers:
            command: list[str | Path] = [sys.executable, "-m", "tests.live.delivering", self.config, sink, str(session)]
            self.workers[called] = Process(called, command, self._folder / f"{called}.log")
        self.workers[called].start()
        return self.workers[called]

    def said(self, worker: str) -> str:
        """What it has written to its log."""
        return self.workers[worker].log.read_text()

    async def publish(self, findings: Iterable[Finding], seconds: float = 0.0) -> None:
        """Evenly over so many seconds."""
        messages = [message(finding) for finding in findings]
        async with self.publisher() as publisher:
            begun = time.monotonic()
            for number, each in enumerate(messages if seconds else ()):
                await asyncio.sleep(begun + seconds * number / len(messages) - time.monotonic())
                await publisher.send([each])
            if not seconds:
                await publisher.send(messages)

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        async with self.kafka.producer() as producer:
            yield Publisher(self.kafka, producer)

    async def left(self, sink: str) -> int:
        """How many records the sink's group has not committed yet."""
        async with self.kafka.consumer(group=f"sink.{sink}") as consumer:
            parts = [TopicPartition(self.kafka.name(FINDINGS), number) for number in range(PARTITIONS)]
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            return sum([ends[part] - (await consumer.committed(part) or 0) for part in parts])

    async def members(self, sink: str) -> dict[int, "Member"]:
        """Who is in the sink's group, by the process ids."""
        admin = self.kafka.admin()
        await admin.start()
        try:
            [said] = await admin.describe_consumer_groups([self.kafka.group(f"sink.{sink}")])
        except GroupCoordinatorNotAvailableError:
            return {}  # there was no group at all yet
        finally:
            await admin.close()
        return {
            int(client.rpartition("-")[2]): Member(
                known,
                sum(len(its) for _, its in ConsumerProtocolMemberAssignment.decode(told).assignment) if told else 0,
            )
            for known, client, _, _, told in said.groups[0][5]
        }

    async def dead(self) -> list[DeadLetter]:
        """All that was set aside."""
        found = [record async for record in between(self.kafka, DEAD_LETTERS, {0: 0})]
        return [decode(DEAD_LETTERS, record.value, record.headers) for record in found]

    async def remembered(self) -> dict[bytes, bytes]:
        """The rows of all sinks."""
        rows = dict[bytes, bytes]()
        async for record in between(self.kafka, SINK_STATE, {0: 0}):
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
        return rows


@asynccontextmanager
async def benched(
    folder: Path, bootstrap: str, sinks: Sequence[Mapping[str, Any]], **more: Any
) -> AsyncIterator[Bench]:
    bench = Bench(folder, bootstrap, sinks, **more)
    await create(bench.kafka, TOPICS)
    try:
        yield bench
    finally:
        for worker in bench.workers.values():
            await asyncio.to_thread(worker.stop, 20)


def story(incident: int, transitions: int, begin: datetime, cluster: str = "c") -> Iterator[Finding]:
    """One incident from its opening to its end, a second a transition."""
    shown = view(told(Ref("Pod", f"web-{incident}", "shop")), id=f"i{incident}", cluster=cluster)
    for revision in range(1, transitions + 1):
        at, over = begin + timedelta(seconds=revision), revision == transitions
        transition = "opened" if revision == 1 else "resolved" if over else "updated"
        state = {"state": "resolved", "resolved_at": at, "resolution": "recovered"} if over else {}
        seen = view(
            *shown.failures,
            **{"id": shown.id, "cluster": shown.cluster, "title": f"it crashes for the {revision}. time", **state},
        )
        yield Finding(id=f"f{incident}-{revision}", transition=transition, at=at, revision=revision, incident=seen)


def stories(incidents: int, transitions: int, *, at_once: int = 8, clusters: int = 6) -> list[Finding]:
    """Several at a time, each in its order, an hour ago."""
    begin = datetime.now(UTC) - timedelta(hours=1)
    every = [
        list(story(number, transitions, begin + timedelta(seconds=number), f"c{number % clusters}"))
        for number in range(incidents)
    ]
    findings = []
    for first in range(0, incidents, at_once):
        findings += [each for step in zip(*every[first : first + at_once], strict=True) for each in step]
    return findings


async def until(check: Any, seconds: float) -> None:
    """Waits for it to be true."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                done = check()
                if await done if asyncio.iscoroutine(done) else done:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} seconds") from None


def main(config: Path, name: str, session: float) -> None:
    settings = load(config)
    assert settings.kafka
    kafka = Kafka(settings.kafka, os.environ, f"{name}-{os.getpid()}")
    asyncio.run(until_stopped(deliver(kafka, settings, name, os.environ, session)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
