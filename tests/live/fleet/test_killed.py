"""Whatever is killed, in the end its board and its sinks say what is so."""

import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.testbed.control_plane import ControlPlane
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker
from tests.live.churn import Churn
from tests.live.fleet.fleets import KILLED, PER_SECOND, SINKS, archived, findings, until, until_equal, well
from tests.services.moto import Store
from tests.services.receiver import Receiver
from tests.services.slack import Workspace

pytestmark = pytest.mark.live


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
