"""Pods that find no node, cannot start, keep dying, never get ready, or do not go, and why."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from analyzers import containers, scheduling, starting
from analyzers.container_states import container_failures, ended_failure
from analyzers.containers import CONCEPTS, of_job, views
from analyzers.crashes import ENDED_FADES, JUDGED
from analyzers.messages import evicted_for, short
from analyzers.scheduling import PATIENCE, unplaced_failure
from analyzers.starting import start_failure
from analyzers.surroundings import (
    ClaimState,
    DaemonSetStrength,
    NodeState,
    ReplicaSetStrength,
    StatefulSetStrength,
    controller_of,
    of_its_node,
)
from kubewhy.contracts import Analyzer, Need, Rule, minutes
from kubewhy.kube.core import Pod
from kubewhy.kube.meta import Condition, condition
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

LIFECYCLE = CONCEPTS + "workloads/pods/pod-lifecycle/"

READINESS_GATE = Rule(
    "pod-readiness-gate",
    Severity.WARNING,
    "The pod's containers are ready, but a readiness gate is not",
    why="The pod could work but gets no requests, and rollouts wait for it.",
    look="Find the controller that sets this condition, often a load balancer's, and read its log.",
    hold=minutes(3),
    normal_at_first=True,
    docs=LIFECYCLE + "#pod-readiness-gate",
)
REJECTED = Rule(
    "pod-rejected",
    Severity.WARNING,
    "The pod was refused or ended by its node",
    why="The pod does no work any more, and its workload is short of it until another takes its place.",
    look="Read the reason: the node shut down, or had no room, no such device or other labels than asked for.",
    hold=minutes(3),
    normal_at_first=True,
    docs=LIFECYCLE + "#pod-phase",
)
EVICTED = Rule(
    "pod-evicted",
    Severity.WARNING,
    "The pod was evicted and not replaced",
    why="No other pod does its work, and what it kept on the node's disk is gone.",
    look="See what ran the node short, or whether the pod used more disk than it may; then set requests and limits.",
    hold=minutes(3),
    normal_at_first=True,
    docs=CONCEPTS + "scheduling-eviction/node-pressure-eviction/",
)
TERMINATING = Rule(
    "pod-stuck-terminating",
    Severity.WARNING,
    "The pod is deleted but does not go",
    why="Its name, volumes and resources stay taken, so its replacement may not be able to start.",
    look="See what still runs in it, whether its node answers, and who sets its finalizers; force it only last.",
    hold=minutes(2),
    normal_at_first=True,
    docs=LIFECYCLE + "#pod-termination",
)
NODE_LOST = Rule(
    "pod-node-lost",
    Severity.CRITICAL,
    "The pod's node is gone or silent",
    why="Nobody knows whether it still runs, and its replacement may wait for minutes, or for its volumes.",
    look="Look at the node first: the pod is settled once that is back, or is deleted for good.",
    hold=minutes(1),
    docs=CONCEPTS + "architecture/nodes/#condition",
)
RESIZE = Rule(
    "pod-resize",
    Severity.INFO,
    "The pod cannot be given the resources asked for",
    why="It runs on with the CPU and memory that it had: what the resize was to mend is not mended.",
    look="Compare what is asked for with what the node has; ask for less, or let the pod be made anew elsewhere.",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/",
)

# What a node may lack at first.
JOINING = {starting.SANDBOX.id, starting.VOLUME_MOUNT.id, starting.VOLUME_ATTACH.id, starting.START_STUCK.id}
# An ended pod stays about for weeks: this long it may explain why its controller is short of a ready pod.
EXPLAINS = minutes(60)


def find(pod: Pod, related: Related) -> Iterator[Failure]:
    """What is wrong with one pod: the cause, and of each container one thing at most."""
    if pod.deleting:
        yield _terminating(pod, related)
    elif pod.status.phase == "Succeeded":
        return
    elif pod.status.phase == "Failed":
        yield from _ended(pod, related)
    elif lost := _node_lost(pod, related):
        if not (of_its_node(pod) and (lost.reason == "gone" or _node_leaves(pod, related))):
            yield lost
    elif unplaced := unplaced_failure(pod, related):
        yield unplaced
    else:
        yield from _running(pod, related)


def _running(pod: Pod, related: Related) -> Iterator[Failure]:
    failures = [failure for view in views(pod, related) for failure in container_failures(view)]
    yield from failures
    # A container's trouble explains the pod's, but not once it has faded.
    if any(failure.until is None for failure in failures):
        return
    if stuck := start_failure(pod, related):
        yield _on_new_node(stuck, pod, related)
    ready, together = (condition(pod.status.conditions, kind) for kind in ("Ready", "ContainersReady"))
    if ready and ready.status == "False" and ready.reason == "ReadinessGatesNotReady":
        yield _gate_closed(pod, ready, together)
    pending = condition(pod.status.conditions, "PodResizePending")
    if pending and pending.status == "True" and pending.reason == "Infeasible":
        yield RESIZE.failure(
            f"the resize is not possible: {short(pending.message)}",
            since=pending.last_transition_time,
            reason="infeasible",
        )
    resizing = condition(pod.status.conditions, "PodResizeInProgress")
    if resizing and resizing.status == "True" and resizing.reason == "Error":
        yield RESIZE.failure(
            f"the resize fails: {short(resizing.message)}", since=resizing.last_transition_time, reason="error"
        )


def _on_new_node(failure: Failure, pod: Pod, related: Related) -> Failure:
    """A node that joins has its network and its drivers only after a while."""
    node = related.named(NodeState, pod.spec.node_name)
    if failure.rule not in JOINING or not node or not node.created or not failure.since:
        return failure
    hold = (node.created + PATIENCE - failure.since).total_seconds()
    return msgspec.structs.replace(failure, hold=hold) if hold > failure.hold else failure


def _terminating(pod: Pod, related: Related) -> Failure:
    lost = _node_lost(pod, related)
    if pod.metadata.finalizers:
        names = ", ".join(sorted(pod.metadata.finalizers))
        words, reason = f"it waits for what set its finalizers {names}", "finalizers"
    elif lost:
        words, reason = f"node {pod.spec.node_name} cannot confirm its end", "node-lost"
    else:
        told = related.newest_event("FailedKillPod", "FailedPreStopHook")
        running = sorted(each.status.name for each in views(pod, related) if each.status.state.running)
        words, reason = f"node {pod.spec.node_name} has not ended it" if pod.spec.node_name else "nobody ends it", ""
        if running:
            words = f"still running: {', '.join(running)}"
        if told:
            words += f" ({short(told.message)})"
    cause = lost.cause if lost and not pod.metadata.finalizers else None
    return TERMINATING.failure(f"the pod should be gone: {words}", since=pod.deleting, reason=reason, cause=cause)


def _node_lost(pod: Pod, related: Related) -> Failure | None:
    name = pod.spec.node_name
    if not name:
        return None
    cause = Ref("Node", name)
    if related.absent(NodeState, name):
        # Nodes mostly fall silent before they go: the pod then has not been ready since.
        ready = condition(pod.status.conditions, "Ready")
        since = ready.last_transition_time if ready and ready.status != "True" else None
        return NODE_LOST.failure(f"node {name} no longer exists", since=since, cause=cause, reason="gone")
    node = related.named(NodeState, name)
    silent = node.silent if node else None
    if node and silent:
        words = f"node {name} is no longer heard of, so nobody knows how the pod is"
        hold = PATIENCE if node.spec.leaving else None
        return NODE_LOST.failure(words, since=silent.last_transition_time, cause=cause, reason="silent", hold=hold)
    if pod.status.phase == "Unknown":
        return NODE_LOST.failure(f"node {name} does not tell how the pod is", cause=cause, reason="unknown")
    return None


def _node_leaves(pod: Pod, related: Related) -> bool:
    """Whether somebody takes its node out of service, and it need not care."""
    node = related.named(NodeState, pod.spec.node_name)
    return node is not None and node.spec.leaving


def _ended(pod: Pod, related: Related) -> Iterator[Failure]:
    """A failed pod is its controller's to replace: it matters where nobody does."""
    reason, text = pod.status.reason, pod.status.message
    failures = [failure for view in views(pod, related) if (failure := ended_failure(view))]
    if of_job(pod):
        yield from failures
        return
    controller = controller_of(pod, related)
    if (controller and controller.at_strength) or (of_its_node(pod) and _node_leaves(pod, related)):
        return
    if failures and not reason:
        yield from failures
        return
    since = _ended_at(pod)
    until = None
    if since:
        replaced = controller is not None and controller.complete
        until = since + EXPLAINS if replaced else since + ENDED_FADES if controller is None else None
    # A controller that is not ours to judge may well have tried again elsewhere.
    custom = pod.controller is not None and pod.controller.kind not in JUDGED
    severity = Severity.INFO if custom else None
    if reason == "Evicted":
        resource, by_node = evicted_for(text)
        node = pod.spec.node_name
        words = f"the pod was evicted: {short(text) or 'its node did not say why'}"
        if resource:
            words = f"the pod was evicted for {resource}: {short(text)}"
        cause = Ref("Node", node) if by_node and node else None
        yield EVICTED.failure(words, since=since, until=until, reason=resource, cause=cause, severity=severity)
    else:
        words = f"the pod was ended or never begun ({reason or 'nobody says why'})"
        words = f"{words}: {short(text)}" if text else words
        yield REJECTED.failure(words, since=since, until=until, reason=reason, severity=severity)


def _ended_at(pod: Pod) -> datetime | None:
    """When a failed pod ended; None where nothing tells, as after an eviction by an older kubelet."""
    for kind in ("DisruptionTarget", "Ready"):
        told = condition(pod.status.conditions, kind)
        if told and told.last_transition_time:
            return told.last_transition_time
    ends = [each.state.terminated.finished_at for each in pod.status.container_statuses if each.state.terminated]
    if ended := max(filter(None, ends), default=None):
        return ended
    # A pod that its node refused ended where it began.
    return (pod.status.start_time or pod.created) if pod.status.reason != "Evicted" else None


def _gate_closed(pod: Pod, ready: Condition, together: Condition | None) -> Failure:
    conditions = pod.status.conditions
    open_gates = {each.type for each in conditions if each.status == "True"}
    closed = sorted({gate.condition_type for gate in pod.spec.readiness_gates} - open_gates)
    times = (each.last_transition_time for each in (ready, together) if each)
    since = max(filter(None, times), default=None)
    return READINESS_GATE.failure(f"readiness gate not met: {', '.join(closed) or short(ready.message)}", since=since)


ANALYZER = Analyzer(
    reads=Pod,
    needs=(
        Need.named(NodeState, lambda pod: pod.spec.node_name),
        Need.named(ClaimState, lambda pod: pod.claim_names),
        Need.owner(ReplicaSetStrength),
        Need.owner(StatefulSetStrength),
        Need.owner(DaemonSetStrength),
        Need.events(
            *containers.REASONS,
            *starting.REASONS,
            *scheduling.REASONS,
            "FailedKillPod",
            "FailedPreStopHook",
        ),
    ),
    rules=(
        *scheduling.RULES,
        *containers.RULES,
        *starting.RULES,
        READINESS_GATE,
        REJECTED,
        EVICTED,
        TERMINATING,
        NODE_LOST,
        RESIZE,
    ),
    find=find,
)
