"""A real Prometheus scrapes what a process shows; promtool has nothing against it; lag is what the broker says."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from infra.testbed.kafka import Broker
from infra.testbed.prometheus import Prometheus, complaints, prometheus
from kubewhy.brokers import BrokerSettings
from kubewhy.events import message
from kubewhy.listening import MetricsSettings
from kubewhy.records import Evidence, Ref, Version
from kubewhy.runtime.courier import Counts
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.lag import lags
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.telemetry.families import Metrics
from kubewhy.runtime.telemetry.health import Health
from kubewhy.runtime.telemetry.metrics import ExplainerMetrics, KafkaMetrics, SinkMetrics
from kubewhy.runtime.telemetry.serving import serving
from kubewhy.topics import EVIDENCE
from tests.test_metrics import all_roles

pytestmark = pytest.mark.live

HERE = MetricsSettings(listen="127.0.0.1:0")


async def until(told: Prometheus, expression: str, wanted: Callable[[float], bool]) -> tuple[dict[str, str], float]:
    """The one series of an expression, once its value is wanted."""
    async with asyncio.timeout(30):
        while True:
            found = await asyncio.to_thread(told.query, expression)
            if found and wanted(found[0][1]):
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.1)


async def test_prometheus_scrapes_it_and_can_be_asked(tmp_path: Path) -> None:
    metrics = Metrics("explainer")
    explainer, sinks, kafka = ExplainerMetrics(metrics), SinkMetrics(metrics), KafkaMetrics(metrics)
    open_ = {("c1", "critical"): 2}
    explainer.incidents(lambda: open_)
    sinks.sinks(lambda: {"slack": Counts(5, 2, 1, 3, timedelta(seconds=9))})
    async with serving(HERE, metrics, Health()) as port:
        with prometheus(tmp_path, {"kubewhy": f"127.0.0.1:{port}"}) as told:
            labels, _ = await until(told, 'up{job="kubewhy"}', lambda up: up == 1)
            assert labels["instance"] == f"127.0.0.1:{port}"
            labels, _ = await until(told, "kubewhy_build_info", lambda value: value == 1)
            assert labels["role"] == "explainer"
            await until(told, "sum(kubewhy_incidents_open)", lambda value: value == 2)
            open_["c2", "warning"] = 1
            await until(told, "sum(kubewhy_incidents_open)", lambda value: value == 3)
            await until(told, 'kubewhy_notifications_total{outcome="refused"}', lambda value: value == 1)
            await until(told, "kubewhy_notification_lag_seconds", lambda value: value == 9)
            await until(told, "process_resident_memory_bytes", lambda value: value > 10_000_000)
            # Also the first of all is seen, for the series was there before it.
            kafka.commit_failed()
            await until(told, "increase(kubewhy_kafka_commit_failures_total[10s])", lambda value: value > 0)
    assert "level=ERROR" not in (tmp_path / "prometheus.log").read_text()


async def test_promtool_has_nothing_against_any_metric() -> None:
    metrics = Metrics("all")
    next(all_roles(metrics))

    async def places() -> dict[str, list[int]]:
        return {"kubewhy.evidence.v1": [1, 2]}

    metrics_of_kafka = Metrics("other")
    KafkaMetrics(metrics_of_kafka).places(places)
    for each in (metrics, metrics_of_kafka):
        await each.look()
        assert complaints(each.text()[0]) == ""


def test_promtool_would_complain() -> None:
    assert "_total" in complaints(b"# HELP kubewhy_a A.\n# TYPE kubewhy_a counter\nkubewhy_a 1\n")


async def test_lag_is_what_is_still_to_come(broker: Broker) -> None:
    settings = BrokerSettings(
        servers=(broker.bootstrap,), prefix=f"lag-{uuid4().hex[:8]}.", partitions=3, replication=1
    )
    kafka = Kafka(settings, {}, "test")
    await create(kafka, [EVIDENCE])
    metrics = Metrics("analyzer")
    shown = KafkaMetrics(metrics)
    consumer = kafka.consumer(EVIDENCE, group="analyzers")
    shown.places(lambda: lags(consumer))
    async with consumer, kafka.producer() as producer:
        await Publisher(kafka, producer).send(message(evidence(number)) for number in range(100))
        first = await consumer.getmany(timeout_ms=10_000, max_records=30)
        came = sum(map(len, first.values()))
        await metrics.look()
        assert value(metrics, "consumer_lag_records", kafka.name(EVIDENCE)) == 100 - came
        assert value(metrics, "partitions", kafka.name(EVIDENCE)) == 3
        # Where nothing is fetched, it grows all the same.
        consumer.pause(*consumer.assignment())
        await Publisher(kafka, producer).send(message(evidence(number)) for number in range(50))
        await metrics.look()
        assert value(metrics, "consumer_lag_records", kafka.name(EVIDENCE)) == 150 - came
        consumer.resume(*consumer.assignment())
        while came < 150:
            came += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        await metrics.look()
        assert value(metrics, "consumer_lag_records", kafka.name(EVIDENCE)) == 0
        assert b"kubewhy_kafka_reachable 1.0" in metrics.text()[0]


def evidence(number: int) -> Evidence:
    ref = Ref("Pod", f"web-{number}", "shop")
    return Evidence(cluster="c1", version=Version(1, number), ref=ref, observed_at=datetime.now(UTC))


def value(metrics: Metrics, name: str, topic: str) -> float:
    start = f'kubewhy_kafka_{name}{{topic="{topic}"}} '
    (line,) = (line for line in metrics.text()[0].decode().splitlines() if line.startswith(start))
    return float(line.removeprefix(start))
