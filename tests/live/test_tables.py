"""The explainer's state on a Faust table: nothing is lost, skipped or left behind, however workers come and go."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path
from subprocess import DEVNULL, Popen
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from infra.testbed.kafka import Broker
from kubewhy.brokers import BrokerSettings
from kubewhy.runtime.kafka import Kafka
from kubewhy.runtime.keeping import Rows
from kubewhy.topics import FAILURES, FINDINGS, INCIDENTS, TOPICS, Topic
from tests.live.counting import END, FED, TICK, changed, finding

pytestmark = pytest.mark.live

PARTITIONS = 4
OBJECTS = 5_000
REPORTS_PER_SECOND = 5_000
AHEAD = 100_000  # reports that may wait
REBALANCES = int(os.environ.get("REBALANCES", "20"))
STALLED_SECONDS = 30.0
LEFT_BEHIND_SECONDS = 10.0
CHANGED = 0.05
STATE = 300  # bytes


async def made(broker: Broker, partitions: int = PARTITIONS) -> Kafka:
    """A Kafka with topics of its own."""
    settings = BrokerSettings(
        servers=(broker.bootstrap,), prefix=f"{uuid4().hex}.", partitions=partitions, replication=1
    )
    kafka = Kafka(settings, {}, "test")
    admin = kafka.admin()
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(kafka.name(topic), partitions if topic.spread else 1, 1, topic_configs=topic.config)
                for topic in TOPICS
            ]
        )
    finally:
        await admin.close()
    return kafka


class Workers:
    """Processes of tests.live.counting."""

    def __init__(self, kafka: Kafka, folder: Path) -> None:
        self._kafka, self._folder = kafka, folder
        self._names = count()
        self.running: list[Popen[bytes]] = []

    def start(self) -> Path:
        """Returns where it writes what it does."""
        path = self._folder / f"worker-{next(self._names)}"
        settings = self._kafka.settings
        told = [*settings.servers, settings.prefix, str(settings.partitions), str(path)]
        with path.with_suffix(".err").open("wb") as errors:
            self.running.append(
                Popen([sys.executable, "-m", "tests.live.counting", *told], stdout=DEVNULL, stderr=errors)
            )
        return path

    async def joined(self, path: Path, seconds: float) -> None:
        """Returns when it has a partition; or when it takes too long."""
        for _ in range(int(seconds / 0.2)):
            await asyncio.sleep(0.2)
            if self._has_begun(path):
                return

    @staticmethod
    def _has_begun(path: Path) -> bool:
        return path.exists() and b"begin" in path.read_bytes()

    async def end(self, worker: "Popen[bytes]", how: signal.Signals) -> None:
        worker.send_signal(how)
        self.running.remove(worker)
        code = await asyncio.to_thread(worker.wait, 30)
        # On a busy machine it may not have begun to listen.
        assert code in (-how, 0)

    async def stop(self) -> None:
        for worker in list(self.running):
            await self.end(worker, signal.SIGTERM)

    def notes(self) -> list[dict[str, object]]:
        return [
            json.loads(line)
            for path in sorted(self._folder.glob("worker-*"))
            if not path.suffix
            for line in path.read_text().splitlines()
        ]

    def fed(self) -> list[tuple[int, int, float]]:
        """What was fed, and when."""
        return [
            each
            for path in self._folder.glob("*.fed")
            for each in FED.iter_unpack(path.read_bytes()[: path.stat().st_size // FED.size * FED.size])
        ]

    def fed_count(self) -> int:
        """At the least how many there were; some may be counted again."""
        return sum(path.stat().st_size for path in self._folder.glob("*.fed")) // FED.size

    def errors(self) -> str:
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.err")))


@asynccontextmanager
async def workers_of(kafka: Kafka, folder: Path) -> AsyncIterator[Workers]:
    workers = Workers(kafka, folder)
    try:
        yield workers
    finally:
        for worker in workers.running:
            worker.kill()


class Load:
    """Reports of objects at an even pace, most of which say what is known; never too far ahead of the workers."""

    def __init__(self, kafka: Kafka, workers: Workers) -> None:
        self._kafka, self._workers = kafka, workers
        self.sent, self.seconds, self.ended = 0, 0.0, False

    async def run(self) -> None:
        chance = random.Random(1)
        topic = self._kafka.name(FAILURES)
        states: dict[int, bytes] = {}
        began = time.monotonic()
        async with self._kafka.producer() as producer:
            while not self.ended:
                await asyncio.sleep(0.05)
                due = min(int((time.monotonic() - began) * REPORTS_PER_SECOND), self._workers.fed_count() + AHEAD)
                for _ in range(due - self.sent):
                    known = chance.randrange(OBJECTS)
                    if known not in states or chance.random() < CHANGED:
                        states[known] = chance.randbytes(STATE // 2).hex().encode()
                    await producer.send(topic, states[known], b"object-%d" % known, known % PARTITIONS)
                self.sent = max(self.sent, due)
            for partition in range(PARTITIONS):
                await producer.send(topic, b"ended", END, partition)
            await producer.flush()
        self.seconds = time.monotonic() - began


async def content(kafka: Kafka, topic: Topic) -> dict[int, list[tuple[int, bytes, bytes | None]]]:
    """All that is in a topic, by partition."""
    consumer = kafka.consumer()
    async with consumer:
        places = [TopicPartition(kafka.name(topic), place) for place in range(kafka.partitions(topic))]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(places)
        told: dict[int, list[tuple[int, bytes, bytes | None]]] = {place.partition: [] for place in places}
        while any([await consumer.position(place) < ends[place] for place in places]):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                told[place.partition] += [(record.offset, record.key, record.value) for record in records]
    return told


async def committed(kafka: Kafka) -> tuple[dict[int, int], dict[int, int]]:
    """Up to where each partition is committed, and where it ends."""
    consumer = kafka.consumer()
    async with consumer:
        places = [TopicPartition(kafka.name(FAILURES), place) for place in range(kafka.partitions(FAILURES))]
        ends = await consumer.end_offsets(places)
    admin = kafka.admin()
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(kafka.group("explainer"))
    finally:
        await admin.close()
    return (
        {place.partition: offsets[place].offset if place in offsets else 0 for place in places},
        {place.partition: end for place, end in ends.items()},
    )


async def caught_up(kafka: Kafka, workers: Workers) -> tuple[float, float]:
    """How long it takes until all is fed, and then until all is committed."""
    began = moved = time.monotonic()
    before = 0
    while workers.fed_count() < sum((await committed(kafka))[1].values()):
        if workers.fed_count() > before:
            before, moved = workers.fed_count(), time.monotonic()
        assert time.monotonic() < moved + STALLED_SECONDS, f"{before} were fed, and no more; {await committed(kafka)}"
        await asyncio.sleep(0.2)
    fed = time.monotonic()
    while True:
        done, ends = await committed(kafka)
        if done == ends:
            return fed - began, time.monotonic() - fed
        assert time.monotonic() < fed + LEFT_BEHIND_SECONDS, f"committed {done} of {ends}"
        await asyncio.sleep(0.2)


def folded(records: Sequence[tuple[int, bytes, bytes | None]]) -> tuple[dict[str, bytes], list[bytes]]:
    """What a plain loop makes of the same: rows and findings."""
    rows: dict[str, bytes] = {}
    findings = []
    for _, key, value in records:
        if key == TICK:
            continue
        assert value is not None
        if row := changed(rows.get(key.decode()), value):
            rows[key.decode()] = row
            findings.append(finding(key, row))
    return rows, findings


async def come_and_go(workers: Workers, rebalances: int) -> Counter[str]:
    """Joins, clean leaves and kills, in any order, with one to three at work; now and then one upon the other."""
    chance = random.Random(2)
    happened: Counter[str] = Counter()
    for _ in range(rebalances):
        await asyncio.sleep(chance.uniform(1, 4))
        here = len(workers.running)
        if here == 1 or (here == 2 and chance.random() < 0.5):
            await workers.joined(workers.start(), chance.choice((1, 20)))
            happened["join"] += 1
        elif chance.random() < 0.5:
            await workers.end(chance.choice(workers.running), signal.SIGTERM)
            happened["leave"] += 1
        else:
            await workers.end(chance.choice(workers.running), signal.SIGKILL)
            happened["kill"] += 1
    return happened


async def test_nothing_is_lost_or_left_behind_however_workers_come_and_go(broker: Broker, tmp_path: Path) -> None:
    kafka = await made(broker)
    async with workers_of(kafka, tmp_path) as workers:
        workers.start()
        load = Load(kafka, workers)
        loading = asyncio.create_task(load.run())
        happened = await come_and_go(workers, REBALANCES)
        load.ended = True
        await loading
        # A worker that was killed is missed for as long as a session lasts.
        to_feed, to_commit = await caught_up(kafka, workers)
        await workers.stop()
    trace = workers.fed()
    fed = Counter((partition, offset) for partition, offset, _ in trace)
    reports, findings, changelog = [await content(kafka, topic) for topic in (FAILURES, FINDINGS, INCIDENTS)]
    told = sum(map(len, findings.values()))
    wanted = 0
    for partition in range(PARTITIONS):
        assert all(fed[partition, offset] for offset, _, _ in reports[partition]), "committed, and never fed"
        rows, expected = folded(reports[partition])
        assert kept(partition, changelog[partition]).rows == rows
        assert set(expected) == {value for _, _, value in findings[partition]}
        wanted += len(expected)
    again = sum(times - 1 for times in fed.values())
    print(
        f"\n{load.sent} reports, {load.sent / load.seconds:.0f} a second; {dict(happened)}; {again} fed again, "
        f"{told - wanted} of {wanted} findings told again; longest pause of a partition {pause(trace):.1f} s; "
        f"{to_feed:.1f} s to the end, {to_commit:.1f} s to commit it"
    )
    assert workers.errors() == ""


def pause(trace: Sequence[tuple[int, int, float]]) -> float:
    """The longest time in which nothing of some partition was fed."""
    times = [sorted(at for place, _, at in trace if place == partition) for partition in range(PARTITIONS)]
    return max(later - earlier for each in times for earlier, later in pairwise(each))


def kept(partition: int, changelog: Sequence[tuple[int, bytes, bytes | None]]) -> Rows:
    rows = Rows(partition)
    for offset, key, value in changelog:
        assert key is not None
        rows.take(offset, key, value)
    return rows
