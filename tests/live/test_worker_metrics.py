"""A small fleet, looked after by a real Prometheus: what breaks shows in each role, and that a broker is gone."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from benchmarks import shop
from infra.testbed.control_plane import ControlPlane
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import Broker, kafka
from infra.testbed.processes import Process, free_ports
from infra.testbed.prometheus import Prometheus, complaints, prometheus
from tests.live.audited import audited, granted
from tests.test_showing import asked

pytestmark = pytest.mark.live

SINK = "lines"
LANES = {"evidence.v1", "restated.v1", "failures.v1", "findings.v1", "claims.v1"}


class Watched:
    """The fleet of one cluster, with a collector that stands by, and where each of its workers answers."""

    def __init__(self, fleet: Fleet, broker: Broker, plane: ControlPlane, lines: Path) -> None:
        self.fleet, self.broker, self.plane, self.lines = fleet, broker, plane, lines
        self.ports: dict[str, int] = {}

    def start(self, called: str, start: Callable[[], Process]) -> None:
        """One worker more."""
        (self.ports[called],) = free_ports(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBEWHY__METRICS__LISTEN", f"127.0.0.1:{self.ports[called]}")
            start()

    def until_answered(self, status: int, seconds: float) -> None:
        """Returns once all workers say so of whether they are ready."""
        deadline = time.monotonic() + seconds
        while True:
            replies = self.all("/readyz")
            if {reply[0] for reply in replies.values()} == {status}:
                return
            assert time.monotonic() < deadline, (replies, self.fleet.said())
            time.sleep(0.5)

    def all(self, path: str) -> dict[str, tuple[int, bytes]]:
        return {name: asked(port, path) for name, port in self.ports.items()}

    @contextmanager
    def scraped(self, folder: Path) -> Iterator[Prometheus]:
        jobs = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        with prometheus(folder, jobs, "1s") as told:
            yield told

    def until(self, told: Prometheus, expression: str, wanted: Callable[[float], bool], seconds: float = 60) -> float:
        """Returns once the one value of that is wanted."""
        deadline = time.monotonic() + seconds
        while True:
            found = told.query(expression)
            if len(found) == 1 and wanted(found[0][1]):
                return found[0][1]
            assert time.monotonic() < deadline, (expression, found, self.fleet.said())
            time.sleep(0.2)

    def pods(self, numbers: Iterable[int]) -> None:
        """All of them well."""
        self.plane.api.create_many([pod(number) for number in numbers])

    def turn(self, numbers: Iterable[int], trouble: str | None) -> None:
        """They break in that way, or recover."""
        for number in numbers:
            document = pod(number, trouble)
            self.plane.api.patch_status(self.plane.api.path(document), {"status": document["status"]})

    def remove(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.plane.api.delete(self.plane.api.path(pod(number)), grace=0)

    def series(self) -> dict[str, set[tuple[str, ...]]]:
        """What of each worker there is of ours, but for what comes by chance."""
        return {name: set(_series(page)) for name, (_, page) in self.all("/metrics").items()}


def pod(number: int, trouble: str | None = None) -> Any:
    return named({**shop.lone_pod(), "status": shop.pod_status(trouble)}, number)


def named(document: Any, number: int) -> Any:
    marks = {shop.APP: f"web-{number}", shop.SPACE: "shop", shop.NODE: "node-1", shop.ADDRESS: "10.98.0.1"}
    text = json.dumps(document)
    for mark, name in marks.items():
        text = text.replace(mark, name)
    return json.loads(text)


def _series(page: bytes) -> Iterator[tuple[str, ...]]:
    for family in parsed(page.decode()):
        for sample in family.samples:
            if sample.name.startswith("kubewhy_") and "bookmark" not in sample.labels.values():
                yield (sample.name, *sample.labels.values())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "kafka").mkdir()
    lines = folder / "lines"
    settings = {"sinks": [{"type": "file", "name": SINK, "path": str(lines)}], "collector": {"heartbeat": "2s"}}
    with kafka(folder / "kafka") as broker, audited(controllers=False) as plane:
        plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}}
        plane.api.create(account)
        plane.api.create_many([named(shop.node(), 1)])
        fleet, kubeconfig = Fleet(folder, broker, settings), granted(plane)
        fleet.create_topics()
        watched = Watched(fleet, broker, plane, lines)
        try:
            watched.start("analyzer", lambda: fleet.start("analyzer", "analyzer"))
            watched.start("explainer", lambda: fleet.start("explainer", "explainer", "--no-hold"))
            watched.start("sink", lambda: fleet.start("sink", "sink", SINK))
            watched.start("collector", lambda: fleet.collector("alpha", kubeconfig))
            watched.start("standing by", lambda: fleet.collector("alpha", kubeconfig))
            watched.until_answered(200, 60)
            yield watched
        finally:
            fleet.stop()
        assert "Traceback" not in str(fleet.said())


def test_what_breaks_shows_in_each_role_on_its_way_to_the_sink(watched: Watched, tmp_path: Path) -> None:
    watched.pods(range(1000, 1005))
    with watched.scraped(tmp_path) as told:
        watched.until(told, "sum(up)", lambda up: up == len(watched.ports))
        watched.until(told, "sum(kubewhy_collector_active)", lambda active: active == 1)
        watched.until(told, "sum(kubewhy_incidents_open)", lambda open_: open_ == 0)
        watched.turn(range(1000, 1003), "crash")
        watched.until(told, 'sum(kubewhy_incidents_open{severity="critical"})', lambda open_: open_ == 3)
        assert len(watched.fleet.incidents()) == 3
        delivered = f'kubewhy_notifications_total{{sink="{SINK}",outcome="delivered"}}'
        watched.until(told, delivered, lambda count: count >= 3)
        watched.turn(range(1000, 1003), None)
        watched.until(told, "sum(kubewhy_incidents_open)", lambda open_: open_ == 0)
        watched.until(told, f"sum(kubewhy_findings_total) == scalar({delivered})", lambda count: count >= 6)
        for latency in ("collector", "analyzer", "explainer", "notification"):
            watched.until(told, f"sum(kubewhy_{latency}_latency_seconds_count)", lambda count: count >= 3)
            half = f"histogram_quantile(0.5, sum by (le) (kubewhy_{latency}_latency_seconds_bucket))"
            watched.until(told, half, lambda seconds: 0 < seconds < 5)
        # In each topic all has come, whoever it is that reads it.
        watched.until(told, "max(kubewhy_kafka_consumer_lag_records)", lambda lag: lag == 0)
        lanes = told.query("count by (topic) (kubewhy_kafka_consumer_lag_records)")
        assert {labels["topic"].removeprefix("fleet.") for labels, _ in lanes} == LANES
        watched.until(told, "min(kubewhy_kafka_reachable)", lambda reachable: reachable == 1)
        partitions = 'sum(kubewhy_kafka_partitions{topic="fleet.claims.v1"})'
        watched.until(told, partitions, lambda ours: ours == 1)
        watched.until(told, "sum(kubewhy_dead_letters_total)", lambda dead: dead == 0)
        watched.until(told, "count(kubewhy_build_info)", lambda roles: roles == len(watched.ports))
    assert len(watched.lines.read_text().splitlines()) >= 6


def test_promtool_has_nothing_against_any_page(watched: Watched) -> None:
    for name, (status, page) in watched.all("/metrics").items():
        assert (status, complaints(page)) == (200, ""), name


def test_ten_times_the_pods_are_no_more_series(watched: Watched) -> None:
    counted = []
    for begin, pods in ((0, 20), (100, 200)):
        every, some = range(begin, begin + pods), range(begin, begin + pods, 10)
        watched.pods(every)
        watched.turn(some, "pull")
        until(lambda some=some: len(watched.fleet.incidents()) == len(some), 60, watched)  # type: ignore[misc]
        watched.turn(some, None)
        watched.remove(every)
        until(lambda: not watched.fleet.incidents(), 60, watched)
        counted.append(watched.series())
    assert counted[0] == counted[1]
    assert all(30 < len(series) < 400 for series in counted[0].values()), {
        name: len(series) for name, series in counted[0].items()
    }


def until(true: Callable[[], bool], seconds: float, watched: Watched) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, (watched.fleet.incidents(), watched.fleet.said())
        time.sleep(0.5)


def test_without_a_broker_nobody_is_ready_and_all_are_well(watched: Watched) -> None:
    watched.until_answered(200, 60)
    watched.broker.kill()
    try:
        watched.until_answered(503, 40)
        for name, (_, answer) in watched.all("/readyz").items():
            checks = json.loads(answer)["checks"]
            assert checks["kafka"] == {"ok": False, "reason": "no broker answers"}, name
        assert set(watched.all("/healthz").values()) == {(200, b"ok\n")}
        for name, (status, page) in watched.all("/metrics").items():
            assert (status, b"\nkubewhy_kafka_reachable 0.0\n" in page) == (200, True), name
    finally:
        watched.broker.start()
    watched.until_answered(200, 90)
    assert set(watched.all("/healthz").values()) == {(200, b"ok\n")}
    watched.pods([2000])
    watched.turn([2000], "crash")
    until(lambda: len(watched.fleet.incidents()) == 1, 60, watched)
