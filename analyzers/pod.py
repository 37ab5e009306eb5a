"""Pods that cannot start, keep dying, or never get ready, and why."""

from collections.abc import Iterator

from kubewhy.contracts import Analyzer, Rule, minutes
from kubewhy.kube.core import Pod
from kubewhy.kube.meta import condition
from kubewhy.records import Failure, Related, Severity

UNSCHEDULABLE = Rule(
    "pod-unschedulable",
    Severity.WARNING,
    "No node can take the pod",
    hold=minutes(2),
    docs="https://kubernetes.io/docs/tasks/debug/debug-application/debug-pods/",
)


def find(pod: Pod, related: Related) -> Iterator[Failure]:
    """What is wrong with one pod."""
    scheduled = condition(pod.status.conditions, "PodScheduled")
    if scheduled and scheduled.reason == "Unschedulable":
        yield UNSCHEDULABLE.failure(scheduled.message, since=scheduled.last_transition_time)


ANALYZER = Analyzer(reads=Pod, rules=(UNSCHEDULABLE,), find=find)
