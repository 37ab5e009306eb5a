"""The analyzers' stage: evidence in, a report out. It has no memory, so workers may come and go."""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from kubewhy.contracts import Analyzer
from kubewhy.kube.core import Namespace
from kubewhy.kube.meta import Object
from kubewhy.records import Evidence, Failure, Related, Report, decode_object

log = logging.getLogger(__name__)

# What is longer names more rules than there are, and would be carried by each report.
_LONGEST = 1024


class AnalyzerStage:
    """Judges each piece of evidence by all analyzers of its kind."""

    def __init__(self, analyzers: Iterable[Analyzer[Any]]) -> None:
        self._by_kind: dict[tuple[str, str], list[Analyzer[Any]]] = {}
        for analyzer in analyzers:
            resource = analyzer.reads.resource
            self._by_kind.setdefault((resource.group, resource.kind), []).append(analyzer)

    def feed(self, record: Evidence, now: datetime) -> Iterator[Report]:
        """One report for each piece of evidence about a kind that some analyzer judges."""
        analyzers = self._by_kind.get((record.ref.group, record.ref.kind))
        if not analyzers:
            return
        failures: list[Failure] = []
        broken: list[str] = []
        judged: Object | None = None
        related = Related(record)
        for analyzer in () if record.gone else analyzers:
            try:
                subject = decode_object(record.object, analyzer.reads)
                judged = subject
                failures += analyzer.find(subject, related)
            # Whatever a rule raises, the other analyzers and the other objects go on.
            except Exception as error:  # noqa: BLE001
                told = error if isinstance(error, msgspec.ValidationError) else type(error).__name__
                log.warning(
                    "analyzer broken", extra={"analyzer": analyzer.name, "object": str(record.ref), "error": told}
                )
                broken.append(analyzer.name)
        yield Report(
            cluster=record.cluster,
            version=record.version,
            ref=record.ref,
            root=record.root or record.ref,
            observed_at=record.observed_at,
            created=judged.created if judged else None,
            checked=tuple(analyzer.name for analyzer in analyzers),
            broken=tuple(broken),
            failures=tuple(failures),
            gone=record.gone,
            **(_told_by(judged, related) if judged and failures else {}),
        )


def _told_by(subject: Object, related: Related) -> dict[str, Any]:
    """What silences and routes go by. A namespace that is not known has no labels."""
    namespace = related.first(Namespace) or Namespace()
    return {
        "labels": subject.metadata.labels,
        "namespace_labels": namespace.metadata.labels,
        "ignore": _ignored(subject),
        "namespace_ignore": _ignored(namespace),
    }


def _ignored(subject: Object) -> str:
    told = subject.metadata.annotations.ignore or ""
    return told if len(told) <= _LONGEST else ""
