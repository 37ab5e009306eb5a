"""What is known of one object, its incidents, and what they come from. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from analyzers.seen import conditions, containers, events, state
from collectors.gather import gather
from collectors.index import Key
from explainer.chain import OWNED_BY, chain
from explainer.correlation import Group, Standing, leading, opens_at, standing
from kubewhy.cli.answer import Answer, Evidence, Held, Incident, Link, Near, Other
from kubewhy.cli.report import Cluster, Name, Skipped, Verdict, broken, by_object, judge
from kubewhy.cli.seen import Change, changes, find
from kubewhy.cli.text import SHOWN, Scope, commands
from kubewhy.contracts import Analyzer
from kubewhy.kube import GROUPS
from kubewhy.records import Failure, Ref, Report, Version
from kubewhy.related import Related
from kubewhy.runtime.oneshot import Analysis, Look

OWNS = "owns"
DEPENDS_ON = "depends on"
BLAMED_BY = "blamed by"
_DOCS = 2


@dataclass(frozen=True)
class Asked:
    """All that an answer is made from."""

    seen: Look
    analysis: Analysis
    verdict: Verdict
    scope: Scope

    @staticmethod
    def of(seen: Look, analysis: Analysis, scope: Scope, *, no_hold: bool = False) -> "Asked":
        return Asked(seen, analysis, judge(analysis, no_hold), scope)

    @property
    def groups(self) -> list[Group]:
        """Open ones first."""
        return [*self.verdict.groups, *self.verdict.pending]

    def of_object(self, ref: Ref) -> list[Group]:
        """Those that the object is in. What is pending beneath the root of an open one goes with that."""
        roots = {group.root for group in self.verdict.groups}
        own = {group.root for group in self.verdict.pending if ref in group.objects}
        opened = [each for each in self.verdict.groups if ref in (each.root, *each.objects) or each.root in own]
        pending = [each for each in self.verdict.pending if each.root not in roots]
        return [*opened, *(group for group in pending if ref in (group.root, *group.objects))]

    def waiting(self, ref: Ref, root: Ref) -> list[Failure]:
        """Of one object, what does not count yet beneath that root."""
        return [
            failure
            for group in self.verdict.pending
            if group.root == root
            for each, failure in group.members
            if each == ref
        ]

    def named(self) -> set[Ref]:
        """All that fails or is blamed."""
        causes = {failure.cause for group in self.groups for _, failure in group.members if failure.cause}
        return causes.union(*((group.root, *group.objects) for group in self.groups))


def answer(asked: Asked, ref: Ref, analyzers: Sequence[Analyzer[Any]], skipped: Iterable[Skipped] = ()) -> Answer:
    """What there is to say of one object, whether it was read or is only named by what fails."""
    seen = asked.seen
    subject = find(seen.store, ref)
    own = [each for each in asked.analysis.reports if each.ref == ref]
    incidents = [_incident(asked, ref, group) for group in asked.of_object(ref)]
    place = incidents[0].place if incidents else "unknown" if any(each.broken for each in own) else "well"
    return Answer(
        cluster=Cluster(seen.cluster_id, seen.cluster_name),
        observed_at=seen.observed_at,
        object=Name.of(ref),
        found=_found(asked, ref),
        place=place,
        state=state(subject) if subject else "",
        checked=[rule.id for each in analyzers if each.reads.resource.kind == ref.kind for rule in each.rules],
        evidence=_evidence(asked, ref),
        incidents=incidents,
        early=[_held(each, report, asked) for report in own for each in _early(asked, report)],
        near=[] if incidents else _near(asked, ref, own),
        skipped=[*(Skipped(resource, reason) for resource, reason in asked.analysis.skipped), *skipped],
    )


def _incident(asked: Asked, ref: Ref, group: Group) -> Incident:
    reports = {report.ref: report for report in asked.analysis.reports}
    members, whole = by_object(group), _whole(asked, group, ref)
    own = members.get(ref, [])
    pending = group in asked.verdict.pending
    steps = chain(whole, {each: report.root for each, report in reports.items()}, ref)
    worst = {each: failures[0].message for each, failures in by_object(whole).items()}
    others = [each for each in members if each not in {step.object for step in steps}]
    _, lead = leading(group.root, group.members)
    first = [*own, *(failure for _, failure in group.members)]
    return Incident(
        id=group.id,
        state="pending" if pending else "open",
        title=group.title,
        severity=group.severity,
        since=group.since,
        counts_at=min(_held(each, reports[of], asked).counts_at for of, each in group.members) if pending else None,
        root=Name.of(group.root),
        place="root" if ref == group.root else "symptom",
        chain=[Link(step.how, Name.of(step.object), worst.get(step.object, "")) for step in steps],
        failures=[] if pending else [broken(failure) for failure in own],
        pending=[_held(failure, reports[ref], asked) for failure in asked.waiting(ref, group.root)],
        changes=_changes(asked, ref, group, reports),
        others=[Other(Name.of(each), members[each][0].message) for each in others[:SHOWN]],
        other_count=len(others),
        why=lead.why,
        look=lead.look,
        docs=list(dict.fromkeys(failure.docs for failure in first if failure.docs))[:_DOCS],
        next=commands(_seen_from(group, ref), asked.scope),
    )


def _whole(asked: Asked, group: Group, ref: Ref) -> Group:
    """What is pending was grouped together with all that is open: its way to the root may lead through that."""
    if group in asked.verdict.groups and ref in (group.root, *group.objects):
        return group
    return replace(group, members=tuple(each for other in asked.groups for each in other.members))


def _seen_from(group: Group, ref: Ref) -> Group:
    """With the object's own failures alone, if it is a pod: so it is that pod's logs that are looked at."""
    own = tuple(each for each in group.members if each[0] == ref)
    rest = tuple(each for each in group.members if each[0] != ref)
    return replace(group, members=own if own and ref.kind == "Pod" else own + rest)


def _held(failure: Failure, report: Report, asked: Asked) -> Held:
    return Held(broken(failure), opens_at(failure, report.created, asked.seen.observed_at))


def _found(asked: Asked, ref: Ref) -> bool | None:
    """None where it could not be looked for."""
    store = asked.seen.store
    if find(store, ref):
        return True
    read = GROUPS.get(ref.kind) == ref.group and store.known(store.type_of(ref.kind).resource, ref.namespace)
    return False if read else None


def _changes(asked: Asked, ref: Ref, group: Group, reports: Mapping[Ref, Report]) -> list[Change]:
    """Of the root, and of the workload that the object belongs to: the one may be all that the other lacks."""
    until = group.since or asked.seen.observed_at
    onset = min([until, *_first_told(asked, group)])
    workload = reports[ref].root if ref in reports else ref
    found = [
        each for one in dict.fromkeys((group.root, workload)) for each in changes(asked.seen.store, one, onset, until)
    ]
    return sorted(found, key=lambda each: each.at, reverse=True)


def _first_told(asked: Asked, group: Group) -> list[datetime]:
    """Since when Events warn of it, or say the same again: a crash loop began before its last crash, its onset."""
    told = [event for each in group.objects[:SHOWN] for event in _gathered(asked, each).events]
    return [
        each.first_timestamp for each in told if each.first_timestamp and (each.type == "Warning" or each.count > 1)
    ]


def _gathered(asked: Asked, ref: Ref) -> Any:
    seen = asked.seen
    key = Key(ref.kind, ref.namespace, ref.name)
    return gather(seen.store, key, cluster=seen.cluster_id, version=Version(0, 0), server=seen.server)


def _evidence(asked: Asked, ref: Ref) -> Evidence:
    subject = find(asked.seen.store, ref)
    if subject is None:
        return Evidence([], [], [])
    told = _gathered(asked, ref)
    return Evidence(conditions(subject), containers(subject, Related(told)), events(told.events))


def _early(asked: Asked, report: Report) -> list[Failure]:
    """What is in no incident, for it is normal at first."""
    counted = {id(failure) for group in asked.groups for _, failure in group.members}
    now = asked.seen.observed_at
    held = (each for each in report.failures if standing(each, report.created, now) is Standing.HELD)
    return [each for each in held if id(each) not in counted]


def _near(asked: Asked, ref: Ref, own: Iterable[Report]) -> list[Near]:
    """What is in an incident, as the object itself is not, and has to do with it: one of each incident."""
    causes = [failure.cause for report in own for failure in _early(asked, report) if failure.cause]
    sorts = {
        OWNED_BY: _family(asked, ref, up=True),
        OWNS: _family(asked, ref),
        DEPENDS_ON: [each for cause in causes for each in (cause, *_family(asked, cause))],
        BLAMED_BY: [each for group in asked.groups for each, failure in group.members if failure.cause == ref],
    }
    found: dict[str, Near] = {}
    for how, others in sorts.items():
        for each in others:
            for group in asked.of_object(each)[:1]:
                found.setdefault(group.id, Near(how, Name.of(each), group.title))
    return list(found.values())[:SHOWN]


def _family(asked: Asked, ref: Ref, *, up: bool = False) -> list[Ref]:
    """Its controllers, nearest first; or all that it controls."""
    store = asked.seen.store
    subject = find(store, ref)
    if subject is None:
        return []
    if up:
        return [_ref(asked, key) for key in store.index.family.owners(subject)]
    return sorted(_ref(asked, key) for key in store.index.family.descendants(subject.metadata.uid))


def _ref(asked: Asked, key: Key) -> Ref:
    return Ref(key.kind, key.name, key.namespace, asked.seen.store.type_of(key.kind).resource.group)
