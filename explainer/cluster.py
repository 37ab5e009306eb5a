"""One cluster's incidents: what is kept of them, which failures make one, and which group an incident goes on as."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256

import msgspec

from explainer.changing import Changes
from explainer.correlation import Group, correlate
from explainer.failing import Failing
from kubewhy.records import Change, Explanation, Failure, Record, Ref, Report, Severity

PRINTS = 20  # of an incident are kept, to know it again after a restart


class Shape(Record, frozen=True, kw_only=True):
    """What makes a change worth telling."""

    faults: str  # which failures of which objects, as a hash
    root: Ref
    severity: Severity
    count: int
    changes: int = 0  # that are known to have come before


class Head(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One incident, as it is kept across restarts."""

    id: str
    number: int  # in the order of opening
    opened_at: datetime
    told_at: datetime
    told: Shape
    title: str
    revision: int = 1
    prints: tuple[str, ...] = ()
    changed_at: datetime | None = None  # since when it is otherwise than it was told
    silence: bool = False  # it is about the cluster being silent
    resolved_at: datetime | None = None
    resolution: str | None = None
    silenced: bool = False  # nobody is told
    answered: str = ""  # the digest of what a model was last asked about it, and has answered
    explanation: Explanation | None = None
    since: datetime | None = None  # the onset, as it was at the opening
    changes: tuple[Change, ...] = ()  # before the onset


@dataclass(slots=True)
class Incident:
    """One that is open, with what it consists of now."""

    head: Head
    group: Group
    grouped_at: datetime


@dataclass
class Cluster:
    """What is open in one cluster, and what of it is to be written."""

    name: str
    failing: Failing
    born: datetime  # when it was first heard of, as far as is remembered
    asked: frozenset[str] = frozenset()  # labels that findings carry
    open: dict[str, Incident] = field(default_factory=dict)  # the one told of the longest ago first
    of: dict[Ref, tuple[str, ...]] = field(default_factory=dict)  # the incidents that an object is in
    late: dict[str, None] = field(default_factory=dict)  # changed, not yet told
    postponed: dict[Ref, frozenset[Ref]] = field(default_factory=dict)  # touched, and to be grouped anew later
    postponed_until: datetime | None = None
    resolved: dict[str, Head] = field(default_factory=dict)  # of late, the longest ago first
    lost: dict[str, Incident] = field(default_factory=dict)  # all of it ended just before a restart
    unheard: dict[str, Incident] = field(default_factory=dict)  # that nothing is heard of it; the fleet's may be many
    is_stale: bool = False  # nothing is heard of it, so that what is known stays as it is
    fell_at: datetime | None = None  # it had been silent for long enough to be told
    fleet: str = ""  # the incident of many silent clusters that it is in
    heartbeat_at: datetime | None = None
    nothing_ends_before: datetime | None = None
    listing_until: datetime | None = None  # its collector has begun, and not said yet all there is
    number: int = 0
    called: str = ""  # by people
    unexplained: dict[str, str] | None = None  # incidents to ask a model about, and what; null where there is none
    changes: Changes = field(default_factory=Changes)
    changed: set[str] = field(default_factory=set)  # incidents whose row is to be written
    is_changed: bool = True  # and the cluster's own
    forgotten: list[tuple[str, str]] = field(default_factory=list)  # incidents whose rows are deleted, by cluster

    def groups(self, connected: Iterable[list[Ref]]) -> list[Group]:
        """What these sets of failing objects come to."""

        def silenced(report: Report, failure: Failure) -> bool:
            return self.failing.is_silenced(report.ref, failure)

        return [group for refs in connected for group in correlate(self.name, self.failing.held(refs), silenced)]

    def reword(self) -> None:
        """Takes what is told of failures from where they were last seen."""
        for ref, before, now in self.failing.reworded:
            for key in self.of.get(ref, ()):
                incident = self.open[key]
                members = ((each, now if failure is before else failure) for each, failure in incident.group.members)
                incident.group = replace(incident.group, members=tuple(members))
        self.failing.reworded.clear()

    def head(self, key: str) -> Head | None:
        """Of an incident that is open, or was of late."""
        incident = self.open.get(key) or self.unheard.get(key)
        return incident.head if incident else self.resolved.get(key)

    @property
    def is_touched(self) -> bool:
        """Whether any row is to be written."""
        failing = self.failing
        return bool(
            self.is_changed or self.changed or failing.changed or failing.flapping.changed or self.changes.changed
        )

    def join(self, key: str, group: Group) -> None:
        """These objects are in that incident."""
        for ref in group.objects:
            self.of[ref] = (*self.of.get(ref, ()), key)

    def part(self, key: str, group: Group) -> None:
        """They are so no more."""
        for ref in group.objects:
            rest = tuple(each for each in self.of.pop(ref) if each != key)
            if rest:
                self.of[ref] = rest

    def forget(self) -> None:
        """The incident that was resolved the longest ago."""
        key = next(iter(self.resolved))
        del self.resolved[key]
        self.forgotten.append((self.name, key))
        self.changed.add(key)


def shape(group: Group, changes: int = 0) -> Shape:
    """What of a group is worth telling: one replica in place of another as well, for people go and look at it."""
    shown = sorted({f"{ref} {failure.rule}" for ref, failure in group.members})
    faults = sha256("\0".join((*group.fingerprints, *shown)).encode()).hexdigest()[:16]
    return Shape(faults=faults, root=group.root, severity=group.severity, count=len(group.objects), changes=changes)


def matched(incidents: Iterable[tuple[Head, Iterable[str]]], groups: list[Group]) -> dict[str, int]:
    """Which group each incident goes on as: the oldest chooses first, the group it shares most with."""
    where: dict[tuple[bool, str], list[int]] = {}
    for index, group in enumerate(groups):
        for fingerprint in group.fingerprints:
            where.setdefault((group.silenced, fingerprint), []).append(index)
    taken: set[int] = set()
    kept: dict[str, int] = {}
    for head, fingerprints in incidents:
        shared: dict[int, int] = {}
        for fingerprint in fingerprints:
            for index in where.get((head.silenced, fingerprint), ()):
                if index not in taken:
                    shared[index] = shared.get(index, 0) + 1
        if shared:
            best = min(shared, key=lambda index: (-shared[index], index))
            taken.add(best)
            kept[head.id] = best
    return kept
