"""One look at a cluster or a recording: the same store, gathering and analyzers as the watching kind."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analyzers.stage import AnalyzerStage
from collectors import recorded
from collectors.answers import is_forbidden, nothing_readable
from collectors.gather import gather
from collectors.requests import Cluster
from collectors.store import Store, kinds_read
from collectors.watch import Skipped, read_once
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube.meta import LabelSelector, Object
from kubewhy.records import Report, Version

log = logging.getLogger(__name__)


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


async def analyze(
    cluster: Cluster,
    analyzers: Sequence[Analyzer[Any]],
    namespaces: tuple[str, ...] = (),
    *,
    all_namespaces: bool = False,
    selector: LabelSelector | None = None,
) -> Analysis:
    """Reads each kind once and judges every object.

    Where listing all namespaces is forbidden the context's own is read, unless all were asked for. Raises ConfigError
    when nothing at all may be read.
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
            raise ConfigError(f"there is no namespace {space} in {cluster.name}: check -n and the context")
        log.warning("there is nothing in namespace %s that could be judged", space)
    cluster_id, server = await cluster.identify(), await cluster.server_version()
    count, reports = _judge(store, analyzers, cluster_id, server, selector)
    return Analysis(cluster_id, cluster.name, cluster.now(), count, reports, store.refusals(), namespaces)


def analyze_recording(
    path: Path,
    analyzers: Sequence[Analyzer[Any]],
    namespaces: tuple[str, ...] = (),
    *,
    selector: LabelSelector | None = None,
) -> Analysis:
    """The same of a recording, as the cluster was at its end."""
    recording = recorded.read(path)
    store = Store(analyzers)
    now = datetime.min.replace(tzinfo=UTC)
    for at in recorded.replay(recording, store):
        now = at
    head = recording.header
    for space in _empty(store, kinds_read(analyzers), namespaces):
        log.warning("the recording holds nothing of namespace %s", space)
    count, reports = _judge(store, analyzers, head.cluster, head.server, selector, namespaces)
    return Analysis(head.cluster, head.name, now, count, reports, store.refusals(), namespaces)


def _judge(
    store: Store,
    analyzers: Sequence[Analyzer[Any]],
    cluster_id: str,
    server: str,
    selector: LabelSelector | None,
    namespaces: tuple[str, ...] = (),
) -> tuple[int, list[Report]]:
    stage = AnalyzerStage(analyzers)
    reports: list[Report] = []
    count = 0
    for evidence_key in _chosen(store, analyzers, selector, namespaces):
        count += 1
        evidence = gather(store, evidence_key, cluster=cluster_id, version=Version(0, count), server=server)
        reports += [each for each in stage.feed(evidence, evidence.observed_at) if each.failures or each.broken]
    return count, reports


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
