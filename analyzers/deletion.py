"""Objects that are deleted and do not go, for somebody must still do what their finalizers stand for."""

from collections.abc import Iterator

from kubewhy.contracts import Rule, minutes
from kubewhy.kube.meta import Object
from kubewhy.records import Failure, Severity


def stuck_rule(prefix: str, why: str) -> Rule:
    """The rule for one kind, by the prefix of its rules' ids, and why it matters there."""
    return Rule(
        f"{prefix}-deletion-stuck",
        Severity.WARNING,
        "It is deleted but does not go",
        why=why,
        look="Find what each finalizer belongs to: does it run, what does its log say? Remove one by hand only last.",
        hold=minutes(10),
        normal_at_first=True,
        docs="https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/",
    )


def stuck(rule: Rule, subject: Object) -> Iterator[Failure]:
    """What to say of an object being deleted. Without finalizers it is as good as gone."""
    if subject.deleting and subject.metadata.finalizers:
        names = ", ".join(sorted(subject.metadata.finalizers))
        yield rule.failure(f"it is to be deleted, but held by {names}", since=subject.deleting)
