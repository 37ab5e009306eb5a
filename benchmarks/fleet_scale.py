"""Many clusters at once: what they cost when all of them start, and when they go on; and what waits for whom then."""

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from aiokafka import TopicPartition
from msgspec import Raw
from msgspec.structs import replace

from benchmarks import simulated
from benchmarks.cluster import Bench
from benchmarks.programs import Started, python
from benchmarks.table import Row
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker, kafka
from kubewhy.brokers import BrokerSettings
from kubewhy.errors import Rejected
from kubewhy.events import FLEET, decode, message
from kubewhy.records import Evidence, Finding, Heartbeat, Inventory, Version, key_hash
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.tailing import Tail, until_now
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import EVIDENCE, FAILURES, FINDINGS, RESTATED, TOPICS, Topic

CLUSTERS, PARTITIONS = 200, 12
_CHANGING = 0.01  # of a cluster's pods, in a minute
_RESTATED_SECONDS, _INVENTORY_SECONDS, _BEAT_SECONDS = 1800.0, 600, 10.0
_RATE = 20.0  # live changes a second, in one more cluster
_ALONE, _STORM, _STEADY = 20.0, 60.0, 120.0  # seconds
_SLOW = 2.0  # seconds, of 99 live changes in a hundred
_LIVE = "live"
Said = Evidence | Inventory | Heartbeat
Made = dict[tuple[str, bool], list[float]]


def scale(bench: Bench) -> Iterator[Row]:
    """One analyzer and one explainer for all of them."""
    with TemporaryDirectory() as folder, kafka(Path(folder)) as broker:
        fleet = Fleet(Path(folder), broker, {}, prefix="scale.", partitions=PARTITIONS)
        known = brokers(load(fleet.config), {}, "bench")
        asyncio.run(create(known, TOPICS))
        fleet.start("analyzer", "analyzer")
        fleet.start("explainer", "explainer", "--no-hold")
        try:
            yield from _measured(fleet, known, broker, CLUSTERS if bench.seconds > 30 else CLUSTERS // 10)
        finally:
            fleet.stop()


def _measured(fleet: Fleet, known: Kafka, broker: Broker, clusters: int) -> Iterator[Row]:
    live = python("benchmarks.fleet_scale", "live", broker.bootstrap)
    many = python("benchmarks.fleet_scale", "many", broker.bootstrap, str(clusters))
    made: Made = {}

    def hear(line: bytes, at: float) -> None:
        name, broken, when = json.loads(line)
        made.setdefault((name, broken), []).append(when)

    with Started(live, hear):
        time.sleep(10 + _ALONE)
        begun = time.time()
        alone = asyncio.run(_delays(known, made, begun - _ALONE, begun))
        with Started(many):
            time.sleep(_STORM)
            storm = asyncio.run(_delays(known, made, begun, begun + _STORM))
            objects = clusters * (simulated.PODS + 10)
            name = f"live change to finding, p99, while {clusters} clusters start at once ({objects:,} objects)"
            yield Row(
                name,
                f"{storm * 1000:.0f} ms",
                f"{alone * 1000:.0f} ms before",
                f"at most {_SLOW * 1000:.0f} ms",
                storm <= _SLOW,
            )
            behind = asyncio.run(_caught_up(known))
            yield Row(
                "until all of that is judged",
                f"{time.time() - begun:.0f} s",
                f"{behind:,} records were left after a minute",
            )
            yield from _steady(fleet, known, broker, clusters)


def _steady(fleet: Fleet, known: Kafka, broker: Broker, clusters: int) -> Iterator[Row]:
    processes = {name: psutil.Process(worker.pid) for name, worker in fleet.workers.items() if worker.running}
    processes["the broker"] = psutil.Process(broker.pid)
    topics = (EVIDENCE, RESTATED, FAILURES, FINDINGS)
    before = {name: sum(each.cpu_times()[:2]) for name, each in processes.items()}
    held = {topic.name: _held(fleet.folder, known.name(topic)) for topic in topics}
    counted, begun = asyncio.run(_counted(known, topics)), time.time()
    time.sleep(_STEADY)
    took, after = time.time() - begun, asyncio.run(_counted(known, topics))
    for topic in topics:
        each = (after[topic.name] - counted[topic.name]) / took
        size = (_held(fleet.folder, known.name(topic)) - held[topic.name]) / took / 1000
        figure = f"{each:,.0f} records, {size:,.0f} KB a second"
        yield Row(f"{clusters} clusters of {simulated.PODS} pods: {topic.name}", figure)
    for name, process in processes.items():
        cpu = (sum(process.cpu_times()[:2]) - before[name]) / took
        memory = process.memory_info().rss / 2**20
        yield Row(
            f"{clusters} clusters of {simulated.PODS} pods: {name}", f"{cpu * 100:.0f} % of a core, {memory:.0f} MiB"
        )
    lag = asyncio.run(_behind(known))
    yield Row("records that wait then", f"{lag:,}", limit="at most 1,000", met=lag <= 1000)


def _held(folder: Path, name: str) -> int:
    """Bytes that the broker keeps of that topic, as they were packed."""
    return sum(each.stat().st_size for each in folder.rglob("*.log") if each.parent.name.startswith(name))


async def _delays(known: Kafka, made: Made, since: float, until: float) -> float:
    """Seconds from the change to the finding that tells of it, by the broker's clock, of 99 in a hundred.

    What nobody was told of by then has waited until then at the least.
    """
    told: dict[tuple[tuple[str, bool], float], float] = {}
    for record in await until_now(Tail(known, FINDINGS)):
        try:
            finding: Finding = decode(FINDINGS, record.value, record.headers)
        except Rejected:
            continue
        incident, at = finding.incident, record.timestamp / 1000
        if incident.cluster != _LIVE or not since <= at < until or finding.transition not in ("opened", "resolved"):
            continue
        change = incident.root.name, finding.transition == "opened"
        if times := [each for each in made.get(change, ()) if each <= at]:
            told.setdefault((change, max(times)), at - max(times))
    waited = [
        until - each
        for change, times in list(made.items())
        for each in times
        if since <= each < until and (change, each) not in told
    ]
    slowest: float = quantiles([*told.values(), *waited], n=100)[98]
    return slowest


async def _counted(known: Kafka, topics: tuple[Topic, ...]) -> dict[str, int]:
    async with known.consumer() as consumer:
        return {
            topic.name: sum(
                (await consumer.end_offsets([TopicPartition(known.name(topic), n) for n in range(PARTITIONS)])).values()
            )
            for topic in topics
        }


async def _behind(known: Kafka) -> int:
    behind = 0
    for group, topic in (("analyzers", EVIDENCE), ("analyzers.restated", RESTATED), ("explainer", FAILURES)):
        places = [TopicPartition(known.name(topic), number) for number in range(PARTITIONS)]
        async with known.consumer(group=group) as consumer:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            behind += sum([ends[place] - (await consumer.committed(place) or 0) for place in places])
    return behind


async def _caught_up(known: Kafka) -> int:
    first = behind = await _behind(known)
    while behind > 500:
        await asyncio.sleep(1)
        behind = await _behind(known)
    return first


class _Cluster:
    """What its collector publishes: all at its start, and then as time passes."""

    def __init__(self, number: int, records: list[Evidence]) -> None:
        self._name, self._number, self._records, self._seq = f"cluster-{number:03}", number, records, 0
        self._said = self._changed = 0.0

    def start(self) -> Iterator[Said]:
        yield self._beat(listing=True)
        for record in self._records:
            yield self._say(record, restated=not record.events)
        yield self._beat()

    def second(self, number: int) -> Iterator[Said]:
        """What there is to say in that second."""
        if number % _BEAT_SECONDS == 0:
            yield self._beat()
        if (number + self._number) % _INVENTORY_SECONDS == 0:
            yield from self._inventory()
        self._said += len(self._records) / _RESTATED_SECONDS
        while self._said >= 1:
            self._said -= 1
            yield self._say(self._records[self._seq % len(self._records)], restated=True)
        self._changed += simulated.PODS * _CHANGING / 60
        while self._changed >= 1:
            self._changed -= 1
            yield self._say(self._records[self._seq % len(self._records)], restated=False)

    def _say(self, record: Evidence, *, restated: bool) -> Evidence:
        self._seq += 1
        version = Version(1, self._seq)
        return replace(record, cluster=self._name, version=version, restated=restated, observed_at=datetime.now(UTC))

    def _inventory(self) -> Iterator[Inventory]:
        for kind in ("Node", "Pod"):
            refs = [record.ref for record in self._records if record.ref.kind == kind]
            hashes = tuple(sorted(key_hash(ref.namespace, ref.name) for ref in refs))
            self._seq += 1
            yield Inventory(
                cluster=self._name,
                version=Version(1, self._seq),
                kind=kind,
                group="",
                namespaces=(),
                low=0,
                high=2**64,
                hashes=hashes,
            )

    def _beat(self, *, listing: bool = False) -> Heartbeat:
        version, now = Version(1, self._seq), datetime.now(UTC)
        return Heartbeat(cluster=self._name, version=version, observed_at=now, listing=listing)


async def _many(known: Kafka, count: int) -> None:
    records = simulated.evidence()
    clusters = [_Cluster(number, records) for number in range(count)]
    async with known.producer() as producer:
        publisher = Publisher(known, producer)
        for each in clusters:
            await _send(publisher, each.start())
        begun, number = time.perf_counter(), 0
        while True:
            number += 1
            await asyncio.sleep(begun + number - time.perf_counter())
            for each in clusters:
                await _send(publisher, each.second(number))


async def _live(known: Kafka) -> None:
    pods = simulated.evidence(400, _LIVE)[10:]
    well = [each for each in simulated.reports(pods) if not each.failures]
    names = [each.ref for each in well]
    sick = {each.ref: each for each in pods if each.ref not in set(names)}
    broken = next(iter(sick.values()))
    fine = {each.ref: each for each in pods if each.ref in set(names)}
    async with known.producer() as producer:
        publisher, begun, seq = Publisher(known, producer), time.perf_counter(), 0
        while True:
            await asyncio.sleep(begun + seq / _RATE - time.perf_counter())
            lap, place = divmod(seq, len(names))
            seq += 1
            ref, now = names[place], datetime.now(UTC)
            said = fine[ref] if lap % 2 else replace(broken, ref=ref, object=_called(broken, ref.name), uid=ref.name)
            told: list[Any] = [replace(said, version=Version(1, seq), observed_at=now)]
            if seq % round(_RATE * _BEAT_SECONDS) == 1:
                told.append(Heartbeat(cluster=_LIVE, version=Version(1, seq), observed_at=now))
            print(json.dumps([ref.name, not lap % 2, time.time()]), flush=True)
            await _send(publisher, told)


def _called(record: Evidence, name: str) -> Raw:
    return Raw(bytes(record.object).replace(record.ref.name.encode(), name.encode()))


async def _send(publisher: Publisher, records: Iterable[Said]) -> None:
    told = []
    for record in records:
        told.append(message(record))
        if isinstance(record, Heartbeat):
            told.append(message(record, cluster=FLEET)._replace(key=FLEET.encode()))
    await publisher.send(told)


def _known(bootstrap: str) -> Kafka:
    settings = BrokerSettings(servers=(bootstrap,), prefix="scale.", partitions=PARTITIONS, replication=1)
    return Kafka(settings, {}, "bench")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["live", address]:
            asyncio.run(_live(_known(address)))
        case ["many", address, count]:
            asyncio.run(_many(_known(address), int(count)))
