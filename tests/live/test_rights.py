"""The rights that the documentation says Kafka's users need are enough; and less is told in a line."""

import asyncio
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from aiokafka import TopicPartition
from aiokafka.protocol.admin import CreateAclsRequest

from infra.testbed.kafka import Broker, kafka
from kubewhy.brokers import BrokerSettings
from kubewhy.events import Message, message
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.topics import EVIDENCE, FAILURES, TOPICS, Topic
from tests.live.command import Shell
from tests.test_events import EVIDENCE_OF_POD, FINDING

pytestmark = pytest.mark.live

# https://kafka.apache.org/protocol.html: as they are told in requests
TOPIC, GROUP = 2, 3
READ, WRITE, CREATE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 5, 8, 10
ALLOW, PREFIXED = 3, 4


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with kafka(tmp_path_factory.mktemp("secured"), secured=True) as started:
        yield started


class Stranger:
    """Who may do nothing, but for what is granted under a prefix of its own."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.prefix = f"{uuid4().hex[:8]}."
        at = broker.secured
        shared: dict[str, Any] = {"prefix": self.prefix, "replication": 1, "partitions": 2}
        self.almighty = Kafka(BrokerSettings(servers=(broker.bootstrap,), **shared), {}, "test")
        self._name, self.password = at.stranger.name, at.stranger.password
        self.config = folder / "fleet.yaml"
        sasl = {"mechanism": "PLAIN", "username": self._name, "password": {"env": "PASSWORD"}}
        told = {"servers": [at.sasl_ssl], "tls": {"ca_file": str(at.ca_file)}, "sasl": sasl, **shared}
        self.findings = folder / "findings.jsonl"
        sinks = [{"type": "file", "path": str(self.findings)}]
        self.config.write_text(yaml.safe_dump({"kafka": told, "sinks": sinks}))
        self.shell = Shell((self.password,), {**Shell().environment, "PASSWORD": self.password})

    async def granted(self, resource: int, operations: Iterable[int]) -> None:
        async with self.almighty.connected() as connection:
            for operation in operations:
                said = await connection.send(
                    CreateAclsRequest(resource, self.prefix, PREFIXED, f"User:{self._name}", "*", operation, ALLOW)
                )
                assert [code for code, *_ in said.creation_responses] == [0]


@pytest.fixture
def stranger(secured: Broker, tmp_path: Path) -> Stranger:
    return Stranger(secured, tmp_path)


def test_who_may_look_but_not_make_is_told_so(stranger: Stranger) -> None:
    said = stranger.shell.run("topics", "check", "--config", stranger.config)
    assert said.status == 1
    assert "not permitted to look at topic" in said.line
    asyncio.run(stranger.granted(TOPIC, [DESCRIBE]))
    said = stranger.shell.run("topics", "create", "--config", stranger.config)
    assert (said.status, said.out) == (1, "")
    assert said.line.endswith("we are not permitted to make topics: grant Create to the user of kafka.sasl")
    asyncio.run(create(stranger.almighty, [EVIDENCE]))
    said = stranger.shell.run("topics", "check", "--config", stranger.config)
    assert (said.status, said.out) == (1, "")
    assert "is kept (DescribeConfigs): grant it to the user of kafka.sasl" in said.line


def test_topics_are_made_with_the_documented_rights(stranger: Stranger) -> None:
    asyncio.run(stranger.granted(TOPIC, [CREATE, DESCRIBE, DESCRIBE_CONFIGS]))
    assert stranger.shell.run("topics", "create", "--config", stranger.config).status == 0
    assert stranger.shell.run("topics", "check", "--config", stranger.config).status == 0


@pytest.mark.parametrize("role", ["analyzer", "explainer", "sink"])
def test_workers_do_with_the_documented_rights(stranger: Stranger, role: str, tmp_path: Path) -> None:
    asyncio.run(create(stranger.almighty, TOPICS))
    asyncio.run(stranger.granted(TOPIC, [DESCRIBE, READ, WRITE]))
    asyncio.run(stranger.granted(GROUP, [READ]))
    asyncio.run(sent(stranger.almighty, message(EVIDENCE_OF_POD), message(FINDING)))

    def done() -> bool:
        if role == "sink":
            return stranger.findings.exists() and stranger.findings.stat().st_size > 0
        return asyncio.run(held(stranger.almighty, FAILURES)) > 0  # a report, or ticks

    (tmp_path / "worker").mkdir()
    args = ["worker", role, *(["file"] if role == "sink" else []), "--config", str(stranger.config)]
    with stranger.shell.begin(tmp_path / "worker", *args) as worker:
        worker.until(lambda: worker.process.poll() is not None or done(), 60)
        assert worker.process.poll() is None, worker.err
        said = worker.end(signal.SIGTERM, seconds=30)
    assert (said.status, said.err) == (0, "")


async def sent(kafka: Kafka, *messages: Message) -> None:
    async with kafka.producer() as producer:
        await Publisher(kafka, producer).send(messages)


async def held(kafka: Kafka, topic: Topic) -> int:
    """How many records have ever been on it."""
    async with kafka.consumer() as consumer:
        places = [TopicPartition(kafka.name(topic), each) for each in range(kafka.partitions(topic))]
        return sum((await consumer.end_offsets(places)).values())
