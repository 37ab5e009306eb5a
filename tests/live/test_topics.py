"""Topics on a real broker: made once, never changed, and told of where they are otherwise than declared."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.testbed.kafka import Broker, kafka
from kubewhy.brokers import BrokerSettings
from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.declaring import declared, look, ready
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.topics import EVIDENCE, FAILURES, FINDINGS, TOPICS
from tests.live.command import Said, Shell

pytestmark = pytest.mark.live

SHELL = Shell()


class Place:
    """A part of a broker that is for one test: by its prefix."""

    def __init__(self, broker: Broker, folder: Path, **more: Any) -> None:
        told = {"servers": [broker.bootstrap], "prefix": f"{uuid4().hex[:8]}.", "replication": 1, "partitions": 5}
        self.kafka = Kafka(BrokerSettings.model_validate({**told, **more}), {}, "test")
        self.config = folder / f"{uuid4().hex[:8]}.yaml"
        self.config.write_text(yaml.safe_dump({"kafka": {**told, **more}}))
        self.names = [self.kafka.name(topic) for topic in TOPICS]

    def topics(self, command: str, *args: str, env: Mapping[str, str] | None = None) -> Said:
        return SHELL.run("topics", command, "--config", self.config, *args, env=env)

    async def make(self, name: str, partitions: int, **config: str) -> None:
        """As someone else would."""
        admin = self.kafka.admin()
        await admin.start()
        settings = {key.replace("_", "."): value for key, value in config.items()}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        await admin.close()


@pytest.fixture
def place(broker: Broker, tmp_path: Path) -> Place:
    return Place(broker, tmp_path)


async def described(bootstrap: str, names: list[str]) -> dict[str, tuple[int, dict[str, str]]]:
    """How many partitions there are, and the configuration, by the client that comes with aiokafka."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        there = {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names if name in there]
        (said,) = await admin.describe_configs(resources) if resources else [None]
        configs = {each[3]: {entry[0]: entry[1] for entry in each[4]} for each in said.resources} if said else {}
    finally:
        await admin.close()
    return {name: (there[name], configs[name]) for name in configs}


async def changed(bootstrap: str, name: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    settings = {key.replace("_", "."): value for key, value in config.items()}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, settings)])
    await admin.close()


def test_what_is_missing_is_made_as_declared_and_only_once(broker: Broker, place: Place) -> None:
    missing = place.topics("check")
    assert missing.status == 1
    assert missing.out.splitlines() == [f"{name}: is missing: run `kubewhy topics create`" for name in place.names]

    made = place.topics("create")
    assert (made.status, made.err) == (0, "")
    assert made.out.splitlines() == [f"{name}: made" for name in place.names]

    found = asyncio.run(described(broker.bootstrap, place.names))
    for topic, name in zip(TOPICS, place.names, strict=True):
        partitions, config = found[name]
        assert partitions == (5 if topic.spread else 1)
        assert {key: config[key] for key in declared(place.kafka, topic)} == declared(place.kafka, topic)

    again = place.topics("create")
    assert (again.status, again.out) == (0, f"All {len(TOPICS)} topics are there.\n")
    checked = place.topics("check")
    assert (checked.status, checked.out) == (0, f"All {len(TOPICS)} topics are as they should be.\n")
    assert asyncio.run(described(broker.bootstrap, place.names)) == found


def test_what_is_there_is_never_changed_but_told_of(broker: Broker, place: Place) -> None:
    asyncio.run(place.make(place.kafka.name(FAILURES), 3, retention_ms="1000", message_timestamp_type="CreateTime"))
    before = asyncio.run(described(broker.bootstrap, [place.kafka.name(FAILURES)]))
    made = place.topics("create")
    assert (made.status, made.err) == (0, "")
    lines = made.out.splitlines()
    assert lines[: len(TOPICS) - 1] == [f"{name}: made" for name in place.names if name != place.kafka.name(FAILURES)]
    told = {line.split(": ")[1].split(" ")[0] for line in lines[len(TOPICS) - 1 :]}
    assert told == {"partitions", "message.timestamp.type", "max.message.bytes", "retention.ms"}
    assert asyncio.run(described(broker.bootstrap, [place.kafka.name(FAILURES)])) == before


def test_whatever_is_otherwise_is_told_in_a_line_each(broker: Broker, place: Place) -> None:
    assert place.topics("create").status == 0
    evidence, findings = place.kafka.name(EVIDENCE), place.kafka.name(FINDINGS)
    asyncio.run(changed(broker.bootstrap, evidence, retention_ms="1000", message_timestamp_type="LogAppendTime"))
    asyncio.run(changed(broker.bootstrap, findings, cleanup_policy="delete"))
    checked = place.topics("check")
    assert (checked.status, checked.err) == (1, "")
    # To alter one value of a topic in this way gives up all that it had of its own.
    assert [line.partition(": kafka-")[0] for line in checked.out.splitlines()] == [
        f"{evidence}: max.message.bytes 1048588, should be 1048576",
        f"{evidence}: retention.ms 1000, should be 21600000",
        f"{findings}: cleanup.policy delete, should be compact",
        f"{findings}: message.timestamp.type CreateTime, should be LogAppendTime",
        f"{findings}: max.message.bytes 1048588, should be 1048576",
        f"{findings}: min.compaction.lag.ms 0, should be 604800000",
    ]

    more = {"KUBEWHY__KAFKA__PARTITIONS": "6", "KUBEWHY__KAFKA__REPLICATION": "3"}
    told = place.topics("check", env=more)
    assert told.status == 1
    assert f"{findings}: partitions 5, should be 6: this number must never change" in told.out
    assert f"{findings}: replication 1, should be 3" in told.out
    assert f"{findings}: min.insync.replicas 1, should be 2" in told.out


def test_programs_are_told_in_json(broker: Broker, place: Place) -> None:
    checked = place.topics("check", "-o", "json")
    assert checked.status == 1
    assert [each["missing"] for each in json.loads(checked.out)] == [True] * len(TOPICS)
    made = json.loads(place.topics("create", "-o", "json").out)
    assert made == [{"topic": name, "made": True, "refused": None, "differs": []} for name in place.names]
    checked = place.topics("check", "-o", "json", env={"KUBEWHY__KAFKA__PARTITIONS": "7"})
    told = {each["topic"]: each for each in json.loads(checked.out)}
    assert checked.status == 1
    failures = told[place.kafka.name(FAILURES)]
    assert (failures["missing"], failures["partitions"], failures["replication"]) == (False, 5, 1)
    (difference,) = failures["differs"]
    assert (difference["what"], difference["found"], difference["wanted"]) == ("partitions", "5", "7")
    assert json.loads(place.topics("check", "-o", "json").out) == [
        {**each, "differs": []} for each in json.loads(checked.out)
    ]


def test_two_may_make_them_at_once(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with SHELL.begin(tmp_path / "other", "topics", "create", "--config", place.config) as other:
        ours = place.topics("create")
        theirs = other.end(seconds=60)
    assert (ours.status, theirs.status) == (0, 0)
    made = [line for line in (ours.out + theirs.out).splitlines() if line.endswith(": made")]
    assert sorted(made) == sorted(f"{name}: made" for name in place.names)


def test_more_replicas_than_brokers_are_refused_in_one_line(broker: Broker, tmp_path: Path) -> None:
    refused = Place(broker, tmp_path, replication=3).topics("create")
    assert (refused.status, refused.out) == (1, "")
    assert "cannot make" in refused.line
    assert refused.line.endswith("write into the settings how many there are to be: kafka.replication")


@pytest.mark.parametrize("command", ["create", "check"])
def test_what_is_wrong_with_the_settings_is_told_in_one_line(command: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    told: list[tuple[list[str], dict[str, str], str]] = [
        (["--config", str(empty)], {}, f"{empty}: there is no `kafka:` in the settings: say where the brokers are"),
        ([], {}, "there is no `kafka:` in the settings: say where the brokers are"),
        (["--config", str(empty)], {"KUBEWHY__KAFKA__SERVERS": "x"}, "KUBEWHY__KAFKA__SERVERS: kafka.servers[0]: "),
        ([], {"KUBEWHY__KAFKA__SERVERS": "127.0.0.1:1"}, "kafka: cannot reach 127.0.0.1:1 (Connection refused)"),
    ]
    for args, env, reason in told:
        said = SHELL.run("topics", command, *args, env=env)
        assert (said.status, said.out) == (1, "")
        assert said.line.startswith(f"kubewhy: {reason}")


def test_variables_alone_are_enough(broker: Broker) -> None:
    env = {
        "KUBEWHY__KAFKA__SERVERS": broker.bootstrap,
        "KUBEWHY__KAFKA__PREFIX": f"{uuid4().hex[:8]}.",
        "KUBEWHY__KAFKA__REPLICATION": "1",
    }
    assert SHELL.run("topics", "create", env=env).status == 0
    assert SHELL.run("topics", "check", env=env).status == 0


@pytest.fixture(scope="module")
def generous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """As brokers come: they make whatever topic they are asked for."""
    with kafka(tmp_path_factory.mktemp("generous"), auto_create_topics_enable="true") as started:
        yield started


async def test_nothing_is_made_by_looking(generous: Broker, tmp_path: Path) -> None:
    place = Place(generous, tmp_path)
    assert await look(place.kafka) == {}
    with pytest.raises(ConfigError, match=r"are missing at .*: run `kubewhy topics create --config FILE`$"):
        await ready(place.kafka, *TOPICS)
    assert place.topics("check").status == 1
    assert await described(generous.bootstrap, place.names) == {}
