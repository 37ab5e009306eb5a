"""Records on Kafka: how they are sent and read, where they go, and what becomes of what is none, or too large."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from kubewhy.brokers import BrokerSettings
from kubewhy.errors import Rejected
from kubewhy.events import Message, decode, message, type_of
from kubewhy.records import (
    Answer,
    Attached,
    Change,
    Claim,
    DeadLetter,
    Evidence,
    Failure,
    Finding,
    Heartbeat,
    Inventory,
    Logged,
    Ref,
    Report,
    Seen,
    Severity,
    Silence,
    SilenceChange,
    Sort,
    Tick,
    Version,
    encode,
)
from kubewhy.runtime.fleet.cutting import smaller
from kubewhy.runtime.fleet.kafka import Kafka, partition_of
from kubewhy.runtime.fleet.publishing import dead, fitting
from kubewhy.topics import (
    CLAIMS,
    DEAD_LETTERS,
    EVIDENCE,
    FAILURES,
    FINDINGS,
    RESTATED,
    SILENCES,
    TOPICS,
    Topic,
)
from tests.views import told, view

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
POD = Ref("Pod", "web", "shop")
EVIDENCE_OF_POD = Evidence(
    cluster="c1", version=Version(1, 2), ref=POD, observed_at=NOW, object=Raw(b'{"metadata":{"name":"web"}}')
)
REPORT = Report(
    cluster="c1",
    version=Version(1, 2),
    ref=POD,
    root=POD,
    observed_at=NOW,
    failures=(Failure(rule="pod-unschedulable", severity=Severity.CRITICAL, message="no node"),),
)
FINDING = Finding(
    id="f1",
    transition="opened",
    at=NOW,
    revision=1,
    incident=view(told(POD, "pod-unschedulable", "no node", since=NOW), title="web", cluster="c1"),
)
SILENCE = SilenceChange(id="s1", silence=Silence(id="s1", matchers=('name="web"',), ends_at=NOW))

# Each record there is, on each topic where it may be; and the key that it has there.
SENT: list[tuple[Topic, msgspec.Struct, bytes]] = [
    (EVIDENCE, EVIDENCE_OF_POD, b"c1//Pod/shop/web"),
    (EVIDENCE, replace(EVIDENCE_OF_POD, object=Raw(b"null")), b"c1//Pod/shop/web"),
    (RESTATED, replace(EVIDENCE_OF_POD, restated=True), b"c1//Pod/shop/web"),
    (FAILURES, REPORT, b"c1//Pod/shop/web"),
    (
        FAILURES,
        Inventory(
            cluster="c1", version=Version(1, 2), kind="Pod", group="", namespaces=(), low=0, high=2**64, hashes=(1, 2)
        ),
        b"c1",
    ),
    (FAILURES, Heartbeat(cluster="c1", version=Version(1, 2), observed_at=NOW), b"c1"),
    (FAILURES, Tick(), b"c1"),
    (FAILURES, Answer(cluster="c1", incident="i1", asked="d1"), b"c1"),
    (FAILURES, SILENCE, b"s1"),
    (SILENCES, SILENCE, b"s1"),
    (SILENCES, SilenceChange(id="s1"), b"s1"),
    (FINDINGS, FINDING, FINDING.incident.id.encode()),
    (CLAIMS, Claim(cluster="c1", member="host/7", at=NOW), b"c1"),
    (DEAD_LETTERS, DeadLetter(stage="a", reason="b", topic="c", partition=1, offset=2, at=NOW, key=b"\xff"), b"\xff"),
]
IDS = [f"{type(record).__name__} on {topic.name}" for topic, record, _ in SENT]


def sent(topic: Topic, record: msgspec.Struct) -> Message:
    return message(record, cluster="c1", topic=topic)


def test_every_record_of_every_topic_is_tried_here() -> None:
    pairs = {(topic.name, type(record)) for topic, record, _ in SENT}
    assert pairs == {(topic.name, record) for topic in TOPICS for record in topic.records}


@pytest.mark.parametrize(("topic", "record", "key"), SENT, ids=IDS)
def test_what_is_sent_is_what_is_read(topic: Topic, record: msgspec.Struct, key: bytes) -> None:
    told = sent(topic, record)
    assert told.topic is topic
    assert told.key == key
    assert decode(topic, told.value, told.headers) == record
    assert decode(topic, told.value, dict(told.headers)) == record
    assert decode(topic, told.value) == record  # whoever wrote it: without a type it may be ours


@pytest.mark.parametrize(("topic", "record", "key"), SENT, ids=IDS)
def test_the_cloudevents_sdk_reads_it(topic: Topic, record: msgspec.Struct, key: bytes) -> None:
    told = sent(topic, record)
    assert told.value
    assert dict(told.headers)["ce_type"].decode() in _types(type(record))
    event = from_binary(KafkaMessage(dict(told.headers), None, told.value), JSONFormat())
    assert (event.get_specversion(), event.get_datacontenttype()) == ("1.0", "application/json")
    assert event.get_source() in ("/kubewhy/clusters/c1", "/kubewhy")
    assert event.get_id()
    assert event.get_data() == json.loads(told.value)


def _types(record: type[msgspec.Struct]) -> list[str]:
    if record is not Finding:
        return [type_of(record)]
    return [f"dev.kubewhy.finding.{each}.v1" for each in ("opened", "updated", "explained", "resolved", "repeated")]


@pytest.mark.parametrize(("topic", "record", "key"), SENT, ids=IDS)
def test_the_same_is_said_under_the_same_id(topic: Topic, record: msgspec.Struct, key: bytes) -> None:
    again: msgspec.Struct = msgspec.json.decode(encode(record), type=type(record))
    assert sent(topic, again) == sent(topic, record)


def test_whatever_else_is_said_has_another_id() -> None:
    ids = [(dict(told.headers)["ce_source"], dict(told.headers)["ce_id"]) for told in map(message, different())]
    assert len(set(ids)) == len(ids)


def different() -> Iterator[msgspec.Struct]:
    for cluster in ("c1", "c2", "c1/c2", "ü b"):
        for seq in range(3):
            yield replace(EVIDENCE_OF_POD, cluster=cluster, version=Version(1, seq))
            yield replace(REPORT, cluster=cluster, version=Version(1, seq))
            yield Heartbeat(cluster=cluster, version=Version(1, seq), observed_at=NOW)
    yield SILENCE
    yield SilenceChange(id="s1")


def test_a_findings_id_is_its_events() -> None:
    headers = dict(message(FINDING).headers)
    assert headers["ce_id"] == FINDING.id.encode()
    assert headers["ce_type"] == b"dev.kubewhy.finding.opened.v1"


def test_a_cluster_of_any_name_makes_an_address() -> None:
    headers = dict(message(Heartbeat(cluster="a b/c#ü", version=Version(1, 1), observed_at=NOW)).headers)
    assert headers["ce_source"] == b"/kubewhy/clusters/a%20b%2Fc%23%C3%BC"


# What is no record of a topic, and the reason that is given.
FOREIGN: list[tuple[str, Topic, bytes | None, dict[str, bytes], str]] = [
    ("nothing", EVIDENCE, None, {}, "it is empty"),
    ("no bytes", EVIDENCE, b"", {}, "it is no record of evidence.v1: Input data was truncated"),
    ("no JSON", EVIDENCE, b"hello", {}, "it is no record of evidence.v1: JSON is malformed"),
    ("half of it", EVIDENCE, encode(EVIDENCE_OF_POD)[:50], {}, "it is no record of evidence.v1: Input data was trunc"),
    ("no text", EVIDENCE, b'{"type":"\xff\xfe"}', {}, "it is no record of evidence.v1: "),
    ("no object", EVIDENCE, b"[1]", {}, "it is no record of evidence.v1: Expected `object`, got `array`"),
    ("no type", FAILURES, b"{}", {}, "it is no record of failures.v1: Object missing required field `type`"),
    ("something else", FAILURES, b'{"type":"order"}', {}, "it is no record of failures.v1: Invalid value 'order'"),
    ("of another topic", EVIDENCE, encode(REPORT), {}, "it is no record of evidence.v1: Invalid value 'report'"),
    ("a field more", CLAIMS, b'{"type":"claim","x":1}', {}, "it is no record of claims.v1: Object contains unknown fi"),
    ("a field less", CLAIMS, b'{"type":"claim"}', {}, "it is no record of claims.v1: Object missing required field "),
    (
        "a wrong value",
        EVIDENCE,
        encode(EVIDENCE_OF_POD).replace(b'"c1"', b"7"),
        {},
        "Expected `str`, got `int` - at `$",
    ),
    ("deep", EVIDENCE, b"[" * 100_000, {}, "it is no record of evidence.v1: "),
    (
        "another's event",
        EVIDENCE,
        encode(EVIDENCE_OF_POD),
        {"ce_type": b"com.example.order.v1"},
        "com.example.order.v1",
    ),
    (
        "a later version",
        EVIDENCE,
        b"{}",
        {"ce_type": b"dev.kubewhy.evidence.v2"},
        "it is a dev.kubewhy.evidence.v2, whi",
    ),
    (
        "version 11",
        EVIDENCE,
        b"{}",
        {"ce_type": b"dev.kubewhy.evidence.v11"},
        "it is a dev.kubewhy.evidence.v11, which",
    ),
    ("version xv1", EVIDENCE, b"{}", {"ce_type": b"dev.kubewhy.evidence.xv1"}, "which this kubewhy does not know"),
    ("an odd type", EVIDENCE, b"{}", {"ce_type": b"\xff" * 5000}, "which this kubewhy does not know"),
]


@pytest.mark.parametrize(("topic", "value", "headers", "reason"), [each[1:] for each in FOREIGN], ids=lambda it: "")
def test_what_is_none_of_ours_is_rejected_with_the_reason(
    topic: Topic, value: bytes | None, headers: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(Rejected) as caught:
        decode(topic, value, headers)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_reason_is_short_whatever_stands_there() -> None:
    with pytest.raises(Rejected) as caught:
        decode(CLAIMS, json.dumps({"type": "claim", "x" * 100_000: 1}).encode())
    assert len(str(caught.value)) < 400


@given(topic=st.sampled_from([topic for topic in TOPICS if topic.records]), value=st.binary(max_size=200))
def test_any_bytes_are_a_record_or_rejected(topic: Topic, value: bytes) -> None:
    with pytest.raises(Rejected):
        decode(topic, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(which=st.sampled_from(SENT), data=st.data())
def test_a_record_with_anything_in_the_place_of_a_value_is_a_record_or_rejected(
    which: Any, data: st.DataObject
) -> None:
    topic, record, _ = which
    fields = json.loads(encode(record))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(JSON)
    with suppress(Rejected):
        assert isinstance(decode(topic, json.dumps(fields).encode()), topic.records)


# Of Kafka's own hash of keys, as its Java clients have it.
MURMUR2 = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), MURMUR2.items())
@pytest.mark.parametrize("partitions", [1, 2, 12, 1000])
def test_a_key_lies_where_kafkas_own_clients_put_it(key: str, hashed: int, partitions: int) -> None:
    # https://kafka.apache.org/41/javadoc/org/apache/kafka/clients/producer/ProducerConfig.html: the sign is masked off
    assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


def kafka(partitions: int) -> Kafka:
    return Kafka(BrokerSettings(servers=("localhost:9092",), partitions=partitions), {}, "test")


@given(cluster=st.text(min_size=1, max_size=50), partitions=st.integers(1, 1000))
def test_all_that_belongs_to_a_cluster_goes_to_one_partition(cluster: str, partitions: int) -> None:
    at = kafka(partitions)
    finding = replace(FINDING, incident=replace(FINDING.incident, cluster=cluster))
    its = [
        message(replace(REPORT, cluster=cluster)),
        message(replace(REPORT, cluster=cluster, ref=Ref("Node", "n1"))),
        message(Heartbeat(cluster=cluster, version=Version(1, 1), observed_at=NOW)),
        message(Answer(cluster=cluster, incident="i1", asked="d1")),
        message(finding),
    ]
    assert {at.partition(each) for each in its} == {partition_of(cluster, partitions)}
    assert 0 <= partition_of(cluster, partitions) < partitions


def test_evidence_goes_by_its_key_and_the_rest_to_the_only_partition() -> None:
    at = kafka(12)
    assert at.partition(message(EVIDENCE_OF_POD)) is None
    assert [at.partition(message(each)) for each in (SILENCE, Claim(cluster="c1", member="m", at=NOW))] == [0, 0]
    assert at.partition(message(Tick(), topic=FAILURES)._replace(partition=7)) == 7


def test_topics_and_groups_have_the_fleets_prefix() -> None:
    at = Kafka(BrokerSettings(servers=("localhost:9092",), prefix="east."), {}, "test")
    assert at.name(EVIDENCE) == "east.evidence.v1"
    assert at.group("analyzers") == "east.analyzers"
    assert at.topic("east.evidence.v1") is EVIDENCE
    with pytest.raises(KeyError):
        at.topic("evidence.v1")


class Consumed:
    """A record as a consumer gives it."""

    topic, partition, offset = "kubewhy.evidence.v1", 3, 7
    timestamp = int(NOW.timestamp() * 1000)
    key: bytes | None = b"k"
    value: bytes | None = b"\xff\x00"
    headers: tuple[tuple[str, bytes], ...] = (("ce_type", b"\xfe"),)


def test_a_dead_letter_has_all_that_is_needed_to_try_again() -> None:
    told = dead("analyzer", "it is empty", Consumed())
    letter = decode(DEAD_LETTERS, told.value, told.headers)
    assert (letter.stage, letter.reason) == ("analyzer", "it is empty")
    assert (letter.topic, letter.partition, letter.offset) == ("kubewhy.evidence.v1", 3, 7)
    assert (letter.key, letter.value, letter.headers) == (b"k", b"\xff\x00", (("ce_type", b"\xfe"),))
    assert letter.at == NOW.replace(microsecond=123000)


LONG = st.builds(lambda text, times: text * times, st.text(max_size=10), st.sampled_from([1, 100, 2000]))
LINES = st.lists(LONG, max_size=8).map(tuple)
OBJECTS = st.builds(lambda text: Raw(json.dumps({"metadata": {"name": text}}).encode()), LONG)
CHANGES = st.lists(st.builds(Change, object=st.just(POD), at=st.just(NOW), sort=st.just(Sort.IMAGES), what=LONG)).map(
    tuple
)
RECORDS = st.one_of(
    st.builds(
        replace,
        st.just(EVIDENCE_OF_POD),
        object=OBJECTS,
        logs=st.lists(st.builds(Logged, container=st.just("c"), lines=LINES), max_size=3).map(tuple),
        changes=CHANGES,
        related=st.lists(
            st.builds(Attached, view=st.just("Secret"), objects=st.lists(OBJECTS).map(tuple), count=st.just(9)),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(
        replace,
        st.just(REPORT),
        failures=st.lists(
            st.builds(
                Failure,
                rule=st.just("r"),
                severity=st.sampled_from(Severity),
                message=LONG,
                why=LONG,
                look=LONG,
            ),
            max_size=150,
        ).map(tuple),
        labels=st.dictionaries(st.text(max_size=5), LONG, max_size=3),
        seen=LINES,
        changes=CHANGES,
    ),
    st.builds(
        lambda seen, changes, times: replace(
            FINDING,
            incident=replace(
                FINDING.incident,
                evidence=(Seen(object=POD, lines=seen),),
                changes=changes,
                failures=FINDING.incident.failures * times,
            ),
        ),
        LINES,
        CHANGES,
        st.integers(1, 5),
    ),
    st.builds(
        lambda value: DeadLetter(
            stage="s", reason="r", topic="t", partition=0, offset=0, at=NOW, key=b"k", value=value * 1000
        ),
        st.binary(max_size=2000),
    ),
)


@settings(max_examples=200, deadline=None)
@given(record=RECORDS, largest=st.sampled_from([0, 1000, 10_000, 100_000, 2**20, 2**21]))
def test_what_is_cut_is_still_a_record_and_fits_where_it_can(record: msgspec.Struct, largest: int) -> None:
    less = smaller(record, largest)
    assert msgspec.json.decode(encode(less), type=type(record)) == less
    assert len(encode(smaller(record, 0))) <= len(encode(less)) <= len(encode(record)) + 100  # to say so takes a line
    if len(encode(smaller(record, 0))) <= largest * 0.75:
        assert len(encode(less)) <= largest * 0.75
    told = message(less)
    assert told.key == message(record).key


@settings(max_examples=50, deadline=None)
@given(record=RECORDS)
def test_what_is_cut_says_so(record: msgspec.Struct) -> None:
    match smaller(record, 2**20):
        case Evidence() as evidence:
            assert evidence.truncated
            assert evidence.gone == record.gone  # type: ignore[attr-defined]
            assert len({each.view for each in evidence.related}) <= 1
        case Report() as report:
            assert "(cut" in report.seen[-1]
            assert bool(report.failures) == bool(record.failures)  # type: ignore[attr-defined]
        case Finding() as finding:
            assert "(cut" in finding.incident.evidence[-1].lines[-1]
            assert finding.incident.failures
            assert finding.id == FINDING.id
        case DeadLetter() as letter:
            assert "(cut)" in letter.reason


def test_evidence_that_is_cut_makes_nothing_missing() -> None:
    attached = Attached(view="Secret", missing=("password",), objects=(Raw(b'{"x":"' + b"y" * 10_000 + b'"}'),))
    for largest in (0, 1000, 100_000):
        less = smaller(replace(EVIDENCE_OF_POD, related=(attached,), object=Raw(b'"' + b"z" * 9000 + b'"')), largest)
        assert isinstance(less, Evidence)
        assert not [each for each in less.related if each.known and not each.objects]


def test_a_message_that_is_too_large_goes_under_the_same_key_without_its_least_useful_parts() -> None:
    large = replace(REPORT, failures=REPORT.failures * 100, seen=tuple("x" * 1000 for _ in range(2000)))
    told = message(large)
    less = fitting(told)
    assert less.value
    assert told.value
    assert len(less.value) < told.topic.largest < len(told.value)
    assert (less.key, less.cluster, less.topic) == (told.key, told.cluster, told.topic)
    assert decode(FAILURES, less.value, less.headers).version == large.version
    assert dict(less.headers)["ce_id"] != dict(told.headers)["ce_id"]
    assert fitting(less) is less
