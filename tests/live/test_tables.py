"""The explainer's state on a Faust table: nothing is lost, skipped or left behind, however workers come and go."""

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import CreateAclsRequest

from infra.testbed.kafka import Broker
from infra.testbed.kafka import kafka as started
from infra.testbed.listeners import Login
from kubewhy.brokers import BrokerSettings
from kubewhy.errors import ConfigError
from kubewhy.events import Message
from kubewhy.runtime.fleet.kafka import SESSION_SECONDS, Kafka
from kubewhy.runtime.fleet.keeping import Arrived, Folded
from kubewhy.runtime.fleet.rows import Mark, Rows
from kubewhy.runtime.fleet.tables import fold
from kubewhy.topics import FAILURES, FINDINGS, INCIDENTS, TOPICS, Topic
from tests.live.counting import END, FED, TICK, Counting, Note, changed, finding

pytestmark = pytest.mark.live

PARTITIONS = 4
OBJECTS = 5_000
REPORTS_PER_SECOND = 5_000
AHEAD = 100_000  # reports that may wait
REBALANCES = int(os.environ.get("REBALANCES", "20"))
SEED = int(os.environ.get("SEED", "2"))
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
        self._thaws: list[asyncio.Task[None]] = []
        self.running: list[Popen[bytes]] = []

    def start(self, standby: int = 0) -> Path:
        """Returns where it writes what it does."""
        path = self._folder / f"worker-{next(self._names)}"
        settings = self._kafka.settings
        told = [*settings.servers, settings.prefix, str(settings.partitions), str(path), str(standby)]
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
        worker.send_signal(signal.SIGCONT)
        self.running.remove(worker)
        code = await asyncio.to_thread(worker.wait, 30)
        # On a busy machine it may not have begun to listen.
        assert code in (-how, 0)

    def freeze(self, worker: "Popen[bytes]") -> None:
        """It does nothing until others have taken over, and goes on as if nothing had happened."""

        async def thaw() -> None:
            await asyncio.sleep(SESSION_SECONDS * 1.2)
            worker.send_signal(signal.SIGCONT)

        worker.send_signal(signal.SIGSTOP)
        self._thaws.append(asyncio.create_task(thaw()))

    async def thawed(self) -> None:
        await asyncio.gather(*self._thaws)

    async def stop(self) -> None:
        for worker in list(self.running):
            await self.end(worker, signal.SIGTERM)

    def notes(self) -> list[dict[str, Any]]:
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
        try:
            offsets = await admin.list_consumer_group_offsets(kafka.group("explainer"))
        except GroupCoordinatorNotAvailableError:  # no group was there yet
            offsets = {}
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
    """In any order, with one to three at work, and now and then one upon the other."""
    chance = random.Random(SEED)
    happened: Counter[str] = Counter()
    for _ in range(rebalances):
        await asyncio.sleep(chance.uniform(1, 4))
        here = len(workers.running)
        if here == 1 or (here == 2 and chance.random() < 0.5):
            what = "join"
            await workers.joined(workers.start(), chance.choice((1, 20)))
        else:
            worker = chance.choice(workers.running)
            match what := chance.choice(("leave", "kill", "freeze")):
                case "leave":
                    await workers.end(worker, signal.SIGTERM)
                case "kill":
                    await workers.end(worker, signal.SIGKILL)
                case "freeze":
                    workers.freeze(worker)
        happened[what] += 1
    return happened


async def test_nothing_is_lost_or_left_behind_however_workers_come_and_go(broker: Broker, tmp_path: Path) -> None:
    kafka = await made(broker)
    async with workers_of(kafka, tmp_path) as workers:
        workers.start()
        load = Load(kafka, workers)
        loading = asyncio.create_task(load.run())
        happened = await come_and_go(workers, REBALANCES)
        await workers.thawed()
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
    # One that has lost its place, as when it was frozen, says so and begins again.
    assert all("the explainer begins again" in line for line in workers.errors().splitlines())


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


@asynccontextmanager
async def folding(kafka: Kafka, folder: Path, **options: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """One worker in this process, which writes down what it does as those do."""
    note = Note(str(folder / "worker-here"))
    fed = os.open(folder / "worker-here.fed", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    work = asyncio.create_task(fold(kafka, Counting(fed, note), **options))
    try:
        yield work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        os.close(fed)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds
        await asyncio.sleep(0.05)


async def report(kafka: Kafka, numbers: Iterable[int]) -> None:
    """A change each."""
    async with kafka.producer() as producer:
        for number in numbers:
            place = number % kafka.settings.partitions
            await producer.send(kafka.name(FAILURES), b"state-%d" % number, b"object-%d" % (number % 100), place)
        await producer.flush()


async def ended(kafka: Kafka) -> None:
    """From now on no ticks come."""
    async with kafka.producer() as producer:
        for partition in range(kafka.settings.partitions):
            await producer.send_and_wait(kafka.name(FAILURES), b"ended", END, partition)


async def assert_all_counted_once(kafka: Kafka) -> None:
    reports, findings, changelog = [await content(kafka, topic) for topic in (FAILURES, FINDINGS, INCIDENTS)]
    for partition in reports:
        rows, expected = folded(reports[partition])
        assert kept(partition, changelog[partition]).rows == rows
        assert set(expected) == {value for _, _, value in findings[partition]}


async def test_it_ends_at_once_with_all_committed_and_leaves_nothing_behind(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    kafka = await made(broker)
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    workers = Workers(kafka, tmp_path)
    async with folding(kafka, tmp_path) as work:
        await report(kafka, range(3000))
        await until(lambda: workers.fed_count() >= 3000)
        began = time.monotonic()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        took = time.monotonic() - began
    assert work.cancelled()
    done, _ = await committed(kafka)
    assert sum(done.values()) == workers.fed_count()
    assert list(here.iterdir()) == []
    assert set(threading.enumerate()) == threads
    assert asyncio.all_tasks() == tasks
    # It has left its group, so the next one need not wait until it is missed.
    began = time.monotonic()
    async with folding(kafka, tmp_path):
        await until(lambda: "begin" in workers.notes()[-1])
    print(f"\nended in {took:.2f} s; the next one had its partitions after {time.monotonic() - began:.1f} s")
    assert took < 3
    assert time.monotonic() - began < SESSION_SECONDS


async def test_it_waits_for_brokers_that_are_away_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Workers(Kafka(BrokerSettings(servers=("localhost:1",)), {}, "test"), tmp_path)
    (tmp_path / "kafka").mkdir()
    with started(tmp_path / "kafka") as broker:
        kafka = await made(broker)
        await asyncio.to_thread(broker.stop)
        async with folding(kafka, tmp_path) as work:
            await asyncio.sleep(3)
            await asyncio.to_thread(broker.start)
            await report(kafka, range(1000))
            await until(lambda: workers.fed_count() >= 1000)
            reporting = asyncio.create_task(report(kafka, range(1000, 20_000)))
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(8)
            await asyncio.to_thread(broker.start)
            await reporting
            await ended(kafka)
            _, to_commit = await caught_up(kafka, workers)
            await assert_all_counted_once(kafka)
            # And with the broker away, it ends all the same.
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(2)
            began = time.monotonic()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            took = time.monotonic() - began
        print(f"\nall committed {to_commit:.1f} s after the last record; ended without a broker in {took:.1f} s")
    assert work.cancelled()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("kubewhy")]
    assert told[0].startswith(f"kafka: cannot reach {broker.bootstrap} (")
    # However often it fell silent, a line when that began and one when it was over.
    assert len(told) <= 10, told


@pytest.mark.parametrize("number", [5_000, 100_000])
async def test_what_is_remembered_is_there_again_soon(broker: Broker, tmp_path: Path, number: int) -> None:
    kafka = await made(broker)
    row = b"1 0123456789abcdef " + b"x" * 1000
    async with kafka.producer() as producer:
        for partition in range(PARTITIONS):
            rows: dict[str, bytes | None] = {f"object-{each}": row for each in range(number // PARTITIONS)}
            for key, value in Rows(partition).records(rows, Mark(0, 0)):
                await producer.send(kafka.name(INCIDENTS), value, key, partition)
        await producer.flush()
    async with workers_of(kafka, tmp_path) as workers:
        workers.start()
        await until(lambda: sum("begin" in note for note in workers.notes()) == PARTITIONS)
        notes = workers.notes()
        await workers.stop()
    assert all(note["rows"] == number // PARTITIONS for note in notes if "begin" in note)
    print(f"\n{number} rows of 1 kB were there {notes[-1]['at'] - notes[0]['at']:.1f} s after the start")


async def test_a_standby_knows_already_what_it_takes_over(broker: Broker, tmp_path: Path) -> None:
    kafka = await made(broker)
    async with workers_of(kafka, tmp_path) as workers:
        for path in (workers.start(standby=1), workers.start(standby=1)):
            await workers.joined(path, 30)
        await report(kafka, range(20_000))
        await until(lambda: workers.fed_count() >= 20_000)
        await workers.end(workers.running[0], signal.SIGKILL)
        await report(kafka, range(20_000, 30_000))
        await ended(kafka)
        await caught_up(kafka, workers)
        await workers.stop()
    assert workers.errors() == ""
    await assert_all_counted_once(kafka)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with started(tmp_path_factory.mktemp("secured"), secured=True) as broker:
        yield broker


def known(broker: Broker, way: str) -> dict[str, Any]:
    at = broker.secured
    tls = {"ca_file": str(at.ca_file)}
    return {
        "PLAIN": {"servers": at.sasl_plaintext, "sasl": as_(at.plain, "PLAIN")},
        "SCRAM": {"servers": at.sasl_ssl, "sasl": as_(at.scram, "SCRAM-SHA-512"), "tls": tls},
        "certificate": {"servers": at.mutual_tls, "tls": {**tls, "cert_file": str(at.client_pem)}},
        "stranger": {"servers": at.sasl_plaintext, "sasl": as_(at.stranger, "PLAIN")},
    }[way]


def as_(login: Login, mechanism: str) -> dict[str, Any]:
    return {"mechanism": mechanism, "username": login.name, "password": {"env": variable(login)}}


def variable(login: Login) -> str:
    return login.name.replace("-", "_")


def passwords(broker: Broker) -> dict[str, str]:
    at = broker.secured
    return {variable(login): login.password for login in (at.plain, at.scram, at.stranger)}


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM", "certificate"])
async def test_brokers_that_ask_who_is_there_let_it_in(secured: Broker, tmp_path: Path, way: str) -> None:
    kafka = await made(secured)
    told = {**kafka.settings.model_dump(), **known(secured, way)}
    kafka = Kafka(BrokerSettings.model_validate(told), passwords(secured), "test")
    async with folding(kafka, tmp_path):
        await report(kafka, range(100))
        await ended(kafka)
        await caught_up(kafka, Workers(kafka, tmp_path))
    await assert_all_counted_once(kafka)


async def test_who_may_read_but_not_as_one_of_the_group_is_told_so(secured: Broker, tmp_path: Path) -> None:
    kafka = await made(secured)
    name, prefix = secured.secured.stranger.name, kafka.settings.prefix
    async with kafka.connected() as connection:
        for topic in TOPICS:
            # In Kafka's numbers: on that very topic, from anywhere, all, is allowed.
            await connection.send(CreateAclsRequest(2, kafka.name(topic), 3, f"User:{name}", "*", 2, 3))
    told = {**kafka.settings.model_dump(), **known(secured, "stranger")}
    kafka = Kafka(BrokerSettings.model_validate(told), passwords(secured), "test")
    async with folding(kafka, tmp_path) as work:
        with pytest.raises(ConfigError) as caught:
            await asyncio.wait_for(asyncio.shield(work), 60)
    assert str(caught.value) == (
        f"kafka: we are not permitted to be one of the group {prefix}explainer: grant Read to the user of kafka.sasl"
    )


class Quiet:
    """Remembers nothing, and says nothing."""

    def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
        pass

    def end(self, partition: int) -> None:
        pass

    def feed(self, record: Arrived) -> Folded:
        return Folded()

    def turn(self, partition: int) -> Sequence[Message]:
        return ()


async def test_a_row_as_large_as_may_be_gets_there(broker: Broker, tmp_path: Path) -> None:
    kafka = await made(broker)
    large = random.Random(3).randbytes(INCIDENTS.largest - 5000)

    class Large(Quiet):
        def feed(self, record: Arrived) -> Folded:
            return Folded((), {record.key.decode(): large})

    work = asyncio.create_task(fold(kafka, Large()))
    await report(kafka, [0])
    while not (rows := kept(0, (await content(kafka, INCIDENTS))[0]).rows):
        assert not work.done()
        await asyncio.sleep(0.2)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert rows == {"object-0": large}


async def test_what_cannot_be_read_of_what_is_remembered_ends_it_with_a_line(broker: Broker, tmp_path: Path) -> None:
    kafka = await made(broker)

    class Unreadable(Quiet):
        def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
            raise ConfigError("it is of a later version")

    with pytest.raises(ConfigError, match="it is of a later version"):
        await asyncio.wait_for(fold(kafka, Unreadable()), 60)
