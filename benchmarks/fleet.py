"""The fleet's stages against a real broker: how many records a second one worker of each role takes."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from aiokafka import TopicPartition
from msgspec.structs import replace

from analyzers import enabled
from benchmarks import simulated
from benchmarks.cluster import Bench
from benchmarks.programs import python, run
from benchmarks.table import Row, at_least
from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.store import Store, kinds_read
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker, kafka
from kubewhy.brokers import BrokerSettings
from kubewhy.events import Message, message
from kubewhy.kube.core import Pod
from kubewhy.records import Evidence, Heartbeat, Report, Version, encode
from kubewhy.runtime.fleet.collecting import Collecting
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import EVIDENCE, FAILURES, TOPICS, Topic

CLUSTERS, PARTITIONS = 20, 4
_PODS = 2_000
RECORDS = 100_000
OPEN = 5_000
ANALYZED, COLLECTED, EXPLAINED = 10_000, 5_000, 5_000  # a second
_BETWEEN = 0.1  # seconds between two looks
_FIRST, _LAST = 0.1, 0.9  # of the records: what is measured lies between


def fleet(bench: Bench) -> Iterator[Row]:
    """One worker after the other, each a process of its own, on topics that were filled before."""
    with TemporaryDirectory() as folder, kafka(Path(folder)) as broker:
        yield from _analyzers(Path(folder), broker)
        yield from _explainer(Path(folder), broker)
        yield from _collector(broker)


def _analyzers(folder: Path, broker: Broker) -> Iterator[Row]:
    records = simulated.evidence()
    size = sum(len(msgspec.json.encode(each)) for each in records) / len(records)
    wire = [message(each) for number in range(CLUSTERS) for each in simulated.said_by(records, f"c{number}", 1, 1)]
    name = f"worker analyzer, evidence of {size / 1000:.1f} KB"

    def measured(workers: int) -> float:
        one = _made(folder, broker, f"analyzers{workers}.")
        asyncio.run(filled(brokers(load(one.config), {}, "bench"), wire, RECORDS))
        return worked(one, "analyzer", "analyzers", EVIDENCE, RECORDS, workers)

    alone, two = measured(1), measured(2)
    plain = _plain(_made(folder, broker, "plain."), wire, EVIDENCE)
    yield at_least(name, alone, alone / plain, "aiokafka that decodes and sends on", ANALYZED)
    cores = os.cpu_count() or 1
    figure = f"{two:,.0f} a second"
    yield Row(
        f"two of them, with the broker on {cores} cores", figure, f"{two / alone:.1f} x one", "1.7 x where cores allow"
    )


def _explainer(folder: Path, broker: Broker) -> Iterator[Row]:
    one = _made(folder, broker, "explainer.")
    wire = list(map(message, _reports()))
    opening = OPEN + CLUSTERS
    asyncio.run(filled(brokers(load(one.config), {}, "bench"), wire, len(wire)))
    told = worked(one, "explainer", "explainer", FAILURES, len(wire), 1, opening, "--no-hold")
    plain = _plain(_made(folder, broker, "explained."), wire, FAILURES)
    name = f"worker explainer, {OPEN:,} open, 95 % unchanged"
    yield at_least(name, told, told / plain, "aiokafka that decodes and sends on", EXPLAINED)


def _reports() -> Iterator[Report | Heartbeat]:
    """As many incidents as are to be open, and then reports of which one in twenty says something else than before."""
    found = [each for each in simulated.reports(simulated.evidence()) if each.failures]
    now = datetime.now(UTC)
    for number in range(CLUSTERS):
        yield Heartbeat(cluster=f"c{number}", version=Version(1, 0), observed_at=now)

    def failing(number: int, seq: int, *, other: bool) -> Report:
        report = found[number % len(found)]
        name = f"web-{number % OPEN:05}"
        ref, root = replace(report.ref, name=name), replace(report.root, name=name)
        failures = tuple(
            replace(each, reason="Other" if other else each.reason, cause=None) for each in report.failures[:1]
        )
        cluster, version = f"c{number % CLUSTERS}", Version(1, seq)
        return replace(report, cluster=cluster, version=version, ref=ref, root=root, failures=failures, changes=())

    for number in range(OPEN):
        yield failing(number, number + 1, other=False)
    for number in range(RECORDS):
        place = number % OPEN
        yield failing(place, OPEN + number + 1, other=number % 20 == 0 and number // OPEN % 2 == 0)


def _collector(broker: Broker) -> Iterator[Row]:
    told = msgspec.json.decode(run(python("benchmarks.fleet", "collector", broker.bootstrap)).output, type=list[float])
    ours, plain = told
    yield at_least(
        "worker collector, changes published", ours, ours / plain, "aiokafka that encodes and sends", COLLECTED
    )


def _made(folder: Path, broker: Broker, prefix: str) -> Fleet:
    """A fleet of its own, with topics and without workers."""
    place = folder / prefix.strip(".")
    place.mkdir()
    one = Fleet(place, broker, {}, prefix=prefix, partitions=PARTITIONS)
    asyncio.run(create(brokers(load(one.config), {}, "bench"), TOPICS))
    return one


async def filled(known: Kafka, wire: Sequence[Message], count: int) -> None:
    async with known.producer() as producer:
        publisher = Publisher(known, producer)
        for begin in range(0, count, 2000):
            await publisher.send(wire[number % len(wire)] for number in range(begin, min(begin + 2000, count)))


def worked(
    one: Fleet, role: str, group: str, topic: Topic, count: int, workers: int, skipped: int = 0, *flags: str
) -> float:
    """Records a second, from what is committed, between a tenth and nine tenths of them."""
    started = [one.start(role, role, *flags) for _ in range(workers)]
    known = brokers(load(one.config), {}, "bench")
    try:
        return asyncio.run(_rate(known, group, topic, skipped + (count - skipped) * _FIRST, count * _LAST))
    finally:
        for worker in started:
            worker.stop(20)


async def _rate(known: Kafka, group: str, topic: Topic, first: float, last: float) -> float:
    places = [TopicPartition(known.name(topic), number) for number in range(known.partitions(topic))]
    async with known.consumer(group=group) as consumer:
        consumer.assign(places)
        begun: tuple[float, int] | None = None
        while True:
            done = sum([await consumer.committed(place) or 0 for place in places])
            now = time.perf_counter()
            if begun is None and done >= first:
                begun = now, done
            if begun and done >= last:
                return (done - begun[1]) / (now - begun[0])
            await asyncio.sleep(_BETWEEN)


def _plain(one: Fleet, wire: Sequence[Message], topic: Topic) -> float:
    """The least of the same, by the same library, in a process of its own."""
    known = brokers(load(one.config), {}, "bench")
    asyncio.run(filled(known, wire, RECORDS))
    return float(run(python("benchmarks.fleet", "plain", one.config, topic.name)).output)


async def _through(config: Path, name: str) -> float:
    known = brokers(load(config), {}, "bench")
    topic = next(each for each in TOPICS if each.name == name)
    out, done, begun = known.name(FAILURES if topic is EVIDENCE else EVIDENCE), 0, 0.0
    async with known.consumer(topic, group="plain") as consumer, known.producer() as producer:
        while done < RECORDS * _LAST:
            batch = await consumer.getmany(timeout_ms=500, max_records=2000)
            begun = begun or time.perf_counter()
            records = [record for each in batch.values() for record in each]
            sent = []
            for record in records:
                json.loads(record.value)
                sent.append(await producer.send(out, record.value[:300], record.key, headers=list(record.headers)))
            await asyncio.gather(*sent)
            if records:
                await consumer.commit()
            done += len(records)
    return done / (time.perf_counter() - begun)


class _Changing:
    """A source of which pod after pod changes: what a watch would tell goes into its store, as fast as it is asked."""

    waiting = 0

    def __init__(self, changes: int) -> None:
        judged = enabled()
        self._touched: list[Key] = []
        self._store, self._changes = Store(judged, self._touched.append), changes
        now = datetime.now(UTC)
        for kind in kinds_read(judged):
            self._store.begin(kind.resource, None, now)
            self._store.synced(kind.resource, None, now)
        self._pods = [[simulated.pod(number, trouble) for number in range(_PODS)] for trouble in (None, "unready")]
        self._told: dict[Key, int] = {}
        self.published, self.begun, self.over = 0, 0.0, asyncio.Event()

    async def evidence(self) -> AsyncGenerator[Evidence, None]:
        self.begun, now = time.perf_counter(), datetime.now(UTC)
        for number in range(self._changes):
            lap, place = divmod(number, _PODS)
            self._touched.clear()
            self._store.put(Pod.resource, self._pods[lap % 2][place], now)
            for key in self._touched:
                told = gather(self._store, key, cluster="bench", version=Version(1, number), server="v1.35.4")
                content = content_hash(told)
                if self._told.get(key) != content:
                    self._told[key] = content
                    self.published += 1
                    yield told
        self.over.set()
        await asyncio.Event().wait()

    def lost(self, evidence: Evidence) -> None:
        raise RuntimeError("the broker has lost something")


async def _collected(bootstrap: str) -> list[float]:
    """Changes a second, ours and those of the bare library."""
    known = await _topics(bootstrap, "collector.")
    source = _Changing(RECORDS // 2)

    def start(term: int) -> _Changing:
        return source

    collecting = Collecting(known, "bench", start, member="bench", clock=lambda: datetime.now(UTC))
    work = asyncio.create_task(collecting.run())
    await source.over.wait()
    places = [TopicPartition(known.name(EVIDENCE), number) for number in range(PARTITIONS)]
    async with known.consumer() as consumer:
        consumer.assign(places)
        while sum((await consumer.end_offsets(places)).values()) < source.published:
            await consumer.getmany(timeout_ms=10)
    ours = source.published / (time.perf_counter() - source.begun)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    records, begun = simulated.evidence(), time.perf_counter()
    async with known.producer() as producer:
        for number in range(0, RECORDS // 2, 500):
            told = [records[(number + each) % len(records)] for each in range(500)]
            sent = [await producer.send(known.name(EVIDENCE), encode(each), each.ref.name.encode()) for each in told]
            await asyncio.gather(*sent)
    return [ours, RECORDS // 2 / (time.perf_counter() - begun)]


async def _topics(bootstrap: str, prefix: str) -> Kafka:
    settings = BrokerSettings(servers=(bootstrap,), prefix=prefix, partitions=PARTITIONS, replication=1)
    known = Kafka(settings, {}, "bench")
    await create(known, TOPICS)
    return known


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["plain", config, name]:
            print(asyncio.run(_through(Path(config), name)))
        case ["collector", address]:
            print(json.dumps(asyncio.run(_collected(address))))
