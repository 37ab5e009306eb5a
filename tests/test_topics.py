"""What is on Kafka, and how it is kept: the declaration, its document, and what is found to be otherwise."""

import gzip
import json
import os
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kubewhy.asyncapi import RECEIVED, ROLES, SENT, document
from kubewhy.brokers import BrokerSettings
from kubewhy.records import Claim, DeadLetter, Finding, Ref, Tick, Version, encode
from kubewhy.runtime.fleet.declaring import Difference, Found, declared, differences
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.topics import EVIDENCE, FAILURES, FINDINGS, INCIDENTS, SILENCES, TOPICS, Topic, object_key
from tests.live.cli import KUBEWHY
from tests.test_docs import records

ASYNCAPI = Path(__file__).parent / "asyncapi" / "schema-3.0.0.json.gz"


def kafka(**settings: Any) -> Kafka:
    return Kafka(BrokerSettings(servers=("localhost:9092",), **settings), {}, "test")


def as_declared(at: Kafka, topic: Topic) -> Found:
    return Found(at.partitions(topic), at.settings.replication, declared(at, topic))


def told(at: Kafka, topic: Topic, found: Found) -> list[Difference]:
    return list(differences(at, topic, found))


def test_no_two_topics_have_one_name() -> None:
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_is_kept_by_age_or_by_key(topic: Topic) -> None:
    config = topic.config
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert (config["cleanup.policy"] == "compact") == topic.compacted == ("retention.ms" not in config)
    assert topic.lag is None or topic.compacted
    assert topic.spread or topic.partitioned == "one"


def test_times_are_told_in_kafkas_unit() -> None:
    assert EVIDENCE.config["retention.ms"] == str(6 * 3600 * 1000)
    assert FINDINGS.config["min.compaction.lag.ms"] == str(7 * 24 * 3600 * 1000)
    assert replace(EVIDENCE, kept=timedelta(milliseconds=1)).config["retention.ms"] == "1"


def test_what_the_explainer_remembers_lies_as_what_it_reads() -> None:
    at = kafka(partitions=7)
    assert at.partitions(INCIDENTS) == at.partitions(FAILURES) == at.partitions(FINDINGS) == 7
    assert at.partitions(SILENCES) == 1


def test_an_object_has_one_key() -> None:
    assert object_key("c1", Ref("Pod", "web", "shop")) == "c1//Pod/shop/web"
    assert (
        object_key("c1", Ref("StorageClass", "fast", group="storage.k8s.io")) == "c1/storage.k8s.io/StorageClass//fast"
    )


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
@pytest.mark.parametrize("replication", [1, 2, 3, 5])
def test_what_is_as_declared_differs_in_nothing(topic: Topic, replication: int) -> None:
    at = kafka(replication=replication)
    assert told(at, topic, as_declared(at, topic)) == []


def test_what_is_acknowledged_outlives_one_broker_where_there_are_enough() -> None:
    kept = {each: declared(kafka(replication=each), FINDINGS)["min.insync.replicas"] for each in (1, 2, 3, 5)}
    assert kept == {1: "1", 2: "1", 3: "2", 5: "2"}


def test_more_replicas_than_asked_for_are_no_difference() -> None:
    at = kafka(replication=3)
    found = as_declared(at, FINDINGS)
    assert told(at, FINDINGS, replace(found, replication=5)) == []
    assert told(at, FINDINGS, replace(found, config={**found.config, "min.insync.replicas": "3"})) == []


@pytest.mark.parametrize(("key", "value"), [("retention.ms", "1000"), ("message.timestamp.type", "CreateTime")])
def test_a_differing_value_is_told_with_the_command_that_mends_it(key: str, value: str) -> None:
    at = kafka()
    found = as_declared(at, EVIDENCE)
    (difference,) = told(at, EVIDENCE, replace(found, config={**found.config, key: value}))
    assert (difference.what, difference.found, difference.wanted) == (key, value, EVIDENCE.config[key])
    assert f"--entity-name kubewhy.evidence.v1 --add-config {key}={EVIDENCE.config[key]}" in str(difference)
    assert "\n" not in str(difference)


def test_fewer_replicas_are_told() -> None:
    at = kafka(replication=3)
    (difference,) = told(at, EVIDENCE, replace(as_declared(at, EVIDENCE), replication=2))
    assert difference[:4] == ("kubewhy.evidence.v1", "replication", "2", "3")


@pytest.mark.parametrize("topic", [FAILURES, FINDINGS, INCIDENTS], ids=lambda topic: topic.name)
def test_the_partitions_of_what_goes_by_cluster_must_never_change(topic: Topic) -> None:
    at = kafka(partitions=12)
    (difference,) = told(at, topic, replace(as_declared(at, topic), partitions=6))
    assert difference.what == "partitions"
    assert "must never change" in str(difference)
    assert "`partitions: 6`" in str(difference)
    assert "kafka.prefix" in str(difference)


def test_what_is_not_told_differs_too() -> None:
    at = kafka()
    found = replace(as_declared(at, EVIDENCE), config={})
    assert {each.what for each in told(at, EVIDENCE, found)} == set(declared(at, EVIDENCE))


def test_the_document_is_asyncapi() -> None:
    validator = jsonschema.Draft7Validator(json.loads(gzip.decompress(ASYNCAPI.read_bytes())))
    assert [f"{fault.json_path}: {fault.message[:200]}" for fault in validator.iter_errors(document())] == []


def test_every_reference_in_the_document_leads_somewhere() -> None:
    whole = document()

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return here + [each for value in part.values() for each in references(value)]
        return [each for value in part for each in references(value)] if isinstance(part, list) else []

    found = references(whole)
    assert len(found) > 50
    for reference in found:
        place: Any = whole
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_every_topic_is_a_channel_as_it_is_declared() -> None:
    channels = document()["channels"]
    assert set(channels) == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        at = channels[topic.name]["bindings"]["kafka"]
        assert at["topic"] == kafka().name(topic)
        assert at["partitions"] == kafka().partitions(topic)
        assert at["topicConfiguration"].keys() == topic.config.keys()


def test_whatever_is_on_a_topic_is_sent_by_someone_and_received_by_someone() -> None:
    assert {role for role, _, _ in SENT} | {role for role, _ in RECEIVED} == set(ROLES)
    for topic in TOPICS:
        senders = [records for _, sent, records in SENT if sent is topic]
        assert senders, topic.name
        assert {record for records in senders for record in records} == set(topic.records)
        assert topic in [received for _, received in RECEIVED], topic.name


def test_what_is_sent_fits_the_documents_schemas() -> None:
    schemas = document()["components"]["schemas"]
    validators = {
        name: jsonschema.Draft7Validator({"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"})
        for name in schemas
    }
    on_topics = {record for topic in TOPICS for record in topic.records}
    seen = set()
    for record in (*records(), Tick()):
        if type(record) in on_topics:
            validators[type(record).__name__].validate(json.loads(encode(record)))
            seen.add(type(record))
    assert seen == on_topics > {Claim, DeadLetter, Finding, Tick}
    with pytest.raises(jsonschema.ValidationError):
        validators["Version"].validate([1, 2, 3])
    with pytest.raises(jsonschema.ValidationError):
        validators["Version"].validate(["1", 2])
    validators["Version"].validate(json.loads(json.dumps(Version(1, 2))))


@pytest.mark.parametrize("command", ["topics check", "worker analyzer", "incidents"])
def test_a_package_that_is_not_there_is_told_in_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "aiokafka.py").write_text("raise ModuleNotFoundError(name='aiokafka')")
    config = tmp_path / "fleet.yaml"
    config.write_text("kafka: {servers: ['127.0.0.1:1']}")
    done = subprocess.run(
        [KUBEWHY, *command.split(), "--config", config],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "kubewhy: Kafka needs a package that is not there (aiokafka): pip install 'kubewhy[kafka]'\n"
