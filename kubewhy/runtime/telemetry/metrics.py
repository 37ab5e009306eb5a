"""What each role tells Prometheus of itself. All metrics are declared here.

None is by object, namespace or incident, so there are as many series in a large cluster as in a small one. To count
costs microseconds, and raises nothing. Ages are by the clock of this machine: one that goes wrong shows there.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

import msgspec

from kubewhy.contracts import Completion
from kubewhy.records import Answer, Evidence, Finding, Report
from kubewhy.runtime.courier import Counts
from kubewhy.runtime.telemetry.families import Metrics

Clock = Callable[[], float]  # seconds since 1970
ANY: tuple[str, ...] = ()  # values that only settings or the cluster know

WATCHED = ("added", "modified", "deleted", "bookmark", "error")
RELISTS = ("start", "expired", "refused", "restored", "unreadable")
RECORDS = ("report", "inventory", "heartbeat", "tick", "answer", "silence")
PUBLISHED = ("evidence", "restated", "report", "inventory", "heartbeat")
TRANSITIONS = ("opened", "updated", "explained", "resolved", "repeated")
SUPPRESSIONS = ("silenced", "held", "digest")
OUTCOMES = ("answered", "unfit", "rejected", "failed", "misconfigured")
SEVERITIES = ("info", "warning", "critical")


class CollectorMetrics:
    """Of one cluster's collector."""

    def __init__(self, metrics: Metrics, cluster: str, name: str = "", clock: Clock = time.time) -> None:
        self._cluster, self._clock = cluster, clock
        self._events = metrics.counter(
            "collector_watch_events_total",
            "What watches told of.",
            resource=ANY,
            type=WATCHED,
        )
        self._relists = metrics.counter(
            "collector_relists_total",
            "Kinds that were listed: at the start, and again because the server had forgotten our version, had refused "
            "us, or was restored from a backup.",
            resource=ANY,
            reason=RELISTS,
        )
        self._last = metrics.gauge(
            "collector_last_event_timestamp_seconds",
            "When a watch told of that kind last. Kinds of which nothing happens are quiet for long.",
            resource=ANY,
        )
        self._published = metrics.counter(
            "collector_records_published_total",
            "Records that were handed on. Restated is evidence that says again what was said before.",
            record=PUBLISHED,
        )
        self._latency = metrics.histogram(
            "collector_latency_seconds",
            "How old evidence of a change is when it is handed on, since the API server told of it.",
        )
        self._waiting = metrics.shown(
            "collector_waiting_objects", "gauge", "Objects of which something is still to be said."
        )
        self._active = metrics.gauge(
            "collector_active",
            "1 while this collector is the active one of its cluster. Of a cluster's collectors exactly one is.",
            cluster=ANY,
        )
        self._term = metrics.gauge(
            "collector_term",
            "The term for which it was last the active one: it grows each time that changes.",
            cluster=ANY,
        )
        info = metrics.gauge("collector_cluster_info", "What people call that cluster.", cluster=ANY, name=ANY)
        info.of(cluster, name or cluster).set(1)
        self._active.of(cluster).set(0)

    def watched(self, resource: str, type: str) -> None:
        """A watch told of an object: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
        self._events.of(resource, type.lower()).inc()
        self._last.of(resource).set(self._clock())

    def listed(self, resource: str, reason: str) -> None:
        """A kind was listed, for one of RELISTS."""
        self._relists.of(resource, reason).inc()

    def published(self, record: msgspec.Struct) -> None:
        """A record was handed over."""
        again = isinstance(record, Evidence) and record.restated
        self._published.of("restated" if again else _tag(record)).inc()
        if isinstance(record, Evidence | Report) and not record.restated:
            self._latency.of().observe(_age(record.observed_at, self._clock))

    def waiting(self, count: Callable[[], int]) -> None:
        """That says how many objects wait."""
        self._waiting.by(lambda: {(): count()})

    def active(self, term: int | None) -> None:
        """It is the active one, for this term; or it is not."""
        self._active.of(self._cluster).set(term is not None)
        if term is not None:
            self._term.of(self._cluster).set(term)


class AnalyzerMetrics:
    """Of a worker that judges evidence."""

    def __init__(self, metrics: Metrics, clock: Clock = time.time) -> None:
        self._clock = clock
        self._records = metrics.counter("analyzer_records_total", "Records of evidence that were judged.")
        self._reports = metrics.counter("analyzer_reports_total", "Reports that were made of them.")
        self._broken = metrics.counter(
            "analyzer_broken_total", "Objects on which that analyzer raised: a bug of it.", analyzer=ANY
        )
        self._batch = metrics.histogram(
            "analyzer_batch_seconds", "How long a batch takes from its arrival until its reports have arrived."
        )
        self._latency = metrics.histogram(
            "analyzer_latency_seconds",
            "How old evidence of a change is when its report has arrived, since it was observed.",
        )

    def judged(self, reports: Iterable[Report], records: int, seconds: float) -> None:
        """A batch is through: of so many records, in so many seconds."""
        self._records.of().inc(max(records, 0))
        self._batch.of().observe(max(seconds, 0.0))
        now, late, count = self._clock(), self._latency.of(), 0
        for report in reports:
            count += 1
            if not report.restated:
                late.observe(max(now - report.observed_at.timestamp(), 0.0))
            for name in report.broken:
                self._broken.of(name).inc()
        self._reports.of().inc(count)


class SparedMetrics:
    """Of what people are not told: by the explainer, and by sinks."""

    def __init__(self, metrics: Metrics) -> None:
        self._suppressed = metrics.counter(
            "suppressed_total",
            "What people were spared: transitions of silenced incidents, failures that were over before their hold "
            "was, and, at sinks, transitions for which a digest stood.",
            reason=SUPPRESSIONS,
        )

    def suppressed(self, reason: str, count: int = 1) -> None:
        """For one of SUPPRESSIONS."""
        self._suppressed.of(reason).inc(max(count, 0))


class ExplainerMetrics:
    """Of what makes incidents of reports."""

    def __init__(self, metrics: Metrics, clock: Clock = time.time) -> None:
        self._clock = clock
        self._records = metrics.counter("explainer_records_total", "Records that were folded in.", record=RECORDS)
        self._findings = metrics.counter(
            "findings_total",
            "Transitions of incidents, of all that are told and of silenced ones.",
            transition=TRANSITIONS,
        )
        self._open = metrics.shown(
            "incidents_open", "gauge", "Incidents that are open.", cluster=ANY, severity=SEVERITIES
        )
        self.suppressed = SparedMetrics(metrics).suppressed
        self._latency = metrics.histogram(
            "explainer_latency_seconds",
            "How old a change is when it has become a finding, since it was observed. Holds are not in it: what comes "
            "of time alone is not counted here.",
        )
        self._answers = metrics.counter(
            "explainer_answers_total",
            "What came of asking models about incidents.",
            result=("explained", "unexplained"),
        )

    def folded(self, record: msgspec.Struct, findings: Iterable[Finding]) -> None:
        """One record was folded in, and led to these."""
        self._records.of(_tag(record)).inc()
        if isinstance(record, Answer):
            self._answers.of("explained" if record.explanation else "unexplained").inc()
        for finding in findings:
            self._findings.of(finding.transition).inc()
            if finding.silenced:
                self.suppressed("silenced")
            if isinstance(record, Report) and not record.restated:
                self._latency.of().observe(_age(record.observed_at, self._clock))

    def incidents(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """That says how many are open, by cluster and severity."""
        self._open.by(lambda: {(cluster, severity): many for (cluster, severity), many in count().items()})


class ModelMetrics:
    """Of asking language models."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls = metrics.counter(
            "llm_requests_total",
            "Calls to models. Unfit is an answer that was not what was asked for.",
            backend=ANY,
            model=ANY,
            outcome=OUTCOMES,
        )
        self._took = metrics.histogram("llm_request_seconds", "How long models take.", backend=ANY, model=ANY)
        self._tokens = metrics.counter(
            "llm_tokens_total", "Tokens, as the vendor counts them.", backend=ANY, model=ANY, type=("input", "output")
        )
        self._cost = metrics.counter(
            "llm_cost_dollars_total", "What they cost, where the settings tell prices.", backend=ANY, model=ANY
        )
        self._cache = metrics.counter(
            "explanation_cache_requests_total", "Whether the same had been answered before.", result=("hit", "miss")
        )

    def called(self, backend: str, model: str, outcome: str, seconds: float) -> None:
        """A model was asked, with one of OUTCOMES. `model` is what the settings name, not what the vendor says."""
        self._calls.of(backend, model, outcome).inc()
        self._took.of(backend, model).observe(max(seconds, 0.0))

    def spent(self, backend: str, model: str, completion: Completion, cost: float | None) -> None:
        """What an answer took."""
        self._tokens.of(backend, model, "input").inc(max(completion.input_tokens, 0))
        self._tokens.of(backend, model, "output").inc(max(completion.output_tokens, 0))
        if cost and cost > 0:
            self._cost.of(backend, model).inc(cost)

    def looked_up(self, *, found: bool) -> None:
        """It was looked up whether the same had been answered before."""
        self._cache.of("hit" if found else "miss").inc()


class SinkMetrics:
    """Of bringing findings to sinks."""

    def __init__(self, metrics: Metrics, clock: Clock = time.time) -> None:
        self._clock = clock
        self._notified = metrics.shown(
            "notifications_total",
            "counter",
            "Findings that a sink took, or refused for good.",
            sink=ANY,
            outcome=("delivered", "refused"),
        )
        self._failed = metrics.shown(
            "notification_failures_total", "counter", "Calls of that sink that failed, and are tried again.", sink=ANY
        )
        self._waiting = metrics.shown("notifications_waiting", "gauge", "Findings that wait for that sink.", sink=ANY)
        self._lag = metrics.shown(
            "notification_lag_seconds", "gauge", "How old what waits longest for that sink is.", sink=ANY
        )
        self._latency = metrics.histogram(
            "notification_latency_seconds", "How old findings are when that sink has taken them.", sink=ANY
        )
        self._spared = SparedMetrics(metrics)

    def delivered(self, sink: str, findings: Iterable[Finding]) -> None:
        """The sink took these."""
        now, late = self._clock(), self._latency.of(sink)
        for finding in findings:
            late.observe(max(now - finding.at.timestamp(), 0.0))
            if finding.digest:
                self._spared.suppressed("digest")

    def sinks(self, counts: Callable[[], Mapping[str, Counts]]) -> None:
        """That says how it goes with each: `Delivery.counts` does."""
        self._notified.by(
            lambda: {
                (name, outcome): count
                for name, each in counts().items()
                for outcome, count in (("delivered", each.delivered), ("refused", each.dead))
            }
        )
        self._failed.by(lambda: {(name,): each.failed for name, each in counts().items()})
        self._waiting.by(lambda: {(name,): each.waiting for name, each in counts().items()})
        self._lag.by(lambda: {(name,): each.lag.total_seconds() for name, each in counts().items()})


class KafkaMetrics:
    """Of speaking to Kafka, whatever the role. Topics are called as the brokers call them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._consumed = metrics.counter("kafka_consumed_records_total", "Records that came from there.", topic=ANY)
        self._produced = metrics.counter("kafka_produced_records_total", "Records that arrived there.", topic=ANY)
        self._dead = metrics.counter(
            "dead_letters_total", "Records that could not be used, and were set aside.", stage=ANY
        )
        self._commits = metrics.counter(
            "kafka_commit_failures_total", "Offsets that could not be committed: some records are done again."
        )
        self._reachable = metrics.gauge("kafka_reachable", "1 while the brokers answer.")
        self._lag = metrics.shown(
            "kafka_consumer_lag_records",
            "gauge",
            "Records that are still to come to us, of the partitions that are ours.",
            topic=ANY,
        )
        self._partitions = metrics.shown("kafka_partitions", "gauge", "Partitions that are ours.", topic=ANY)
        self._lags: dict[tuple[str, ...], float] = {}
        self._ours: dict[tuple[str, ...], float] = {}
        self._lag.by(lambda: self._lags)
        self._partitions.by(lambda: self._ours)

    def consumed(self, topic: str, count: int = 1) -> None:
        """So many records came."""
        self._consumed.of(topic).inc(max(count, 0))

    def produced(self, topic: str, count: int = 1) -> None:
        """So many records have arrived."""
        self._produced.of(topic).inc(max(count, 0))

    def dead(self, stage: str, count: int = 1) -> None:
        """So many records were set aside; so far none, as one that may do so begins."""
        self._dead.of(stage).inc(count)

    def commit_failed(self) -> None:
        """An offset could not be committed."""
        self._commits.of().inc()

    def reachable(self, *, now: bool) -> None:
        """Whether the brokers answer now."""
        self._reachable.of().set(now)

    def places(self, look: Callable[[], Awaitable[Mapping[str, list[int]]]]) -> None:
        """That asks the brokers how many records are still to come, by topic, in each partition of ours: `lag` does.

        Where they do not answer, they are taken for not reachable, and nobody knows.
        """

        async def read() -> None:
            found: Mapping[str, list[int]] = {}
            answered = False
            try:
                found = await look()
                answered = True
            finally:
                # At once, so that whoever looks meanwhile sees what was before.
                self._lags = {(topic,): sum(each) for topic, each in found.items()}
                self._ours = {(topic,): len(each) for topic, each in found.items()}
                self.reachable(now=answered)

        self._metrics.before(read)


def _tag(record: msgspec.Struct) -> str:
    return str(record.__struct_config__.tag or type(record).__name__.lower())


def _age(at: datetime, clock: Clock) -> float:
    return max(clock() - at.timestamp(), 0.0)
