"""A whole fleet, real in all its parts: whatever is killed, in the end its board says what is so."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import filling
from infra.testbed.control_plane import ControlPlane
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker, kafka
from tests.live.audited import audited, granted
from tests.live.churn import SIZE, Broken, Churn, analyzed, failing
from tests.live.cli import analyze

pytestmark = pytest.mark.live

CLUSTERS = ("alpha", "beta", "gamma")
KILLED, RESTARTED = 20, 2
PER_SECOND = 34  # in each cluster
RESTATE = 30
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
def fleet(tmp_path: Path, broker: Broker, kubeconfigs: dict[str, Path]) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, broker, {"collector": PACE})
    fleet.create_topics()
    try:
        for name, kubeconfig in kubeconfigs.items():
            fleet.collector(name, kubeconfig)
        fleet.start("analyzer", "analyzer")
        fleet.start("explainer", "explainer", "--no-hold")
        yield fleet
    finally:
        fleet.stop()


def truth(kubeconfigs: dict[str, Path]) -> dict[str, Broken]:
    return {name: analyzed(analyze(kubeconfig, "--no-hold")) for name, kubeconfig in kubeconfigs.items()}


def told(fleet: Fleet) -> dict[str, Broken]:
    return {name: failing(fleet.incidents("--cluster", name)) for name in CLUSTERS}


def until_equal(fleet: Fleet, expected: dict[str, Broken], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (found := told(fleet)) != expected:
        if time.monotonic() > deadline:
            differing = {
                name: (sorted(found[name] - expected[name])[:5], sorted(expected[name] - found[name])[:5])
                for name in CLUSTERS
            }
            raise AssertionError(f"too much, and too little: {differing}; logs: {fleet.said()}")
        time.sleep(2)


def test_each_role_killed_in_turn_amid_changes_it_ends_up_with_the_truth(
    fleet: Fleet, broker: Broker, planes: dict[str, ControlPlane], kubeconfigs: dict[str, Path]
) -> None:
    chance = random.Random(7)
    roles = ["collector-alpha", "analyzer", "explainer", "collector-beta", "collector-gamma"]
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
    expected = truth(kubeconfigs)
    assert len({rule for broken in expected.values() for _, _, rule in broken}) >= 6
    until_equal(fleet, expected, 120)
    assert all(worker.running for worker in fleet.workers.values()), fleet.said()
    assert "Traceback" not in str(fleet.said())
    for worker in fleet.workers.values():
        worker.signal(signal.SIGTERM)
