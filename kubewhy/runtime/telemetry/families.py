"""How metrics are kept and shown: families of counters, gauges and histograms, on a registry of one's own."""

import asyncio
import itertools
import logging
import platform
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from kubewhy import __version__

log = logging.getLogger(__name__)

Read = Callable[[], Mapping[tuple[str, ...], float]]
Kind = TypeVar("Kind", Counter, Gauge, Histogram)

# From what is done at once to what has waited for a model, or for a sink that was down.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# However wrong somebody's labels are: a server of metrics is not to be drowned in series.
# A thousand clusters are not many, and each is there with three severities.
MOST = 5000
OTHER = "other"
_READING_SECONDS = 2.0


@dataclass(frozen=True)
class Family:
    """One metric as its reference shows it. Of a label whose values are known beforehand, all are there at once."""

    name: str
    kind: str
    says: str
    labels: Mapping[str, Sequence[str]]


class Series(Generic[Kind]):
    """The series of one family, by the values of its labels. Cheap enough to be asked for each record."""

    def __init__(self, parent: Kind, labels: Mapping[str, Sequence[str]]) -> None:
        self._parent: Kind = parent
        self._width = len(labels)
        self._known: dict[tuple[str, ...], Kind] = {}
        if all(labels.values()):
            for values in itertools.product(*labels.values()):
                self.of(*values)

    def of(self, *values: str) -> Kind:
        """The one with these values; past so many, one for all others."""
        known = self._known.get(values)
        if known is None:
            told = values if len(self._known) < MOST else (OTHER,) * self._width
            known = self._parent.labels(*told) if told else self._parent
            if len(self._known) <= MOST:
                self._known[told] = known
        return known


class Shown(Collector):
    """A family whose values are read where they are kept, when somebody looks."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._reads: list[Read] = []
        self._values: dict[tuple[str, ...], float] = {}

    def by(self, read: Read) -> None:
        """Reads it there, too. What several tell of the same labels is added up."""
        self._reads.append(read)

    def look(self) -> None:
        """Reads it all."""
        values: dict[tuple[str, ...], float] = {}
        for read in self._reads:
            for labels, value in read().items():
                told = labels if labels in values or len(values) < MOST else (OTHER,) * len(labels)
                values[told] = values.get(told, 0.0) + value
        self._values = values

    def describe(self) -> Iterable[Metric]:
        """So that no other has its name."""
        return [self._made()]

    def collect(self) -> Iterable[Metric]:
        """As it was when it was last looked at."""
        made = self._made()
        for labels, value in self._values.items():
            made.add_metric(labels, value)
        return [made]

    def _made(self) -> CounterMetricFamily | GaugeMetricFamily:
        make = CounterMetricFamily if self._family.kind == "counter" else GaugeMetricFamily
        return make(self._family.name, self._family.says, labels=list(self._family.labels))


class Metrics:
    """All that one process shows. Nothing of it is shared with another of the same process.

    Labels name their values where these are known beforehand, else nothing.
    """

    def __init__(self, role: str) -> None:
        self.families: list[Family] = []
        self._counters: dict[str, Series[Counter]] = {}
        self._registry = CollectorRegistry()
        self._shown: list[Shown] = []
        self._looks: list[Callable[[], Awaitable[None]]] = []
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        build = self.gauge("build_info", "Which kubewhy this is, and as what it runs.", version=(), role=(), python=())
        build.of(__version__, role, platform.python_version()).set(1)

    def counter(self, name: str, says: str, /, **labels: Sequence[str]) -> Series[Counter]:
        """Counts up. What is declared again is the same."""
        if name not in self._counters:
            family = self._declared(name, "counter", says, labels)
            self._counters[name] = Series(Counter(family.name, says, list(labels), registry=self._registry), labels)
        return self._counters[name]

    def gauge(self, name: str, says: str, /, **labels: Sequence[str]) -> Series[Gauge]:
        """Is so much now."""
        family = self._declared(name, "gauge", says, labels)
        return Series(Gauge(family.name, says, list(labels), registry=self._registry), labels)

    def histogram(self, name: str, says: str, /, **labels: Sequence[str]) -> Series[Histogram]:
        """How long things take, in seconds."""
        family = self._declared(name, "histogram", says, labels)
        made = Histogram(family.name, says, list(labels), registry=self._registry, buckets=BUCKETS)
        return Series(made, labels)

    def shown(self, name: str, kind: str, says: str, /, **labels: Sequence[str]) -> Shown:
        """Is read when somebody looks: a counter or a gauge."""
        shown = Shown(self._declared(name, kind, says, labels))
        self._registry.register(shown)
        self._shown.append(shown)
        return shown

    def before(self, look: Callable[[], Awaitable[None]]) -> None:
        """Is done whenever somebody looks: for what has to be asked for. It may take a moment, and no longer."""
        self._looks.append(look)

    async def look(self) -> None:
        """Reads all that is to be read, in the loop whose state it is. Nothing raises out of it."""
        for look in self._looks:
            try:
                async with asyncio.timeout(_READING_SECONDS):
                    await look()
            except Exception as error:  # noqa: BLE001 - whoever looks must not disturb what runs, nor miss the rest
                log.debug("a metric cannot be read (%s)", type(error).__name__)
        for shown in self._shown:
            try:
                shown.look()
            except Exception as error:  # noqa: BLE001 - as above
                log.debug("a metric cannot be read (%s)", type(error).__name__)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All of it as it was last looked at, and the type of that: as OpenMetrics where that is accepted."""
        if _accepts(accept, "application/openmetrics-text") > _accepts(accept, "text/plain"):
            made: bytes = openmetrics.generate_latest(_Lean(self._registry))  # type: ignore[no-untyped-call]
            return made, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(_Lean(self._registry)), CONTENT_TYPE_PLAIN_0_0_4

    def _declared(self, name: str, kind: str, says: str, labels: Mapping[str, Sequence[str]]) -> Family:
        family = Family(f"kubewhy_{name}", kind, says, labels)
        self.families.append(family)
        return family


class _Lean(Collector):
    """Without when each series began: that would be as many again."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric


def _accepts(accept: str, wanted: str) -> float:
    """How much somebody wants that type, from 0 to 1."""
    most = 0.0
    for each in accept.split(","):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        if name == wanted:
            told = next((part[2:] for part in parameters if part.startswith("q=")), "1")
            try:
                most = max(most, float(told))
            except ValueError:
                continue
    return most
