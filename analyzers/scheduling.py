"""Pods that no node takes, and why: what the scheduler says, the claims they wait for, and nodes on their way."""

from datetime import timedelta

import msgspec

from analyzers.containers import CONCEPTS, DEBUG
from analyzers.messages import scheduling_reason, short
from analyzers.surroundings import ClaimState
from kubewhy.contracts import Rule, minutes
from kubewhy.kube.core import Pod
from kubewhy.kube.meta import Condition, condition
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

UNSCHEDULABLE = Rule(
    "pod-unschedulable",
    Severity.WARNING,
    "No node can take the pod",
    why="The pod does not run, so its workload is short of it until some node takes it.",
    look="Compare what it asks for (requests, selectors, tolerations, claims) with what the nodes have to give.",
    hold=minutes(2),
    docs=DEBUG + "debug-pods/#my-pod-stays-pending",
)
UNSEEN = Rule(
    "pod-not-scheduled",
    Severity.WARNING,
    "No scheduler has looked at the pod",
    why="The pod does not start as long as its scheduler takes no notice of it.",
    look="Check spec.schedulerName for a slip, and that the scheduler of that name runs and has a leader.",
    hold=minutes(5),
    normal_at_first=True,
    docs="https://kubernetes.io/docs/tasks/extend-kubernetes/configure-multiple-schedulers/",
)
GATED = Rule(
    "pod-scheduling-gated",
    Severity.INFO,
    "The pod has been held back from scheduling for long",
    why="It is held back on purpose; if whoever set the gates forgot them, it never starts.",
    look="Find out who sets these gates, often a queue or quota controller, and whether that still runs.",
    hold=minutes(60),
    normal_at_first=True,
    docs=CONCEPTS + "scheduling-eviction/pod-scheduling-readiness/",
)
RULES = (UNSCHEDULABLE, UNSEEN, GATED)

SCALING_UP = ("TriggeredScaleUp", "Nominated")
REASONS = (*SCALING_UP, "NotTriggerScaleUp")
# A new node, one that joins, one that is being freed, and the moving away from one take this long.
PATIENCE = minutes(5)


def unplaced_failure(pod: Pod, related: Related) -> Failure | None:
    """Why a pod has no node, where it has none and should."""
    if pod.spec.node_name or pod.status.phase != "Pending":
        return None
    scheduled = condition(pod.status.conditions, "PodScheduled")
    if pod.spec.scheduling_gates or (scheduled and scheduled.reason == "SchedulingGated"):
        gates = ", ".join(sorted(gate.name for gate in pod.spec.scheduling_gates)) or "unknown"
        since = (scheduled.last_transition_time if scheduled else None) or pod.created
        return GATED.failure(f"held back by its scheduling gates: {gates}", since=since)
    if scheduled is None:
        asked = f" {pod.spec.scheduler_name}" if pod.spec.scheduler_name else ""
        words = f"its scheduler{asked} has not looked at the pod"
        return UNSEEN.failure(words, since=pod.created)
    if scheduled.status != "False":
        return None
    since = scheduled.last_transition_time
    if scheduled.reason == "SchedulerError":
        words = f"the scheduler failed: {short(scheduled.message)}"
        return UNSCHEDULABLE.failure(words, since=since, reason="scheduler-error")
    return _unschedulable(pod, related, scheduled)


def _unschedulable(pod: Pod, related: Related, scheduled: Condition) -> Failure:
    # What follows is about preemption, and repeats the numbers.
    text = short(scheduled.message.partition(" preemption: ")[0]) or "the scheduler did not say why"
    reason = scheduling_reason(text)
    cause = _claim(pod, related, reason)
    if cause and related.absent(ClaimState, cause.name):
        text, reason = f"volume claim {cause.name} does not exist", "claim-missing"
    elif cause:
        text = f"volume claim {cause.name} is not bound: {text}"
    elif related.newest_event("NotTriggerScaleUp") and not related.newest_event(*SCALING_UP):
        text += "; the autoscaler adds no node for it"
    failure = UNSCHEDULABLE.failure(
        f"no node fits: {text}" if not cause else text,
        since=scheduled.last_transition_time,
        reason=reason,
        cause=cause,
        hold=_patience(pod, related, scheduled),
    )
    # Claims take a moment to be bound; where that fails, the claim itself says so.
    return msgspec.structs.replace(failure, normal_at_first=reason == "claim-unbound")


def _patience(pod: Pod, related: Related, scheduled: Condition) -> timedelta:
    """Longer where a node is on its way: from the newest word of one."""
    coming = related.newest_event(*SCALING_UP)
    since = scheduled.last_transition_time
    hold = PATIENCE if coming or pod.status.nominated_node_name else UNSCHEDULABLE.hold
    if coming and coming.at and since:
        hold = max(UNSCHEDULABLE.hold, coming.at + PATIENCE - since)
    return max(hold, PATIENCE) if pod.status.nominated_node_name else hold


def _claim(pod: Pod, related: Related, reason: str) -> Ref | None:
    """The claim that the pod waits for. A claim that is bound late stays pending by design while nothing else fits."""
    names = sorted(set(pod.claim_names))
    missing = [name for name in names if related.absent(ClaimState, name)]
    if not missing and reason in ("claim-unbound", "claim-missing"):
        found = ((name, related.named(ClaimState, name)) for name in names)
        missing = [name for name, claim in found if claim and claim.status.phase in ("Pending", "Lost")]
    return Ref("PersistentVolumeClaim", missing[0], pod.namespace) if missing else None
