"""A whole fleet, real in all its parts: whatever is killed, in the end its board says what is so."""

import asyncio
import gzip
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from benchmarks import filling, shop
from explainer.incidents import Incidents
from infra.testbed.control_plane import ControlPlane
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker, kafka
from infra.testbed.processes import Process
from kubewhy.events import decode
from kubewhy.records import Claim, Finding, encode
from kubewhy.runtime.kafka import Kafka
from kubewhy.runtime.rows import Rows
from kubewhy.runtime.tailing import Tail, until_now
from kubewhy.runtime.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import CLAIMS, EVIDENCE, FAILURES, FINDINGS, INCIDENTS, RESTATED, Topic
from sinks.archive import MANIFEST
from tests.live.audited import audited, granted
from tests.live.churn import SIZE, Broken, Churn, analyzed, differing, failing, named
from tests.live.cli import analyze
from tests.live.watched import far_sides
from tests.services.moto import KEYS, Store, moto
from tests.services.receiver import Receiver
from tests.services.slack import CHANNEL, TOKEN, Workspace

pytestmark = pytest.mark.live

CLUSTERS = ("alpha", "beta", "gamma")
KILLED, RESTARTED = 20, 2
PER_SECOND = 34  # in each cluster
RESTATE = 30
ALLOWED = 20  # records: what comes by itself in a few seconds
SINKS = ("slack", "webhook", "s3")
PACE = {"heartbeat": "2s", "inventory": "10s", "restate": f"{RESTATE}s"}


@pytest.fixture(scope="module")
def planes() -> Iterator[dict[str, ControlPlane]]:
    with ExitStack() as stack:
        planes = {name: stack.enter_context(audited(controllers=False)) for name in CLUSTERS}
        for plane in planes.values():
            filling.fill(plane, SIZE)
        yield planes


@pytest.fixture(scope="module")
def kubeconfigs(planes: dict[str, ControlPlane]) -> dict[str, Path]:
    return {name: granted(plane) for name, plane in planes.items()}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One that may be ended."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    with kafka(folder) as started:
        yield started


@pytest.fixture
def far() -> Iterator[tuple[Workspace, Receiver, Store]]:
    with far_sides() as (workspace, hook), moto() as url:
        yield workspace, hook, Store.made(url)


@pytest.fixture
def fleet(
    tmp_path: Path,
    broker: Broker,
    kubeconfigs: dict[str, Path],
    far: tuple[Workspace, Receiver, Store],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    workspace, hook, store = far
    for name, value in {"SLACK_BOT_TOKEN": TOKEN, **KEYS}.items():
        monkeypatch.setenv(name, value)
    bucket = store.settings().model_dump(mode="json", exclude_unset=True)
    sinks = [
        {"type": "slack", "channel": CHANNEL, "url": f"{workspace.url}/api/"},
        {"type": "webhook", "url": hook.url, "format": "cloudevents"},
        {"type": "s3", **bucket},
    ]
    fleet = Fleet(tmp_path, broker, {"collector": PACE, "sinks": sinks})
    fleet.create_topics()
    try:
        for name, kubeconfig in kubeconfigs.items():
            fleet.collector(name, kubeconfig)
        fleet.start("analyzer", "analyzer")
        fleet.start("explainer", "explainer", "--no-hold")
        for sink in SINKS:
            fleet.start(f"sink-{sink}", "sink", sink)
        yield fleet
    finally:
        fleet.stop()


def truth(kubeconfigs: dict[str, Path]) -> dict[str, Broken]:
    return {name: analyzed(analyze(kubeconfig, "--no-hold")) for name, kubeconfig in kubeconfigs.items()}


def told(fleet: Fleet) -> dict[str, Broken]:
    incidents = fleet.incidents()
    return {name: failing(each for each in incidents if each["cluster_name"] == name) for name in CLUSTERS}


def until_equal(fleet: Fleet, kubeconfigs: dict[str, Path], seconds: float = 150) -> None:
    """Until of each cluster that is known which one look at it tells, and the board shows the same roots.

    How many objects an incident has is told ever more seldom, where it goes up and down; so that is not looked at.
    """
    expected = truth(kubeconfigs)
    assert len({rule for broken in expected.values() for _, _, rule in broken}) >= 6
    deadline = time.monotonic() + seconds
    while wrong := _differing(remembered(fleet), expected) or _other_roots(fleet.incidents(), expected):
        assert time.monotonic() < deadline, ("\n".join(wrong), fleet.said())
        time.sleep(2)


def remembered(fleet: Fleet) -> list[dict[str, Any]]:
    """What explainers know, by the topic of their rows."""
    kafka = brokers(load(fleet.config), {}, "test")
    parts = [Rows(number) for number in range(kafka.partitions(INCIDENTS))]
    for record in asyncio.run(_all_of(kafka, INCIDENTS)):
        parts[record.partition].take(record.offset, record.key, record.value)
    shown = []
    for part in parts:
        incidents = Incidents()
        mark = "clusters\x1f"
        incidents.restore((key.removeprefix(mark), row) for key, row in part.rows.items() if key.startswith(mark))
        shown += [json.loads(encode(view)) for view in incidents.views()]
    return shown


async def _all_of(kafka: Kafka, topic: Topic) -> list[Any]:
    return await until_now(Tail(kafka, topic))


def _differing(incidents: list[dict[str, Any]], expected: dict[str, Broken]) -> list[str]:
    return [
        f"{name}: {wrong}"
        for name in CLUSTERS
        for wrong in differing((each for each in incidents if each["cluster_name"] == name), expected[name])
    ]


def _other_roots(incidents: list[dict[str, Any]], expected: dict[str, Broken]) -> list[str]:
    wrong = []
    for name in CLUSTERS:
        shown = {named(each["root"]) for each in incidents if each["cluster_name"] == name}
        there = {root for root, _, _ in expected[name]}
        wrong += [f"{name}: {root} is {'shown' if root in shown else 'there'} alone" for root in shown ^ there]
    return wrong


def until(fine: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def findings(fleet: Fleet) -> list[Finding]:
    """All that is on the topic."""
    records = asyncio.run(_all_of(brokers(load(fleet.config), {}, "test"), FINDINGS))
    return [decode(FINDINGS, record.value, record.headers) for record in records if record.value]


def archived(store: Store) -> list[Finding]:
    bodies = [body for name, body in store.objects().items() if MANIFEST not in name]
    return [msgspec.json.decode(line, type=Finding) for body in bodies for line in gzip.decompress(body).splitlines()]


def well(fleet: Fleet) -> bool:
    said = str(fleet.said())
    return all(worker.running for worker in fleet.workers.values()) and "bug" not in said and "Traceback" not in said


def test_each_role_killed_in_turn_amid_changes_it_ends_up_with_the_truth(
    fleet: Fleet,
    broker: Broker,
    planes: dict[str, ControlPlane],
    kubeconfigs: dict[str, Path],
    far: tuple[Workspace, Receiver, Store],
) -> None:
    chance = random.Random(7)
    roles = ["collector-alpha", "analyzer", "explainer", *(f"sink-{name}" for name in SINKS), "collector-beta"]
    with ExitStack() as stack:
        churns = [stack.enter_context(Churn(plane, PER_SECOND)) for plane in planes.values()]
        time.sleep(10)
        for number in range(KILLED):
            worker = fleet.workers[roles[number % len(roles)]]
            worker.kill()
            time.sleep(chance.uniform(0.2, 2.0))
            worker.start()
            time.sleep(chance.uniform(0.5, 4.0))
            if number in (KILLED // 3, 2 * KILLED // 3):
                broker.kill()
                time.sleep(chance.uniform(0.5, 3.0))
                broker.start()
    assert all(churn.done >= KILLED * PER_SECOND for churn in churns)
    until_equal(fleet, kubeconfigs)
    assert well(fleet), fleet.said()
    workspace, hook, store = far
    made = {finding.id for finding in findings(fleet)}
    until(lambda: made <= {asked.headers["idempotency-key"] for asked in hook.taken})
    until(lambda: made <= {each.id for each in archived(store)})
    twice = Counter(each.id for each in archived(store))
    assert [key for key, times in twice.items() if times > 1] == []
    shown = Counter(each.said["metadata"]["event_payload"]["message"] for each in workspace.channel.roots)
    assert [key for key, times in shown.items() if times > 1] == []
    assert shown


def test_workers_that_come_and_go_under_load_leave_nothing_behind(
    fleet: Fleet, planes: dict[str, ControlPlane], kubeconfigs: dict[str, Path]
) -> None:
    with ExitStack() as stack:
        for plane in planes.values():
            stack.enter_context(Churn(plane, PER_SECOND))
        time.sleep(8)
        more = [fleet.start("analyzer", "analyzer"), fleet.start("explainer", "explainer", "--no-hold")]
        time.sleep(8)
        fleet.workers["explainer"].stop(20)
        time.sleep(4)
        fleet.workers["analyzer"].kill()
        more.append(fleet.start("analyzer", "analyzer"))
        time.sleep(8)
        fleet.workers["explainer"].start()
        fleet.workers["analyzer"].start()
        time.sleep(8)
        more[1].kill()
        more[2].stop(20)
        time.sleep(4)
    until_equal(fleet, kubeconfigs)
    until(lambda: left(fleet) == [])


def left(fleet: Fleet) -> list[str]:
    """The partitions whose committed offsets are behind, checked at the broker; a second's ticks do not count."""
    kafka = brokers(load(fleet.config), {}, "test")

    async def look() -> list[str]:
        behind = []
        for group, topic in (("analyzers", EVIDENCE), ("analyzers.restated", RESTATED), ("explainer", FAILURES)):
            places = [TopicPartition(kafka.name(topic), number) for number in range(kafka.partitions(topic))]
            async with kafka.consumer(group=group) as consumer:
                consumer.assign(places)
                ends = await consumer.end_offsets(places)
                for place in places:
                    lag = ends[place] - (await consumer.committed(place) or 0)
                    if lag > ALLOWED:
                        behind.append(f"{group} {place.topic}/{place.partition}: {lag}")
        return behind

    return asyncio.run(look())


def test_another_collector_takes_over_and_one_that_slept_changes_nothing(
    fleet: Fleet, planes: dict[str, ControlPlane], kubeconfigs: dict[str, Path]
) -> None:
    api = planes["alpha"].api
    until(lambda: bool(told(fleet)["alpha"]))
    pair = [fleet.workers["collector-alpha"], fleet.collector("alpha", kubeconfigs["alpha"])]
    time.sleep(8)
    active = claimant(fleet, pair)
    active.signal(signal.SIGSTOP)
    begun = time.monotonic()
    api.patch_status(filling.lone_path(0), {"status": shop.pod("oom")["status"]})

    def seen() -> bool:
        return any(named[0][2] == "lone-00000" for named in told(fleet)["alpha"])

    until(seen, 30)
    print(f"taken over after {time.monotonic() - begun:.1f} s")
    api.patch_status(filling.lone_path(0), {"status": shop.pod(None)["status"]})
    until(lambda: not seen(), 30)
    assert claimant(fleet, pair) != active
    active.signal(signal.SIGCONT)
    time.sleep(10)
    assert not seen()
    assert well(fleet)
    until_equal(fleet, kubeconfigs)


def claimant(fleet: Fleet, collectors: Sequence[Process]) -> Process:
    """Whose claim is the last of that cluster."""
    kafka = brokers(load(fleet.config), {}, "test")
    claims: list[Claim] = [decode(CLAIMS, each.value, each.headers) for each in asyncio.run(_all_of(kafka, CLAIMS))]
    members = {each.pid: each for each in collectors}
    return next(members[_pid(claim)] for claim in reversed(claims) if _pid(claim) in members)


def _pid(claim: Claim) -> int:
    return int(claim.member.rpartition("/")[2])


def test_what_is_silenced_for_the_fleet_is_so_in_each_cluster_until_that_ends(fleet: Fleet) -> None:
    def silenced() -> set[tuple[str, bool]]:
        return {(each["cluster_name"], each["silenced"]) for each in fleet.incidents() if each["root"]["kind"] == "Pod"}

    until(lambda: silenced() == {(name, False) for name in CLUSTERS})
    known = fleet.kubewhy("silence", "add", "--config", str(fleet.config), "--for", "1h", "kind=Pod").strip()
    until(lambda: silenced() == {(name, True) for name in CLUSTERS})
    listed = json.loads(fleet.kubewhy("silence", "list", "--config", str(fleet.config), "-o", "json"))
    assert [each["id"] for each in listed if each["source"] == "command"] == [known]
    fleet.kubewhy("silence", "expire", "--config", str(fleet.config), known)
    until(lambda: silenced() == {(name, False) for name in CLUSTERS})


def test_collectors_that_end_are_an_incident_one_for_all_and_nothing_else_is_resolved(fleet: Fleet) -> None:
    until(lambda: all(told(fleet).values()))
    time.sleep(10)
    before = told(fleet)
    for name in CLUSTERS:
        fleet.workers[f"collector-{name}"].kill()

    def silent() -> list[dict[str, Any]]:
        return [each for each in fleet.incidents() if each["failures"][0]["rule"] == "cluster-silent"]

    until(lambda: bool(silent()), 120)
    (incident,) = silent()
    assert incident["member_count"] == len(CLUSTERS)
    assert {name: before[name] - now for name, now in told(fleet).items()} == {name: set() for name in CLUSTERS}
    for name in CLUSTERS:
        fleet.workers[f"collector-{name}"].start()
    until(lambda: not silent())
