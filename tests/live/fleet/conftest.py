"""Three clusters, and a fleet of its own for each test."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import filling
from infra.testbed.control_plane import ControlPlane
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker, kafka
from tests.live.audited import audited, granted
from tests.live.churn import SIZE
from tests.live.fleet.fleets import CLUSTERS, PACE, SINKS
from tests.live.watched import far_sides
from tests.services.moto import KEYS, Store, moto
from tests.services.receiver import Receiver
from tests.services.slack import CHANNEL, TOKEN, Workspace


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
