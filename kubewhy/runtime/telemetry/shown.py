"""What is shown of a process: what it notes, as the metrics of all roles that it has."""

from collections.abc import Awaitable, Callable, Mapping

from kubewhy.runtime.courier import Counts
from kubewhy.runtime.telemetry.families import Metrics
from kubewhy.runtime.telemetry.metrics import (
    AnalyzerMetrics,
    CollectorMetrics,
    ExplainerMetrics,
    KafkaMetrics,
    ModelMetrics,
    SinkMetrics,
)
from kubewhy.runtime.telemetry.notes import Notes


class Shown:
    """Each method says that there is something in this process that does so, and notes it."""

    def __init__(self, metrics: Metrics, notes: Notes) -> None:
        self._metrics, self.notes = metrics, notes

    def speaks(self, lags: Callable[[], Awaitable[Mapping[str, list[int]]]], stage: str) -> None:
        """To Kafka. `lags` asks how many records are still to come, by topic; `stage`, if any, sets some aside."""
        made, notes = KafkaMetrics(self._metrics), self.notes
        made.places(lags)
        if stage:
            made.dead(stage, 0)
        notes.consumed, notes.produced = made.consumed, made.produced
        notes.dead, notes.commit_failed = made.dead, made.commit_failed

    def collects(self, cluster: str, name: str, waiting: Callable[[], int]) -> None:
        """How the objects of that cluster are. `waiting` counts those of which something is still to be said."""
        made, notes = CollectorMetrics(self._metrics, cluster, name), self.notes
        made.waiting(waiting)
        notes.watched, notes.listed = made.watched, made.listed
        notes.published, notes.active = made.published, made.active

    def judges(self) -> None:
        """Evidence."""
        self.notes.judged = AnalyzerMetrics(self._metrics).judged

    def explains(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """What fails, by incidents. `count` says how many are open, by cluster and severity."""
        made, notes = ExplainerMetrics(self._metrics), self.notes
        made.incidents(count)
        notes.folded, notes.spared = made.folded, made.suppressed

    def asks(self) -> None:
        """Language models."""
        made, notes = ModelMetrics(self._metrics), self.notes
        notes.called, notes.spent = made.called, made.spent
        notes.looked_up = lambda found: made.looked_up(found=found)

    def delivers(self, counts: Callable[[], Mapping[str, Counts]]) -> None:
        """To sinks. `counts` says how it goes with each."""
        made = SinkMetrics(self._metrics)
        made.sinks(counts)
        self.notes.delivered = made.delivered
