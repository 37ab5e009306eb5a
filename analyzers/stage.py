"""The analyzers' stage: evidence in, a report out. It has no memory, so workers may come and go."""

import logging
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from analyzers.seen import lines
from kubewhy.contracts import Analyzer
from kubewhy.kube.core import Namespace
from kubewhy.kube.meta import Object
from kubewhy.kube.naming import names
from kubewhy.records import Evidence, Failure, Report, encode
from kubewhy.related import Related, decode_object

log = logging.getLogger(__name__)

# What is longer names more rules than there are, and would be carried by each report.
_LONGEST = 1024


# Years so far away that rules cannot reckon with them. Go's zero time is of the year 1.
_FAR = re.compile(rb'"(?:(0)|9)[0-9]{3}(-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")')


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
                judged, found = _judge(analyzer, record, related)
                failures += found
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
            **(_told_by(judged, related, record, failures) if judged and failures else {}),
            # Most pods come and go with their workloads, which tell the same.
            restated=record.restated,
            changes=record.changes if failures or (record.root is None and record.ref.kind != "Pod") else (),
        )


def _judge(analyzer: Analyzer[Any], record: Evidence, related: Related) -> tuple[Object, list[Failure]]:
    subject: Object = decode_object(record.object, analyzer.reads)
    try:
        return subject, list(analyzer.find(subject, related))
    except OverflowError:
        record = _nearer(record)
        return subject, list(analyzer.find(decode_object(record.object, analyzer.reads), Related(record)))


def _nearer(record: Evidence) -> Evidence:
    """The same with times that can be reckoned with: what is long ago, or far ahead, stays so."""
    told = _FAR.sub(lambda far: (b'"1972' if far[1] else b'"2996') + far[2], encode(record))
    return msgspec.json.decode(told, type=Evidence)


def _told_by(subject: Object, related: Related, record: Evidence, failures: list[Failure]) -> dict[str, Any]:
    """What silences and routes go by, what shows the failures, and what is named there.

    A namespace that is not known has no labels.
    """
    namespace = related.first(Namespace) or Namespace()
    seen = lines(subject, related, record.events, record.logs)
    told = "\n".join([*seen, *(failure.message for failure in failures)])
    named = dict.fromkeys(names(msgspec.json.decode(record.object)))
    return {
        "labels": subject.metadata.labels,
        "namespace_labels": namespace.metadata.labels,
        "ignore": _ignored(subject),
        "namespace_ignore": _ignored(namespace),
        "seen": seen,
        "names": tuple(name for name in named if name.text in told),
    }


def _ignored(subject: Object) -> str:
    told = subject.metadata.annotations.ignore or ""
    return told if len(told) <= _LONGEST else ""
