"""What is known of one failing object, in memory and across restarts. Pure."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from explainer.correlation import interned
from explainer.timed import Key, Timed, shared
from kubewhy.kube.naming import Name
from kubewhy.records import Failure, Record, Report, key_hash

_BETWEEN = ("ReplicaSet", "Job")
_NONE: dict[str, str] = {}


class Row(Record, frozen=True, kw_only=True):
    """What is kept of one object across restarts."""

    report: Report  # without its failures
    timed: list[tuple[Key, Timed]] = []
    deleted: bool = False
    forget: datetime | None = None  # it is well, and its version remembered until then
    shown: bytes = b""


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """What is seen of an object, and what is named there: kept packed, for there may be many."""

    seen: tuple[str, ...] = ()
    names: tuple[Name, ...] = ()

    def packed(self, before: bytes = b"") -> bytes:
        """Empty where there is nothing. What was packed `before`, where it is the same: unpacking is far quicker."""
        if not (self.seen or self.names):
            return b""
        plain = msgspec.msgpack.encode(self)
        return before if before and zlib.decompress(before) == plain else zlib.compress(plain, 1)

    @staticmethod
    def of(packed: bytes) -> "Shown":
        """The reverse."""
        return msgspec.msgpack.decode(zlib.decompress(packed), type=Shown) if packed else Shown()


@dataclass(slots=True)
class Known:
    """One object that fails, or did of late."""

    report: Report
    hash: int
    timed: dict[Key, Timed] = field(default_factory=dict)
    open: tuple[Failure, ...] = ()
    due: datetime | None = None
    deleted: bool = False
    forget: datetime | None = None
    shown: bytes = b""

    @staticmethod
    def of(report: Report) -> "Known":
        """One that was not known before."""
        report = msgspec.structs.replace(report, ref=interned(report.ref), root=interned(report.root))
        return Known(report, key_hash(report.ref.namespace, report.ref.name))

    @staticmethod
    def again(row: Row) -> "Known":
        """As it was when that row was written."""
        ref = row.report.ref
        known = Known(row.report, key_hash(ref.namespace, ref.name), dict(row.timed), deleted=row.deleted)
        for each in known.timed.values():
            each.failure = shared(each.failure)
        known.shown = row.shown
        known.forget, known.open = row.forget, tuple(each.failure for each in known.counting())
        return known

    def recognized(self, report: Report) -> Report:
        """The same, under the workload that is known: once what stands between the two is gone, or the object itself,
        nobody can tell it any more."""
        own, told = self.report.root, report.root
        if own in (told, self.report.ref) or not (told == report.ref or told.kind in _BETWEEN):
            return report
        return msgspec.structs.replace(report, root=own)

    def counting(self) -> Iterator[Timed]:
        """Its failures that have outlasted their holds."""
        return (each for each in self.timed.values() if each.counts)

    def row(self) -> Row:
        """What is to be kept of it."""
        timed = list(self.timed.items())
        return Row(report=self.report, timed=timed, deleted=self.deleted, forget=self.forget, shown=self.shown)


class Keeping:
    """What is to be known of objects' reports in one cluster, with what many have in common."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._namespaces: dict[str | None, dict[str, str]] = {}  # the labels of each, as last told

    def kept(self, report: Report, before: Report) -> Report:
        """Where nothing fails the labels stay as they were, for what is over and kept for a while."""
        told = report if report.failures else before
        namespace = told.namespace_labels or _NONE
        shared = self._namespaces.get(report.ref.namespace)
        if shared != namespace:
            shared = self._namespaces[report.ref.namespace] = namespace
        return msgspec.structs.replace(
            report,
            cluster=self._cluster,
            ref=before.ref,
            root=before.root if before.root == report.root else interned(report.root),
            failures=(),
            broken=(),
            checked=(),
            labels=told.labels or _NONE,
            namespace_labels=shared,
            ignore=told.ignore,
            namespace_ignore=told.namespace_ignore,
            seen=(),
            names=(),
            changes=(),
            restated=False,
        )


def alike(report: Report, other: Report) -> bool:
    """Whether silences and routes see no difference."""
    return (report.labels, report.namespace_labels, report.ignore, report.namespace_ignore) == (
        other.labels,
        other.namespace_labels,
        other.ignore,
        other.namespace_ignore,
    )
