"""What is counted, how it is named, and that to count disturbs nobody."""

import asyncio
import re
import timeit
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from infra.metrics import every
from kubewhy.contracts import Completion
from kubewhy.records import (
    Answer,
    Evidence,
    Heartbeat,
    Inventory,
    Record,
    Ref,
    Report,
    SilenceChange,
    Tick,
    Version,
)
from kubewhy.runtime.courier import Counts
from kubewhy.runtime.telemetry.families import BUCKETS, MOST, Metrics
from kubewhy.runtime.telemetry.metrics import (
    OUTCOMES,
    PUBLISHED,
    RECORDS,
    RELISTS,
    SEVERITIES,
    SUPPRESSIONS,
    TRANSITIONS,
    WATCHED,
    AnalyzerMetrics,
    CollectorMetrics,
    ExplainerMetrics,
    KafkaMetrics,
    ModelMetrics,
    SinkMetrics,
)
from sinks.samples import OPENED as EXPLAINED
from sinks.samples import RESOLVED

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPENED = replace(EXPLAINED, transition="opened")
COUNTED = Completion("text", "vendors-own-name", input_tokens=100, output_tokens=20)


def clock() -> float:
    return NOW.timestamp()


def pod(name: str) -> Ref:
    return Ref("Pod", name, "shop")


def report(name: str = "web", age: float = 1.0) -> Report:
    at = NOW - timedelta(seconds=age)
    return Report(cluster="c1", version=Version(1, 1), ref=pod(name), root=pod(name), observed_at=at)


def evidence(name: str = "web", *, restated: bool = False) -> Evidence:
    return Evidence(cluster="c1", version=Version(1, 1), ref=pod(name), observed_at=NOW, restated=restated)


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample of ours, as it is written: name{label="value"} and its value."""
    found = (sample for family in parse_text(metrics.text()[0].decode()) for sample in family.samples)
    return {_written(each): each.value for each in found if each.name.startswith("kubewhy_")}


def _written(sample: Sample) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}" if labels else sample.name


def all_roles(metrics: Metrics) -> Iterator[None]:
    """Each thing that can be counted, once."""
    collector = CollectorMetrics(metrics, "c1", "prod", clock)
    analyzer, explainer = AnalyzerMetrics(metrics, clock), ExplainerMetrics(metrics, clock)
    models, sinks, kafka = ModelMetrics(metrics), SinkMetrics(metrics, clock), KafkaMetrics(metrics)
    collector.waiting(lambda: 7)
    explainer.incidents(lambda: {("c1", "critical"): 2})
    sinks.sinks(lambda: {"slack": Counts(5, 2, 1, 3, timedelta(seconds=9))})
    while True:
        collector.watched("pods", "MODIFIED")
        collector.listed("pods", "expired")
        collector.published(evidence())
        collector.published(evidence(restated=True))
        collector.active(3)
        analyzer.judged([replace(report(), broken=("Pod",))], 2, 0.5)
        explainer.folded(report(), [OPENED])
        explainer.suppressed("held")
        models.called("bedrock", "some-model", "answered", 2.0)
        models.spent("bedrock", "some-model", COUNTED, 0.25)
        models.looked_up(found=True)
        sinks.delivered("slack", [OPENED])
        kafka.consumed("kubewhy.evidence.v1", 5)
        kafka.produced("kubewhy.failures.v1", 4)
        kafka.dead("analyzer")
        kafka.commit_failed()
        kafka.reachable(now=True)
        yield


async def test_everything_that_can_be_counted_is_shown() -> None:
    metrics = Metrics("analyzer")
    next(all_roles(metrics))
    await metrics.look()
    told = samples(metrics)
    shown = {name.split("{")[0] for name in told}
    for families in every().values():
        for family in families:
            # Of the brokers nobody has asked.
            if family.name not in ("kubewhy_kafka_consumer_lag_records", "kubewhy_kafka_partitions"):
                assert family.name + ("_count" if family.kind == "histogram" else "") in shown
    assert told['kubewhy_collector_watch_events_total{resource="pods",type="modified"}'] == 1
    assert told['kubewhy_collector_relists_total{reason="expired",resource="pods"}'] == 1
    assert told['kubewhy_collector_last_event_timestamp_seconds{resource="pods"}'] == NOW.timestamp()
    assert told['kubewhy_collector_records_published_total{record="restated"}'] == 1
    assert told["kubewhy_collector_latency_seconds_count"] == 1, "what is said again is no change"
    assert told["kubewhy_collector_waiting_objects"] == 7
    assert told['kubewhy_collector_active{cluster="c1"}'] == 1
    assert told['kubewhy_collector_term{cluster="c1"}'] == 3
    assert told['kubewhy_collector_cluster_info{cluster="c1",name="prod"}'] == 1
    assert told["kubewhy_analyzer_records_total"] == 2
    assert told["kubewhy_analyzer_reports_total"] == 1
    assert told['kubewhy_analyzer_broken_total{analyzer="Pod"}'] == 1
    assert told['kubewhy_explainer_records_total{record="report"}'] == 1
    assert told['kubewhy_findings_total{transition="opened"}'] == 1
    assert told['kubewhy_suppressed_total{reason="held"}'] == 1
    assert told['kubewhy_incidents_open{cluster="c1",severity="critical"}'] == 2
    assert told['kubewhy_llm_requests_total{backend="bedrock",model="some-model",outcome="answered"}'] == 1
    assert told['kubewhy_llm_tokens_total{backend="bedrock",model="some-model",type="input"}'] == 100
    assert told['kubewhy_llm_cost_dollars_total{backend="bedrock",model="some-model"}'] == 0.25
    assert told['kubewhy_explanation_cache_requests_total{result="hit"}'] == 1
    assert told['kubewhy_notifications_total{outcome="refused",sink="slack"}'] == 1
    assert told['kubewhy_notification_failures_total{sink="slack"}'] == 2
    assert told['kubewhy_notifications_waiting{sink="slack"}'] == 3
    assert told['kubewhy_notification_lag_seconds{sink="slack"}'] == 9
    assert told['kubewhy_kafka_consumed_records_total{topic="kubewhy.evidence.v1"}'] == 5
    assert told['kubewhy_dead_letters_total{stage="analyzer"}'] == 1
    assert told["kubewhy_kafka_commit_failures_total"] == 1
    assert told["kubewhy_kafka_reachable"] == 1


def test_names_are_as_prometheus_wants_them() -> None:
    families = [family for each in every().values() for family in each]
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.name.startswith("kubewhy_")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.kind != "histogram" or family.name.endswith("_seconds"), family.name
        assert family.says.endswith("."), family.name
        assert not family.labels.keys() & {"namespace", "pod", "object", "incident", "node", "container", "le", "job"}


def test_whatever_metric_a_document_names_there_is() -> None:
    known = {family.name for families in every().values() for family in families}
    for page in (Path(__file__).parents[1] / "docs").glob("*.md"):
        named = set(re.findall(r"`(kubewhy_[a-z_]+)", page.read_text()))
        assert named <= known, page.name


def test_latencies_go_from_ten_milliseconds_to_ten_minutes() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (0.01, 600)
    assert list(BUCKETS) == sorted(set(BUCKETS))


async def test_there_are_as_many_series_for_ten_thousand_objects_as_for_one() -> None:
    counts = []
    for objects in (1, 10_000):
        metrics = Metrics("all")
        next(all_roles(metrics))
        analyzer, explainer = AnalyzerMetrics(other := Metrics("other"), clock), ExplainerMetrics(other, clock)
        collector = CollectorMetrics(other, "c1", clock=clock)
        for number in range(objects):
            analyzer.judged([report(f"web-{number}")], 1, 0.1)
            explainer.folded(report(f"web-{number}"), [OPENED, RESOLVED])
            collector.watched("pods", "ADDED")
            collector.published(evidence(f"web-{number}"))
        await other.look()
        counts.append(len(samples(other)))
    assert counts[0] == counts[1]


def test_too_many_values_of_a_label_are_counted_together() -> None:
    metrics = Metrics("all")
    kafka = KafkaMetrics(metrics)
    for number in range(MOST + 500):
        kafka.consumed(f"topic-{number}")
    kafka.consumed("topic-0")
    told = {name: value for name, value in samples(metrics).items() if "consumed_records_total" in name}
    assert len(told) == MOST + 1
    assert told['kubewhy_kafka_consumed_records_total{topic="topic-0"}'] == 2
    assert told['kubewhy_kafka_consumed_records_total{topic="other"}'] == 500


async def test_too_many_values_that_are_read_are_shown_together() -> None:
    metrics = Metrics("all")
    ExplainerMetrics(metrics).incidents(lambda: {(f"c{number}", "info"): 1 for number in range(MOST + 500)})
    await metrics.look()
    told = {name: value for name, value in samples(metrics).items() if "incidents_open" in name}
    assert len(told) == MOST + 1
    assert told['kubewhy_incidents_open{cluster="other",severity="other"}'] == 500


def test_what_may_happen_is_shown_before_it_has() -> None:
    metrics = Metrics("explainer")
    ExplainerMetrics(metrics)
    told = samples(metrics)
    assert all(told[f'kubewhy_findings_total{{transition="{each}"}}'] == 0 for each in TRANSITIONS)
    assert all(told[f'kubewhy_suppressed_total{{reason="{each}"}}'] == 0 for each in SUPPRESSIONS)
    assert told["kubewhy_explainer_latency_seconds_count"] == 0


def test_two_in_one_process_share_nothing() -> None:
    one, other = Metrics("one"), Metrics("other")
    KafkaMetrics(one).commit_failed()
    KafkaMetrics(other)
    assert samples(one)["kubewhy_kafka_commit_failures_total"] == 1
    assert samples(other)["kubewhy_kafka_commit_failures_total"] == 0


def test_the_process_and_the_version_are_told() -> None:
    told = Metrics("analyzer").text()[0].decode()
    assert "process_resident_memory_bytes" in told
    assert "python_gc_collections_total" in told
    assert 'role="analyzer"' in told


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e9, 1e9), st.integers(-10, 10), st.sampled_from(["", "\n", '"', "\\", "é", "x" * 10_000]))
def test_nothing_that_is_counted_raises(odd: float, number: int, word: str) -> None:
    metrics = Metrics("all")
    next(all_roles(metrics))
    other = Metrics("other")
    collector, analyzer = CollectorMetrics(other, word, word, clock), AnalyzerMetrics(other, clock)
    explainer, models = ExplainerMetrics(other, clock), ModelMetrics(other)
    kafka, sinks = KafkaMetrics(other), SinkMetrics(other, clock)
    collector.watched(word, word)
    collector.listed(word, word)
    collector.active(abs(number))
    analyzer.judged([report(word, age=odd)], number, odd)
    explainer.folded(report(word, age=odd), [replace(OPENED, transition=word)])
    explainer.suppressed(word, number)
    models.called(word, word, word, odd)
    models.spent(word, word, Completion("", "", number, number), odd)
    sinks.delivered(word, [replace(OPENED, at=NOW + timedelta(seconds=odd))])
    kafka.consumed(word, number)
    kafka.produced(word, number)
    kafka.dead(word)
    for accept in ("", "application/openmetrics-text"):
        assert other.text(accept)
    assert all(value >= 0 for value in samples(other).values())


def test_each_record_has_a_name_that_is_declared() -> None:
    told: list[Record] = [
        report(),
        Inventory(cluster="c", version=Version(1, 1), kind="Pod", group="", namespaces=(), low=0, high=1, hashes=()),
        Heartbeat(cluster="c", version=Version(1, 1), observed_at=NOW),
        Tick(),
        Answer(cluster="c", incident="i", asked="d"),
        SilenceChange(id="s"),
    ]
    metrics = Metrics("explainer")
    explainer = ExplainerMetrics(metrics, clock)
    before = samples(metrics).keys()
    for record in told:
        explainer.folded(record, [])
    assert samples(metrics).keys() == before
    assert all(samples(metrics)[f'kubewhy_explainer_records_total{{record="{each}"}}'] == 1 for each in RECORDS)
    assert samples(metrics)['kubewhy_explainer_answers_total{result="unexplained"}'] == 1


def test_an_age_is_never_negative_where_clocks_differ() -> None:
    metrics = Metrics("analyzer")
    AnalyzerMetrics(metrics, clock).judged([report(age=-5)], 1, 0.1)
    assert samples(metrics)["kubewhy_analyzer_latency_seconds_sum"] == 0


def test_a_silenced_transition_is_one_that_people_were_spared() -> None:
    metrics = Metrics("explainer")
    silenced = replace(OPENED, incident=replace(OPENED.incident, silenced=True))
    ExplainerMetrics(metrics, clock).folded(report(), [silenced])
    assert samples(metrics)['kubewhy_suppressed_total{reason="silenced"}'] == 1


def test_what_comes_of_time_alone_has_no_latency() -> None:
    metrics = Metrics("explainer")
    ExplainerMetrics(metrics, clock).folded(Tick(), [OPENED])
    told = samples(metrics)
    assert told['kubewhy_findings_total{transition="opened"}'] == 1
    assert told["kubewhy_explainer_latency_seconds_count"] == 0


def test_a_collector_that_stands_by_is_not_active() -> None:
    metrics = Metrics("collector")
    collector = CollectorMetrics(metrics, "c1", clock=clock)
    assert samples(metrics)['kubewhy_collector_active{cluster="c1"}'] == 0
    collector.active(4)
    collector.active(None)
    assert samples(metrics)['kubewhy_collector_active{cluster="c1"}'] == 0
    assert samples(metrics)['kubewhy_collector_term{cluster="c1"}'] == 4


async def test_what_several_tell_of_one_sink_is_added_up() -> None:
    metrics = Metrics("sink")
    sinks = SinkMetrics(metrics)
    for waiting in (2, 3):
        sinks.sinks(lambda waiting=waiting: {"s3": Counts(1, 0, 0, waiting, timedelta(0))})  # type: ignore[misc]
    await metrics.look()
    assert samples(metrics)['kubewhy_notifications_waiting{sink="s3"}'] == 5
    assert samples(metrics)['kubewhy_notifications_total{outcome="delivered",sink="s3"}'] == 2


async def test_what_is_read_is_as_it_is_now() -> None:
    metrics = Metrics("explainer")
    open_ = {("c1", "critical"): 1, ("c2", "info"): 4}
    ExplainerMetrics(metrics).incidents(lambda: open_)
    await metrics.look()
    assert samples(metrics)['kubewhy_incidents_open{cluster="c2",severity="info"}'] == 4
    del open_["c2", "info"]
    await metrics.look()
    assert 'kubewhy_incidents_open{cluster="c2",severity="info"}' not in samples(metrics)


async def test_one_that_cannot_be_read_hides_no_other() -> None:
    metrics = Metrics("explainer")
    explainer, sinks, kafka = ExplainerMetrics(metrics), SinkMetrics(metrics), KafkaMetrics(metrics)

    def broken() -> dict[tuple[str, str], int]:
        raise RuntimeError("dictionary changed size during iteration")

    async def away() -> dict[str, list[int]]:
        raise ConnectionError

    explainer.incidents(broken)
    kafka.places(away)
    sinks.sinks(lambda: {"slack": Counts(1, 0, 0, 0, timedelta(0))})
    await metrics.look()
    assert samples(metrics)['kubewhy_notifications_total{outcome="delivered",sink="slack"}'] == 1
    assert samples(metrics)["kubewhy_kafka_reachable"] == 0


async def test_lag_is_unknown_while_the_brokers_do_not_answer() -> None:
    metrics = Metrics("analyzer")
    kafka = KafkaMetrics(metrics)
    answers = [{"kubewhy.evidence.v1": [3, 0, 4]}, None]

    async def look() -> dict[str, list[int]]:
        told = answers.pop(0)
        if told is None:
            await asyncio.sleep(3600)
        return told or {}

    kafka.places(look)
    await metrics.look()
    told = samples(metrics)
    assert told['kubewhy_kafka_consumer_lag_records{topic="kubewhy.evidence.v1"}'] == 7
    assert told['kubewhy_kafka_partitions{topic="kubewhy.evidence.v1"}'] == 3
    assert told["kubewhy_kafka_reachable"] == 1
    async with asyncio.timeout(30):
        await metrics.look()
    told = samples(metrics)
    assert not any("lag" in name or "kafka_partitions" in name for name in told)
    assert told["kubewhy_kafka_reachable"] == 0


async def test_two_who_look_at_once_do_not_disturb_each_other() -> None:
    metrics = Metrics("analyzer")
    kafka, go = KafkaMetrics(metrics), asyncio.Event()
    go.set()

    async def look() -> dict[str, list[int]]:
        await go.wait()
        return {"kubewhy.evidence.v1": [3]}

    kafka.places(look)
    await metrics.look()
    go.clear()
    other = asyncio.create_task(metrics.look())
    await asyncio.sleep(0)
    assert samples(metrics)["kubewhy_kafka_reachable"] == 1
    assert samples(metrics)['kubewhy_kafka_consumer_lag_records{topic="kubewhy.evidence.v1"}'] == 3
    go.set()
    await other


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    ],
)
async def test_openmetrics_is_given_where_it_is_wanted(accept: str) -> None:
    metrics = Metrics("all")
    next(all_roles(metrics))
    await metrics.look()
    text, type_ = metrics.text(accept)
    assert type_.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call]
    assert "kubewhy_findings" in names
    assert b"_created" not in text


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain", "nonsense;;q=x,,", "application/openmetrics-text;q=0", "text/plain;q=1,*/*;q=0.1"],
)
def test_text_is_given_otherwise(accept: str) -> None:
    text, type_ = Metrics("all").text(accept)
    assert type_.startswith("text/plain; version=0.0.4")
    assert b"_created" not in text


def test_to_count_costs_microseconds() -> None:
    metrics = Metrics("all")
    explainer, kafka = ExplainerMetrics(metrics), KafkaMetrics(metrics)
    told = report()
    for count in (lambda: explainer.folded(told, ()), lambda: kafka.consumed("kubewhy.evidence.v1")):
        assert min(timeit.repeat(count, number=1000, repeat=5)) / 1000 < 50e-6


def test_values_are_told_apart() -> None:
    for values in (WATCHED, RELISTS, PUBLISHED, OUTCOMES, SEVERITIES):
        assert len(set(values)) == len(values)
