"""What a fleet does with records that no one can use, that are too large, or that a model has to explain."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks import simulated
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker
from kubewhy.events import Message, decode, message
from kubewhy.records import Evidence, Heartbeat, Report, Version, encode
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.tailing import Tail, until_now
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import EVIDENCE, FAILURES, FINDINGS, MEBIBYTE
from tests.live.watched import thread
from tests.models.far import SECRET, Far, serving
from tests.models.openai import OpenAI
from tests.test_explaining import ANSWER

pytestmark = pytest.mark.live


@pytest.fixture
def fleet(tmp_path: Path, broker: Broker) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, broker, {}, prefix=f"{uuid4().hex}.", partitions=2)
    fleet.create_topics()
    try:
        yield fleet
    finally:
        fleet.stop()


def started(fleet: Fleet) -> None:
    fleet.start("analyzer", "analyzer")
    fleet.start("explainer", "explainer", "--no-hold")


def send(fleet: Fleet, *messages: Message) -> None:
    async def work() -> None:
        kafka = brokers(load(fleet.config), {}, "test")
        async with kafka.producer() as producer:
            await Publisher(kafka, producer).send(messages)

    asyncio.run(work())


def raw(fleet: Fleet, topic: str, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
    """As another program would put it there."""

    async def work() -> None:
        kafka: Kafka = brokers(load(fleet.config), {}, "test")
        async with kafka.producer() as producer:
            await producer.send_and_wait(topic, value, b"key", 0, headers=headers or [])

    asyncio.run(work())


def until(fine: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def broken(cluster: str) -> Evidence:
    """A pod that crashes."""
    found = {report.ref for report in simulated.reports(simulated.evidence(40)) if report.failures}
    told = next(each for each in simulated.evidence(40) if each.ref in found)
    return replace(told, cluster=cluster)


def dead(fleet: Fleet) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(
        fleet.kubewhy("dead-letters", "list", "--config", str(fleet.config), "-o", "json")
    )
    return told


def test_what_is_no_record_is_set_aside_with_why_and_the_rest_goes_on(fleet: Fleet) -> None:
    started(fleet)
    kafka = brokers(load(fleet.config), {}, "test")
    evidence, failures = kafka.name(EVIDENCE), kafka.name(FAILURES)
    raw(fleet, evidence, b"\xff\x00 no JSON")
    raw(fleet, evidence, b'{"type":"evidence","hostile":true}')
    raw(fleet, evidence, b"{}", [("ce_type", b"dev.kubewhy.evidence.v9")])
    raw(fleet, failures, b"[1, 2]")
    raw(fleet, failures, b'{"type":"report"}', [("ce_type", b"com.example.other.v1")])
    send(fleet, message(broken("one")))
    until(lambda: bool(fleet.incidents("--cluster", "one")))
    until(lambda: len(dead(fleet)) == 5)
    assert sorted((each["stage"], each["from"]["topic"]) for each in dead(fleet)) == [
        *[("analyzer", evidence)] * 3,
        *[("explainer", failures)] * 2,
    ]
    reasons = " ".join(each["reason"] for each in dead(fleet))
    assert "dev.kubewhy.evidence.v9, which this kubewhy does not know" in reasons
    assert "com.example.other.v1" in reasons
    assert all(worker.running for worker in fleet.workers.values())
    assert "Traceback" not in str(fleet.said())


def test_a_record_that_is_too_large_goes_without_its_least_useful_parts(fleet: Fleet) -> None:
    started(fleet)
    (report,) = [each for each in simulated.reports([broken("one")]) if each.failures]
    huge: Report = replace(report, seen=tuple("x" * 1000 for _ in range(2 * MEBIBYTE // 1000)))
    send(fleet, message(huge))
    until(lambda: bool(fleet.incidents()))
    (incident,) = fleet.incidents()
    lines = [line for each in incident["evidence"] for line in each["lines"]]
    assert any("cut" in line for line in lines)
    assert dead(fleet) == []


def test_the_same_names_in_two_clusters_never_mix(fleet: Fleet) -> None:
    started(fleet)
    for cluster in ("one", "two"):
        send(fleet, message(broken(cluster)))
    until(lambda: len(fleet.incidents()) == 2)
    assert {each["cluster"] for each in fleet.incidents()} == {"one", "two"}
    well = replace(broken("one"), version=Version(2, 1), object=simulated.evidence(2)[-1].object)
    send(fleet, message(replace(well, uid="another")))
    until(lambda: len(fleet.incidents()) == 1)
    assert [each["cluster"] for each in fleet.incidents()] == ["two"]


def skewed(evidence: Evidence, hours: int) -> Evidence:
    """The same in a cluster whose clock is wrong by so much."""

    def later(told: re.Match[bytes]) -> bytes:
        at = datetime.fromisoformat(told[1].decode()) + timedelta(hours=hours)
        return b'"%s"' % at.isoformat().replace("+00:00", "Z").encode()

    told = re.sub(rb'"(20\d\d-\d\d-\d\dT[0-9:.]+Z)"', later, encode(evidence))
    return msgspec.json.decode(told, type=Evidence)


def test_clocks_of_clusters_that_are_wrong_delay_nothing(fleet: Fleet) -> None:
    started(fleet)
    for cluster, hours in (("behind", -3), ("ahead", 3)):
        evidence = skewed(broken(cluster), hours)
        send(fleet, message(Heartbeat(cluster=cluster, version=Version(1, 0), observed_at=evidence.observed_at)))
        send(fleet, message(evidence))
    until(lambda: {each["cluster"] for each in fleet.incidents()} == {"behind", "ahead"}, 30)


def test_a_model_explains_over_kafka_too(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", SECRET)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    far = Far(OpenAI(), json.dumps(ANSWER))
    with thread() as run:
        context = serving(far)
        run(context.__aenter__())
        backend = {"type": "openai", "model": "m", "url": f"{far.url}/v1", "key": {"env": "MODEL_KEY"}}
        fleet = Fleet(tmp_path, broker, {"explain": {"backends": [backend]}}, prefix=f"{uuid4().hex}.", partitions=2)
        fleet.create_topics()
        try:
            started(fleet)
            send(fleet, message(broken("one")))
            until(lambda: bool(fleet.incidents()))
            until(lambda: "explained" in transitions(fleet))
            assert len(far.asked) == 1
        finally:
            fleet.stop()
            run(context.__aexit__(None, None, None))


def transitions(fleet: Fleet) -> list[str]:
    async def read() -> list[Any]:
        return await until_now(Tail(brokers(load(fleet.config), {}, "test"), FINDINGS))

    records = asyncio.run(read())
    return [decode(FINDINGS, each.value, each.headers).transition for each in records if each.value]
