"""Analyzers as a function of AWS Lambda, run by Lambda's own runtime, over a real broker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from analyzers import ANALYZERS, enabled
from infra.testbed.kafka import Broker, kafka
from kubewhy.brokers import BrokerSettings
from kubewhy.events import Message, decode, message
from kubewhy.records import DeadLetter, Evidence, Version
from kubewhy.runtime.fleet.analyzing import Analyzing, Judging
from kubewhy.runtime.fleet.batched import PIECE, Batches
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.remembered import between
from kubewhy.topics import DEAD_LETTERS, EVIDENCE, FAILURES, TOPICS, Topic
from tests.conformance.cases import load
from tests.live.lambdas import Environment, connections, environment, event

pytestmark = pytest.mark.live

PARTITIONS = 4
MANY = 5000  # of the records that a batch may have
Report = tuple[int, bytes, bytes, tuple[tuple[str, bytes], ...]]


class Fleet:
    """One fleet's topics, and a function that judges for it."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.kafka = Kafka(
            BrokerSettings(servers=(bootstrap,), prefix=prefix, partitions=PARTITIONS, replication=1), {}, "test"
        )
        self.variables = {
            "KUBEWHY__KAFKA__SERVERS": bootstrap,
            "KUBEWHY__KAFKA__PREFIX": prefix,
            "KUBEWHY__KAFKA__PARTITIONS": str(PARTITIONS),
        }

    async def publish(self, messages: Sequence[Message]) -> list[Any]:
        """Puts them on the topic of evidence, and gives what stands there then, as a consumer has it."""
        async with self.kafka.producer() as producer:
            await Publisher(self.kafka, producer).send(messages)
        return await self.on(EVIDENCE)

    async def on(self, topic: Topic) -> list[Any]:
        begins = dict.fromkeys(range(self.kafka.partitions(topic)), 0)
        return [record async for record in between(self.kafka, topic, begins)]

    async def reports(self) -> Counter[Report]:
        found = await self.on(FAILURES)
        return Counter((each.partition, each.key, each.value, tuple(each.headers)) for each in found)

    async def dead(self) -> list[DeadLetter]:
        return [decode(DEAD_LETTERS, each.value, each.headers) for each in await self.on(DEAD_LETTERS)]


def evidence(many: int) -> list[Message]:
    """What the analyzers' cases have, as of three clusters."""
    cases = [case.evidence for analyzer in ANALYZERS for case in load(analyzer)]
    return [message(numbered(each, number)) for number, each in enumerate(islice(cycle(cases), many))]


def numbered(each: Evidence, number: int) -> Evidence:
    return replace(each, cluster=f"cluster-{number % 3}", version=Version(1, number))


@pytest.fixture
async def fleet(broker: Broker) -> Fleet:
    made = Fleet(broker.bootstrap, f"{uuid4().hex}.")
    await create(made.kafka, TOPICS)
    return made


@pytest.fixture
def function(fleet: Fleet, tmp_path: Path) -> Iterator[Environment]:
    with environment(tmp_path, fleet.variables) as started:
        yield started


@pytest.mark.parametrize("source", ["aws:kafka", "SelfManagedKafka"])
async def test_a_function_reports_what_a_worker_does(source: str, fleet: Fleet, function: Environment) -> None:
    records = await fleet.publish(evidence(500))
    assert await asyncio.to_thread(function.failed, event(records, source)) == []
    reported = await fleet.reports()
    assert len(reported) == 500

    working = asyncio.create_task(Analyzing(fleet.kafka, enabled()).run())
    await doubled(fleet, reported.total())
    working.cancel()
    assert await fleet.reports() == Counter({report: 2 * times for report, times in reported.items()})
    assert function.lines() == []


async def doubled(fleet: Fleet, many: int) -> None:
    async with asyncio.timeout(60):
        while (await fleet.reports()).total() < 2 * many:
            pass


async def test_what_cannot_be_used_becomes_a_dead_letter_and_is_no_failure(fleet: Fleet, function: Environment) -> None:
    told = evidence(3)
    foreign = Message(EVIDENCE, b"\xff\x00", b'{"password": "hunter2"}', [("trace", bytes(range(256)))])
    records = await fleet.publish([told[0], foreign, told[1], foreign._replace(value=None), told[2]])
    assert await asyncio.to_thread(function.failed, event(records)) == []
    assert (await fleet.reports()).total() == 3

    by_place = {(each.partition, each.offset): each for each in records}
    dead = await fleet.dead()
    assert len(dead) == 2
    for letter in dead:
        origin = by_place[letter.partition, letter.offset]
        assert letter.stage == "analyzer"
        assert (letter.topic, letter.key, letter.value) == (origin.topic, origin.key, origin.value)
        assert letter.headers == tuple(origin.headers)
    [line] = function.lines()
    assert line["level"] == "WARNING"
    assert "2 of 5 records are dead letters" in line["message"]
    assert "hunter2" not in function.process.log.read_text()


async def test_the_producer_lives_on_while_the_function_is_frozen(
    broker: Broker, fleet: Fleet, function: Environment
) -> None:
    port = int(broker.bootstrap.rpartition(":")[2])
    records = await fleet.publish(evidence(20))
    assert await asyncio.to_thread(function.failed, event(records[:10])) == []
    opened = connections(port, function.process.pid)
    assert opened
    await asyncio.sleep(2)
    assert await asyncio.to_thread(function.failed, event(records[10:])) == []
    assert connections(port, function.process.pid) == opened
    assert (await fleet.reports()).total() == 20


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[Broker, Fleet]]:
    """A broker that may be ended."""
    with kafka(tmp_path) as started:
        made = Fleet(started.bootstrap, "kubewhy.")
        await create(made.kafka, TOPICS)
        yield started, made


async def test_without_a_broker_everything_comes_again(own: tuple[Broker, Fleet], tmp_path: Path) -> None:
    broker, fleet = own
    records = await fleet.publish(evidence(300))
    told = event(records)
    with environment(tmp_path, fleet.variables) as function:
        broker.stop()
        failed = await asyncio.to_thread(function.failed, told, 6)
        assert failed == [(f"{each.topic}-{each.partition}", each.offset) for each in records]
        [line] = function.lines()
        assert "300 of 300 records are to come again" in line["message"]
        assert broker.bootstrap in line["message"]

        broker.start()
        assert await asyncio.to_thread(function.failed, told) == []
        assert len(await fleet.reports()) == 300


async def test_a_broker_that_was_restarted_meanwhile_is_found_again(own: tuple[Broker, Fleet], tmp_path: Path) -> None:
    broker, fleet = own
    records = await fleet.publish(evidence(300))
    with environment(tmp_path, fleet.variables) as function:
        assert await asyncio.to_thread(function.failed, event(records[:100])) == []
        broker.kill()
        broker.start()
        assert await asyncio.to_thread(function.failed, event(records[100:])) == []
        assert len(await fleet.reports()) == 300
        assert function.lines() == []


async def test_what_is_not_reported_as_failed_has_arrived(own: tuple[Broker, Fleet], tmp_path: Path) -> None:
    broker, fleet = own
    records = await fleet.publish(evidence(MANY))
    told = event(records)
    with environment(tmp_path, fleet.variables) as function:
        invoking = asyncio.create_task(asyncio.to_thread(function.failed, told, 8))
        await some_reports(fleet)
        broker.kill()
        failed = await invoking
        broker.start()

        again = set(failed)
        assert again  # all of them, where the first piece had not wholly arrived yet
        for partition, theirs in told["records"].items():
            offsets = [each["offset"] for each in theirs]
            ours = [offset for place, offset in failed if place == partition]
            assert ours == offsets[len(offsets) - len(ours) :]
        done = [each for each in records if (f"{each.topic}-{each.partition}", each.offset) not in again]
        there = {each.value for each in await fleet.on(FAILURES)}
        assert {each.value for each in Judging(enabled()).messages(done)} <= there
        # The first of those that come again stands where the first piece ends that is not known to have arrived.
        assert len(there) < len(done) + 2 * PIECE

        assert await asyncio.to_thread(function.failed, told) == []
        assert len(await fleet.reports()) == MANY


async def some_reports(fleet: Fleet) -> None:
    """Returns as soon as there are any."""
    places = [TopicPartition(fleet.kafka.name(FAILURES), number) for number in range(PARTITIONS)]
    async with fleet.kafka.consumer() as consumer:
        while not sum((await consumer.end_offsets(places)).values()):
            pass


async def test_connections_that_died_without_a_word_are_made_anew(tmp_path: Path) -> None:
    async with Wire() as wire:
        with kafka(tmp_path, advertised_listeners=f"PLAINTEXT://127.0.0.1:{wire.port}") as broker:
            wire.leads_to = int(broker.bootstrap.rpartition(":")[2])
            fleet = Fleet(broker.bootstrap, "kubewhy.")
            await create(fleet.kafka, TOPICS)
            records = await fleet.publish(evidence(300))
            with environment(tmp_path, fleet.variables) as function:
                assert await asyncio.to_thread(function.failed, event(records[:100])) == []
                assert wire.opened
                wire.cut()
                assert await asyncio.to_thread(function.failed, event(records[100:]), 30) == []
                assert len(await fleet.reports()) == 300
                assert function.lines() == []


async def test_connections_that_stood_idle_for_long_are_not_trusted(fleet: Fleet) -> None:
    records = await fleet.publish(evidence(20))
    batches = Batches(fleet.kafka, enabled(), idle=0)
    port = int(fleet.kafka.settings.servers[0].rpartition(":")[2])
    try:
        assert await batches.through(records[:10], 20) == []
        before = connections(port)
        assert await batches.through(records[10:], 20) == []
        assert connections(port) - before
    finally:
        await batches.close()
    assert (await fleet.reports()).total() == 20


class Wire:
    """What leads to a broker. What is open when it is cut stays open, and nothing comes through any more."""

    def __init__(self) -> None:
        self.port, self.leads_to, self.opened = 0, 0, 0
        self._pumps: set[asyncio.Task[None]] = set()
        self._kept: list[Any] = []

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._open, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._server.close()
        self.cut()
        for each in self._kept:
            each.close()

    def cut(self) -> None:
        for pump in self._pumps:
            pump.cancel()

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        on_reader, on_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
        self._kept += [writer, on_writer]
        for source, target in ((reader, on_writer), (on_reader, writer)):
            pump = asyncio.create_task(_pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while told := await source.read(65536):
            target.write(told)
            await target.drain()
        target.close()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"key1": "value1"}, "no event from Kafka (Object missing required field `eventSource`)"),
        ({"Records": [{"eventSource": "aws:sqs"}]}, "no event from Kafka"),
        ([], "no event from Kafka"),
    ],
)
async def test_an_event_of_something_else_is_one_clear_error(told: Any, words: str, function: Environment) -> None:
    said = await asyncio.to_thread(function.invoke, told)
    assert said.what == "error"
    assert words in said.body["errorMessage"]
    assert said.body["errorType"] == "ConfigError"
    assert said.body["stackTrace"] == []
    [line] = function.lines()
    assert words in line["errorMessage"]
    # It goes on with the next one.
    assert await asyncio.to_thread(function.failed, event([])) == []


async def test_a_topic_without_evidence_is_one_clear_error(fleet: Fleet, function: Environment) -> None:
    await fleet.publish(evidence(1))
    assert await asyncio.to_thread(function.failed, event(await fleet.on(EVIDENCE))) == []
    said = await asyncio.to_thread(function.invoke, event(await fleet.on(FAILURES)))
    assert said.what == "error"
    assert f"no evidence on topic {fleet.kafka.name(FAILURES)}" in said.body["errorMessage"]
    assert await fleet.dead() == []


async def test_missing_topics_are_one_clear_error(broker: Broker, tmp_path: Path) -> None:
    fleet = Fleet(broker.bootstrap, f"{uuid4().hex}.")
    await create(fleet.kafka, [EVIDENCE])
    told = event(await fleet.publish(evidence(1)))
    with environment(tmp_path, fleet.variables) as function:
        said = await asyncio.to_thread(function.invoke, told)
        assert said.what == "error"
        assert "kubewhy topics create" in said.body["errorMessage"]
        assert len(function.lines()) == 1
        await create(fleet.kafka, [FAILURES, DEAD_LETTERS])
        assert await asyncio.to_thread(function.failed, told) == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "the settings say nothing of Kafka"),
        ({"KUBEWHY_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml: cannot read the settings"),
        ({"KUBEWHY__KAFKA__SERVERS": "nonsense"}, "KUBEWHY__KAFKA__SERVERS: kafka.servers"),
    ],
)
async def test_wrong_settings_are_one_clear_error(variables: dict[str, str], words: str, tmp_path: Path) -> None:
    with environment(tmp_path, variables) as function:
        said = await asyncio.to_thread(function.invoke, event([]))
        assert said.what == "error"
        assert words in said.body["errorMessage"]
        assert said.body["stackTrace"] == []
        assert len(function.lines()) == 1
