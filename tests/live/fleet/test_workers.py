"""Workers that come and go, clusters that fall silent, and what is silenced."""

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from benchmarks import filling, shop
from infra.testbed.control_plane import ControlPlane
from infra.testbed.fleet import Fleet
from infra.testbed.processes import Process
from kubewhy.events import decode
from kubewhy.records import Claim
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import CLAIMS, EVIDENCE, FAILURES, RESTATED
from tests.live.churn import Churn
from tests.live.fleet.fleets import (
    ALLOWED,
    CLUSTERS,
    PER_SECOND,
    all_of,
    told,
    until,
    until_equal,
    well,
)

pytestmark = pytest.mark.live


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
    claims: list[Claim] = [decode(CLAIMS, each.value, each.headers) for each in asyncio.run(all_of(kafka, CLAIMS))]
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
