"""Groups the failures of one cluster by what they have in common: each group is one fault, with a root and members."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import sha256
from sys import intern
from typing import TypeVar

from kubewhy.records import Failure, Ref, Report, Severity

Held = tuple[Report, Failure]
Member = tuple[Ref, Failure]
Node = TypeVar("Node", bound=Hashable)

# Clocks are read to the second, and differ: what lies so little ahead is now.
SKEW = timedelta(seconds=5)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Group:
    """Failures with one cause. `members` come with the root's own first, then the worst, then the oldest."""

    id: str
    root: Ref
    severity: Severity
    title: str
    since: datetime | None
    members: tuple[tuple[Ref, Failure], ...]
    fingerprints: tuple[str, ...]  # sorted
    silenced: bool = False

    @property
    def objects(self) -> tuple[Ref, ...]:
        """Each object that fails, once, in the order of the members."""
        return tuple(dict.fromkeys(ref for ref, _ in self.members))


def ref_order(ref: Ref) -> tuple[str, str, str, str]:
    """A key that sorts names also where some have no namespace."""
    return (ref.kind, ref.namespace or "", ref.name, ref.group)


def interned(ref: Ref, known: Ref | None = None) -> Ref:
    """The same, with strings that many have in common; and with those of one that is known, where it is that."""
    name = known.name if known and known.name == ref.name else ref.name
    return Ref(intern(ref.kind), name, ref.namespace and intern(ref.namespace), intern(ref.group))


def fingerprint(cluster: str, report: Report, failure: Failure) -> str:
    """Names one failure for as long as it lasts, whichever replica shows it."""
    root = report.root
    named = (cluster, root.group, root.kind, root.namespace or "", root.name)
    return "/".join((*named, failure.rule, failure.container, failure.reason))


def incident_id(cluster: str, first: str, opening: str = "") -> str:
    """`first` is the first fingerprint in sorted order; `opening` tells a later incident from an earlier one."""
    return sha256("\0".join((cluster, first, opening)).encode()).hexdigest()[:16]


def opens_at(failure: Failure, created: datetime | None, first_seen: datetime) -> datetime:
    """When the hold ends. An unknown onset counts from the creation (None in a stream), else from first sight."""
    return later(failure.since or created or first_seen, timedelta(seconds=failure.hold))


class Standing(Enum):
    """How one failure stands at one moment."""

    COUNTS = "counts"
    HELD = "held"  # it has not lasted as long as its hold
    IDLE = "idle"  # it has faded, or lies ahead


def standing(failure: Failure, created: datetime | None, now: datetime) -> Standing:
    """How it stands; `created` is when its object was made."""
    if (failure.since and ahead(failure.since, now)) or (failure.until and failure.until <= now):
        return Standing.IDLE
    return Standing.COUNTS if not failure.hold or opens_at(failure, created, now) <= now else Standing.HELD


def ahead(when: datetime, now: datetime) -> bool:
    """Whether it has not come yet, for all that clocks can tell."""
    return when - now > SKEW


def later(when: datetime, by: timedelta) -> datetime:
    """The sum, or the end of time, or its beginning: an object may well say the year 9999, or 1."""
    try:
        return when + by
    except OverflowError:
        return _LAST if by > timedelta(0) else _FIRST


def correlate(
    cluster: str, held: Iterable[Held], silenced: Callable[[Report, Failure], bool] = lambda report, failure: False
) -> list[Group]:
    """The groups among these failures of one cluster: the worst first, then the oldest, then by the root's name.

    Those of one cause that are silenced and those that are not make two groups with the same root.
    """
    held = list(held)
    prints = [fingerprint(cluster, report, failure) for report, failure in held]
    starts = _starts(held, prints)
    targets = _targets(held, starts)
    found: dict[tuple[Ref, bool], list[int]] = {}
    for index, start in enumerate(starts):
        found.setdefault((targets[start], silenced(*held[index])), []).append(index)
    groups = [
        _group(cluster, root, [held[index] for index in indexes], {prints[index] for index in indexes}, quiet)
        for (root, quiet), indexes in found.items()
    ]
    return sorted(
        groups, key=lambda each: (-each.severity.rank, each.since or _LAST, ref_order(each.root), each.silenced)
    )


def _starts(held: list[Held], prints: list[str]) -> list[Ref]:
    """What each failure points to by itself: its cause, or one its twins know, or its workload."""
    known: dict[str, Counter[Ref]] = {}
    for (report, failure), name in zip(held, prints, strict=True):
        if failure.cause and failure.cause != report.ref:
            known.setdefault(name, Counter())[failure.cause] += 1
    shared = {name: _commonest(causes) for name, causes in known.items()}
    starts = []
    for (report, failure), name in zip(held, prints, strict=True):
        own = failure.cause if failure.cause != report.ref else None
        cause = own or shared.get(name)
        starts.append(cause if cause and cause != report.ref else report.root)
    return starts


def _targets(held: list[Held], starts: list[Ref]) -> Mapping[Ref, Ref]:
    """The furthest object from each start.

    A reported object leads on to the cause of its failures. A workload of which only symptoms are known leads on to
    where most of its failures end, so that what echoes it goes along.
    """
    faulty: set[Ref] = set()  # has a fault of its own, so nothing leads on from it
    causes: dict[Ref, Counter[Ref]] = {}
    urgent: dict[Ref, Counter[Ref]] = {}  # of failures that are no symptoms; these decide where there are any
    roots: dict[Ref, Ref] = {}
    for (report, failure), start in zip(held, starts, strict=True):
        roots[report.ref] = report.root
        if start == report.root:
            if not failure.symptom:
                faulty.add(report.root)
            continue
        causes.setdefault(report.ref, Counter())[start] += 1
        if not failure.symptom:
            urgent.setdefault(report.ref, Counter())[start] += 1
    steps = {ref: _commonest(urgent.get(ref) or told) for ref, told in causes.items() if ref not in faulty}

    workloads = set(roots.values())
    ends = _walk(starts, steps, workloads)
    absorbing: dict[Ref, Counter[Ref]] = {}
    for (report, _), start in zip(held, starts, strict=True):
        if report.root not in faulty and report.root not in steps and ends[start] != report.root:
            absorbing.setdefault(report.root, Counter())[ends[start]] += 1
    steps |= {workload: _commonest(told) for workload, told in absorbing.items()}
    for ref, root in roots.items():
        if ref != root:
            steps.setdefault(ref, root)
    return _walk(starts, steps, workloads)


def _walk(starts: Iterable[Ref], steps: Mapping[Ref, Ref], preferred: set[Ref]) -> dict[Ref, Ref]:
    """Where each start ends. Of objects that lead in a circle, all end at the same one."""
    ends: dict[Ref, Ref] = {}
    for start in starts:
        path: dict[Ref, int] = {}
        here = start
        while here not in ends and here not in path and here in steps:
            path[here] = len(path)
            here = steps[here]
        if here in path:
            circle = [ref for ref, place in path.items() if place >= path[here]]
            end = min(circle, key=lambda ref: (ref not in preferred, ref_order(ref)))
        else:
            end = ends.get(here, here)
        ends[here] = end
        ends.update(dict.fromkeys(path, end))
    return ends


def _commonest(told: Counter[Ref]) -> Ref:
    if len(told) == 1:
        return next(iter(told))
    return min(told, key=lambda ref: (-told[ref], ref_order(ref)))


def _group(cluster: str, root: Ref, held: Iterable[Held], prints: Iterable[str], silenced: bool) -> Group:
    names = tuple(sorted(prints))
    return _made(
        incident_id(cluster, names[0]), root, [(report.ref, failure) for report, failure in held], names, silenced
    )


def renewed(group: Group) -> Group:
    """The same, where the words or times of its failures have changed."""
    return _made(group.id, group.root, group.members, group.fingerprints, group.silenced)


def _made(key: str, root: Ref, members: Iterable[Member], prints: tuple[str, ...], silenced: bool) -> Group:
    ordered = sorted(members, key=_importance(root))
    _, lead = leading(root, ordered)
    known = [failure.since for _, failure in ordered if failure.since]
    return Group(
        id=key,
        root=root,
        severity=max((failure.severity for _, failure in ordered), key=lambda severity: severity.rank),
        title=f"{lead.title or lead.rule}: {root}",
        since=min(known, default=None),
        members=tuple(ordered),
        fingerprints=prints,
        silenced=silenced,
    )


def _importance(root: Ref) -> Callable[[Member], tuple[object, ...]]:
    def key(member: Member) -> tuple[object, ...]:
        ref, failure = member
        return (
            ref != root,
            -failure.severity.rank,
            failure.symptom,
            failure.since or _LAST,
            ref_order(ref),
            failure.rule,
            failure.container,
            failure.reason,
            failure.message,
            ref_order(failure.cause) if failure.cause else (),
        )

    return key


def leading(root: Ref, members: Sequence[Member]) -> Member:
    """Which failure names the group: one that is no symptom, near the root, and bad. Ties fall to the order given."""

    def telling(member: Member) -> tuple[bool, bool, int]:
        ref, failure = member
        return (failure.symptom, root not in (ref, failure.cause), -failure.severity.rank)

    return min(members, key=telling)
