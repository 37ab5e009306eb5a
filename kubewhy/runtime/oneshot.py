"""One look at a cluster or a recording: the same store, gathering and analyzers as the watching kind."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from analyzers.stage import AnalyzerStage
from collectors import recorded
from collectors.answers import is_forbidden, nothing_readable
from collectors.gather import gather
from collectors.index import Key
from collectors.logs import Logs, deaths
from collectors.requests import Cluster
from collectors.store import Store, kinds_read
from collectors.watch import Skipped, read_once
from explainer.masking import redacted
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube.batch import Job
from kubewhy.kube.core import Pod
from kubewhy.kube.meta import LabelSelector, Object
from kubewhy.records import Evidence, Report, Version

log = logging.getLogger(__name__)

LOGS_SECONDS, LOGS_PODS = 10.0, 20  # how long log lines are waited for, and of how many pods they are read


@dataclass(frozen=True)
class Look:
    """What was read of a cluster, as it was at one moment."""

    store: Store
    cluster_id: str
    cluster_name: str
    observed_at: datetime
    server: str
    namespaces: tuple[str, ...] = ()  # empty: all


@dataclass(frozen=True)
class Analysis:
    """What one look found. `reports` are those with failures, or with an analyzer that broke."""

    cluster_id: str
    cluster_name: str
    observed_at: datetime
    objects: int
    reports: list[Report]
    skipped: list[tuple[str, str]]  # the kind's plural, with its namespace where only one is refused; and why
    namespaces: tuple[str, ...] = ()  # empty: all


async def look(
    cluster: Cluster,
    analyzers: Sequence[Analyzer[Any]],
    namespaces: tuple[str, ...] = (),
    *,
    all_namespaces: bool = False,
) -> Look:
    """Reads each kind once.

    Where listing all namespaces is forbidden the context's own is read, unless all were asked for. Raises ConfigError
    when nothing at all may be read, and for a namespace that does not exist.
    """
    store = Store(analyzers)
    kinds = kinds_read(analyzers)
    skipped = await read_once(cluster, kinds, namespaces, store)
    why = _nothing_read(skipped, kinds, namespaces)
    if why and is_forbidden(why) and not namespaces and not all_namespaces:
        namespaces = (cluster.namespace,)
        skipped = await read_once(cluster, kinds, namespaces, store)
        why = _nothing_read(skipped, kinds, namespaces)
        if not why:
            log.warning("listing all namespaces is forbidden: reading namespace %s only", cluster.namespace)
    if why:
        raise nothing_readable(cluster.name, why)
    for space in _empty(store, kinds, namespaces):
        if await cluster.has_namespace(space) is False:
            raise no_namespace(cluster, space)
    cluster_id, server = await cluster.identify(), await cluster.server_version()
    return Look(store, cluster_id, cluster.name, cluster.now(), server, namespaces)


def look_at_recording(path: Path, analyzers: Sequence[Analyzer[Any]], namespaces: tuple[str, ...] = ()) -> Look:
    """The same of a recording, as the cluster was at its end. Only what is in these namespaces is to be judged."""
    recording = recorded.read(path)
    store = Store(analyzers)
    now = datetime.min.replace(tzinfo=UTC)
    for at in recorded.replay(recording, store):
        now = at
    head = recording.header
    return Look(store, head.cluster, head.name, now, head.server, namespaces)


async def analyze(
    cluster: Cluster,
    analyzers: Sequence[Analyzer[Any]],
    namespaces: tuple[str, ...] = (),
    *,
    all_namespaces: bool = False,
    selector: LabelSelector | None = None,
    logs: bool = False,
) -> Analysis:
    """Looks once, and judges every object; with `logs`, by what containers that died wrote last too.

    Raises ConfigError as `look` does.
    """
    seen = await look(cluster, analyzers, namespaces, all_namespaces=all_namespaces)
    for space in _empty(seen.store, kinds_read(analyzers), seen.namespaces):
        log.warning("there is nothing in namespace %s that could be judged", space)
    analysis = judge(seen, analyzers, selector=selector)
    return await with_logs(cluster, seen, analysis, analyzers) if logs else analysis


def analyze_recording(
    path: Path,
    analyzers: Sequence[Analyzer[Any]],
    namespaces: tuple[str, ...] = (),
    *,
    selector: LabelSelector | None = None,
) -> Analysis:
    """The same of a recording, as the cluster was at its end."""
    seen = look_at_recording(path, analyzers, namespaces)
    for space in _empty(seen.store, kinds_read(analyzers), namespaces):
        log.warning("the recording holds nothing of namespace %s", space)
    return judge(seen, analyzers, selector=selector)


def judge(seen: Look, analyzers: Sequence[Analyzer[Any]], *, selector: LabelSelector | None = None) -> Analysis:
    """What the analyzers hold against all that was read, in the namespaces asked for."""
    stage = AnalyzerStage(analyzers)
    reports: list[Report] = []
    count = 0
    for key in _chosen(seen.store, analyzers, selector, seen.namespaces):
        count += 1
        evidence = _evidence(seen, key, count)
        reports += [each for each in stage.feed(evidence, evidence.observed_at) if each.failures or each.broken]
    skipped = seen.store.refusals()
    return Analysis(seen.cluster_id, seen.cluster_name, seen.observed_at, count, reports, skipped, seen.namespaces)


async def with_logs(cluster: Cluster, seen: Look, analysis: Analysis, analyzers: Sequence[Analyzer[Any]]) -> Analysis:
    """The same, with what containers wrote last before they died: those of the worst pods, and of the pods of Jobs."""
    logs, stage = Logs(cluster, redacted), AnalyzerStage(analyzers)
    try:
        pods = set(islice(_dead(seen, analysis), LOGS_PODS))
        for key in pods:
            logs.add(_evidence(seen, key))
        await logs.settle(LOGS_SECONDS)
        reports = []
        for report in analysis.reports:
            key = Key(report.ref.kind, report.ref.namespace, report.ref.name)
            if key in pods or key.kind == Job.resource.kind:
                evidence = logs.add(_evidence(seen, key, report.version.seq))
                report = next(iter(stage.feed(evidence, evidence.observed_at)))
            reports.append(report)
        return replace(analysis, reports=reports)
    finally:
        await logs.close()


def _dead(seen: Look, analysis: Analysis) -> Iterator[Key]:
    """The pods that fail, or that belong to a Job that does, and have a container that died: the worst first."""
    for report in sorted(analysis.reports, key=_badness, reverse=True):
        key = Key(report.ref.kind, report.ref.namespace, report.ref.name)
        subject = seen.store.typed(key)
        within = seen.store.index.family.descendants(subject.metadata.uid) if isinstance(subject, Job) else (key,)
        for each in within:
            pod = seen.store.typed(each)
            if isinstance(pod, Pod) and any(deaths(pod, seen.store.observed_at or seen.observed_at)):
                yield each


def _badness(report: Report) -> int:
    return max((failure.severity.rank for failure in report.failures), default=-1)


def _evidence(seen: Look, key: Key, seq: int = 0) -> Evidence:
    return gather(seen.store, key, cluster=seen.cluster_id, version=Version(0, seq), server=seen.server)


def _chosen(
    store: Store, analyzers: Sequence[Analyzer[Any]], selector: LabelSelector | None, namespaces: tuple[str, ...]
) -> Iterator[Any]:
    for kind in dict.fromkeys(analyzer.reads.resource.kind for analyzer in analyzers):
        for key in store.keys(kind):
            if namespaces and key.namespace is not None and key.namespace not in namespaces:
                continue
            if selector is not None:
                found = store.typed(key)
                if found is None or not selector.matches(found.metadata.labels):
                    continue
            yield key


def _nothing_read(skipped: Sequence[Skipped], kinds: Sequence[type[Object]], namespaces: tuple[str, ...]) -> str:
    """Why every namespaced kind was refused everywhere, where that is so: nodes alone make no analysis."""
    wanted = [(kind.resource, space) for kind in kinds if kind.resource.namespaced for space in namespaces or (None,)]
    refused = {(each.resource, each.namespace): each.reason for each in skipped}
    return refused[wanted[0]] if wanted and refused.keys() >= set(wanted) else ""


def _empty(store: Store, kinds: Sequence[type[Object]], namespaces: tuple[str, ...]) -> list[str]:
    """Which of these namespaces hold nothing that was read."""
    full = {key.namespace for kind in kinds for key in store.keys(kind.resource.kind)}
    return [space for space in namespaces if space not in full]


def no_namespace(cluster: Cluster, name: str) -> ConfigError:
    """One line for a namespace that is not there."""
    return ConfigError(f"there is no namespace {name} in {cluster.name}: check -n and the context")
