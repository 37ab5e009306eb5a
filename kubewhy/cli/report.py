"""The `kubewhy.report/v1` document: what one look at a cluster found, for programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from explainer.correlation import Group, Held, Standing, correlate, standing
from kubewhy.records import Explanation, Failure, Ref, Severity
from kubewhy.runtime.oneshot import Analysis


@dataclass(frozen=True)
class Verdict:
    """The failures in groups: those that count, and those still within their hold."""

    groups: list[Group]
    pending: list[Group]


class Name(msgspec.Struct, frozen=True):
    kind: str
    namespace: str | None
    name: str

    @staticmethod
    def of(ref: Ref) -> "Name":
        """The name without its group."""
        return Name(ref.kind, ref.namespace, ref.name)


class Cluster(msgspec.Struct, frozen=True):
    id: str
    name: str


class Summary(msgspec.Struct, frozen=True):
    """`by_severity` counts the incidents."""

    objects: int
    failures: int
    incidents: int
    by_severity: dict[str, int]


class Broken(msgspec.Struct, frozen=True):
    rule: str
    severity: Severity
    message: str
    since: datetime | None
    until: datetime | None
    docs: str
    cause: Name | None


class Diagnosis(msgspec.Struct, frozen=True):
    """What one object suffers from one root. An object that two roots break is named under both."""

    kind: str
    namespace: str | None
    name: str
    root: Name
    failures: list[Broken]


class Incident(msgspec.Struct, frozen=True):
    id: str
    title: str
    severity: Severity
    root: Name
    members: list[Name]
    explanation: Explanation | None


class Skipped(msgspec.Struct, frozen=True):
    resource: str
    reason: str


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The whole. Every key is always present."""

    schema: str = "kubewhy.report/v1"
    cluster: Cluster
    observed_at: datetime
    summary: Summary
    diagnoses: list[Diagnosis]
    incidents: list[Incident]
    pending: list[Diagnosis]
    skipped: list[Skipped]


def judge(analysis: Analysis, no_hold: bool = False) -> Verdict:
    """Which failures count now, and what they have in common. Without holds, nothing is pending."""
    now = analysis.observed_at
    opened: list[Held] = []
    waiting: list[Held] = []
    for report in analysis.reports:
        for failure in report.failures:
            stands = standing(failure, report.created, now)
            if stands is Standing.IDLE:
                continue
            if no_hold or stands is Standing.COUNTS:
                opened.append((report, failure))
            elif not failure.normal_at_first:
                waiting.append((report, failure))
    groups = correlate(analysis.cluster_id, opened)
    if not waiting:
        return Verdict(groups, [])
    # What is open tells where the rest belongs, so both are grouped together and the open ones then left out.
    known = {(ref, id(failure)) for group in groups for ref, failure in group.members}
    together = correlate(analysis.cluster_id, opened + waiting)
    return Verdict(groups, [rest for group in together if (rest := _without(group, known))])


def _without(group: Group, known: set[tuple[Ref, int]]) -> Group | None:
    members = tuple((ref, failure) for ref, failure in group.members if (ref, id(failure)) not in known)
    return replace(group, members=members) if members else None


def report(analysis: Analysis, no_hold: bool = False, explanations: Mapping[Ref, Explanation] = {}) -> Document:
    """The document of one look. `explanations` are what a model says, by the roots of incidents."""
    verdict = judge(analysis, no_hold)
    by_severity = {severity.value: 0 for severity in Severity}
    for group in verdict.groups:
        by_severity[group.severity.value] += 1
    return Document(
        cluster=Cluster(analysis.cluster_id, analysis.cluster_name),
        observed_at=analysis.observed_at,
        summary=Summary(
            objects=analysis.objects,
            failures=sum(len(group.members) for group in verdict.groups),
            incidents=len(verdict.groups),
            by_severity=by_severity,
        ),
        diagnoses=_diagnoses(verdict.groups),
        incidents=[
            Incident(
                group.id,
                group.title,
                group.severity,
                Name.of(group.root),
                [Name.of(ref) for ref in group.objects],
                explanations.get(group.root),
            )
            for group in verdict.groups
        ],
        pending=_diagnoses(verdict.pending),
        skipped=[Skipped(resource, reason) for resource, reason in sorted(analysis.skipped)],
    )


def met(document: Document, level: Severity | str) -> bool:
    """Whether any incident is that bad, or worse."""
    return any(incident.severity.rank >= Severity(level).rank for incident in document.incidents)


def _diagnoses(groups: Iterable[Group]) -> list[Diagnosis]:
    return [_diagnosis(ref, group.root, failures) for group in groups for ref, failures in by_object(group).items()]


def by_object(group: Group) -> dict[Ref, list[Failure]]:
    """The group's failures by object, in the order of its members."""
    found: dict[Ref, list[Failure]] = {}
    for ref, failure in group.members:
        found.setdefault(ref, []).append(failure)
    return found


def _diagnosis(ref: Ref, root: Ref, failures: Sequence[Failure]) -> Diagnosis:
    return Diagnosis(ref.kind, ref.namespace, ref.name, Name.of(root), [broken(failure) for failure in failures])


def broken(failure: Failure) -> Broken:
    """A failure as documents show it."""
    return Broken(
        rule=failure.rule,
        severity=failure.severity,
        message=failure.message,
        since=failure.since,
        until=failure.until,
        docs=failure.docs,
        cause=Name.of(failure.cause) if failure.cause else None,
    )
