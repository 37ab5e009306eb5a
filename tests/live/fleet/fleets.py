"""What a fleet knows and shows, against what is so."""

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from explainer.incidents import Incidents
from infra.testbed.fleet import Fleet
from kubewhy.events import decode
from kubewhy.records import Finding, encode
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.rows import Rows
from kubewhy.runtime.fleet.tailing import Tail, until_now
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import FINDINGS, INCIDENTS, Topic
from sinks.archive import MANIFEST
from tests.live.churn import Broken, analyzed, differing, failing, named
from tests.live.cli import analyze
from tests.services.moto import Store

CLUSTERS = ("alpha", "beta", "gamma")
KILLED = 20
PER_SECOND = 34  # in each cluster
RESTATE = 30
ALLOWED = 20  # records: what comes by itself in a few seconds
SINKS = ("slack", "webhook", "s3")
PACE = {"heartbeat": "2s", "inventory": "10s", "restate": f"{RESTATE}s"}


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
    for record in asyncio.run(all_of(kafka, INCIDENTS)):
        parts[record.partition].take(record.offset, record.key, record.value)
    shown = []
    for part in parts:
        incidents = Incidents()
        mark = "clusters\x1f"
        incidents.restore((key.removeprefix(mark), row) for key, row in part.rows.items() if key.startswith(mark))
        shown += [json.loads(encode(view)) for view in incidents.views()]
    return shown


async def all_of(kafka: Kafka, topic: Topic) -> list[Any]:
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
    records = asyncio.run(all_of(brokers(load(fleet.config), {}, "test"), FINDINGS))
    return [decode(FINDINGS, record.value, record.headers) for record in records if record.value]


def archived(store: Store) -> list[Finding]:
    bodies = [body for name, body in store.objects().items() if MANIFEST not in name]
    return [msgspec.json.decode(line, type=Finding) for body in bodies for line in gzip.decompress(body).splitlines()]


def well(fleet: Fleet) -> bool:
    said = str(fleet.said())
    return all(worker.running for worker in fleet.workers.values()) and "bug" not in said and "Traceback" not in said
