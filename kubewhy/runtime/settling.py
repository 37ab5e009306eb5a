"""Watches until everything in scope has settled or something has fired, then tells what one look would have found."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from analyzers.stage import AnalyzerStage
from collectors.gather import gather
from collectors.index import Key
from collectors.requests import Cluster
from collectors.store import Store, kinds_read
from collectors.watching import Watching
from explainer.correlation import Standing, opens_at, standing
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import LabelSelector
from kubewhy.records import Evidence, Failure, Ref, Report, Severity, Version
from kubewhy.runtime.oneshot import Analysis, Look, no_namespace, with_logs
from kubewhy.runtime.rollouts import Flight, in_flight

# Holds and steadiness end at moments at which nothing happens.
_LOOK_AGAIN = 1.0
# However short the waiting, all has to be read once.
_READING = 60.0
# What is normal for longer than any start takes, as that a cron job is suspended, is not waited for.
_LONG = timedelta(minutes=10)


class Ending(Enum):
    SETTLED = "settled"
    FIRED = "fired"
    OVER = "over"  # the time was


class Awaited(NamedTuple):
    """What an object is still waited for."""

    ref: Ref
    words: str

    def __str__(self) -> str:
        return f"{self.ref}: {self.words}"


@dataclass(frozen=True)
class Waited:
    """How the waiting ended, after how long, what had fired or was still awaited, and what there was to be found."""

    ending: Ending
    seconds: float
    fired: list[Ref]
    awaited: list[Awaited]
    analysis: Analysis


class Settling:
    """What fails and what is on its way among the objects in scope, kept up as evidence comes. Pure."""

    def __init__(
        self, analyzers: Iterable[Analyzer[Any]], level: Severity | None = None, *, namespaced: bool = False
    ) -> None:
        """A failure fires from that severity on, or any does. `namespaced` heeds no object outside namespaces."""
        self._stage = AnalyzerStage(analyzers)
        self._level, self._namespaced = level, namespaced
        self._scope: set[Ref] = set()
        self._reports: dict[Ref, Report] = {}  # those with failures, or with an analyzer that broke
        self._flights: dict[Ref, Flight] = {}

    def take(self, evidence: Evidence) -> None:
        """How one object in scope is now."""
        ref = evidence.ref
        self.drop(ref)
        if evidence.gone:
            return
        self._scope.add(ref)
        for report in self._stage.feed(evidence, evidence.observed_at):
            if report.failures or report.broken:
                self._reports[ref] = report
        if flight := in_flight(evidence):
            self._flights[ref] = flight

    def drop(self, ref: Ref) -> None:
        """The object is gone, or out of scope."""
        self._scope.discard(ref)
        self._reports.pop(ref, None)
        self._flights.pop(ref, None)

    @property
    def reports(self) -> list[Report]:
        return [self._reports[ref] for ref in sorted(self._reports, key=str)]

    @property
    def objects(self) -> int:
        return len(self._scope)

    def ending(self, now: datetime) -> Ending | None:
        """Fired or settled; None while neither is so. A scope without any object has yet to settle."""
        if self.fired(now):
            return Ending.FIRED
        return None if self.awaited(now) or not any(map(self._heeds, self._scope)) else Ending.SETTLED

    def fired(self, now: datetime) -> list[Ref]:
        """The objects of which a failure counts."""
        return [ref for ref, report in self._reports.items() if self._heeds(ref) and self._fires(report, now)]

    def awaited(self, now: datetime) -> list[Awaited]:
        """All that is still waited for: first what is on its way, then failures that may yet count or pass."""
        for ref, flight in list(self._flights.items()):
            if flight.until and flight.until <= now:
                del self._flights[ref]
        coming = [Awaited(ref, flight.words) for ref, flight in self._flights.items()]
        held = [
            Awaited(report.ref, failure.message)
            for report in self._reports.values()
            for failure in report.failures
            if self._heeds(report.ref) and _may_fire(failure, report.created, now)
        ]
        # Workloads before their pods.
        return sorted(coming, key=lambda each: (each.ref.kind == "Pod", str(each.ref))) + held

    def _heeds(self, ref: Ref) -> bool:
        return ref.namespace is not None or not self._namespaced

    def _fires(self, report: Report, now: datetime) -> bool:
        return any(
            (self._level is None or failure.severity.rank >= self._level.rank)
            and standing(failure, report.created, now) is Standing.COUNTS
            for failure in report.failures
        )


def _may_fire(failure: Failure, created: datetime | None, now: datetime) -> bool:
    """Whether it is within its hold, and outlasts it unless something happens soon."""
    if standing(failure, created, now) is not Standing.HELD:
        return False
    opens = opens_at(failure, created, now)
    if failure.normal_at_first and opens - now > _LONG:
        return False
    return failure.until is None or opens < failure.until


async def settle(
    cluster: Cluster,
    analyzers: Sequence[Analyzer[Any]],
    namespaces: tuple[str, ...] = (),
    *,
    seconds: float,
    level: Severity | None = None,
    all_namespaces: bool = False,
    selector: LabelSelector | None = None,
    logs: bool = False,
    on_progress: Callable[[Sequence[Awaited]], None] = lambda awaited: None,
) -> Waited:
    """Watches for so many seconds at most; where namespaces are given, heeding only what is in them.

    Raises ConfigError as a look does, and when even that takes too long.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    touched: dict[Key, None] = {}
    store = Store(analyzers, lambda key: touched.setdefault(key))
    settling = Settling(analyzers, level, namespaced=bool(namespaces))
    # Says at once what is wrong with a server that does not answer, where watching would wait for it.
    cluster_id, server = await cluster.identify(), await cluster.server_version()
    for space in namespaces:
        if await cluster.has_namespace(space) is False:
            raise no_namespace(cluster, space)
    kinds = kinds_read(analyzers)
    watching = Watching(cluster, kinds, namespaces, [store], all_namespaces=all_namespaces)
    ending, awaited = None, list[Awaited]()
    try:
        await _listed(watching, cluster, seconds)
        while ending is None:
            for key in touched:
                evidence = gather(store, key, cluster=cluster_id, version=Version(0, 0), server=server)
                if _is_chosen(store, key, selector):
                    settling.take(evidence)
                else:
                    settling.drop(evidence.ref)
            touched.clear()
            now, left = cluster.now(), began + seconds - loop.time()
            ending, awaited = settling.ending(now), settling.awaited(now)
            if ending is None and left <= 0:
                ending = Ending.OVER
            if ending is None:
                on_progress(awaited)
                await watching.wait(min(left, _LOOK_AGAIN))
    finally:
        await watching.close()
    found = (settling.objects, settling.reports, store.refusals(), watching.namespaces)
    analysis = Analysis(cluster_id, cluster.name, now, *found)
    if logs:
        seen = Look(store, cluster_id, cluster.name, now, server, watching.namespaces)
        analysis = await with_logs(cluster, seen, analysis, analyzers)
    return Waited(ending, loop.time() - began, settling.fired(now), awaited, analysis)


def _is_chosen(store: Store, key: Key, selector: LabelSelector | None) -> bool:
    found = store.typed(key)
    return found is None or selector is None or selector.matches(found.metadata.labels)


async def _listed(watching: Watching, cluster: Cluster, seconds: float) -> None:
    limit = max(seconds, _READING)
    try:
        async with asyncio.timeout(limit):
            await watching.settle()
    except TimeoutError:
        raise ConfigError(f"{cluster.name}: not everything could be read within {limit:g} seconds") from None
