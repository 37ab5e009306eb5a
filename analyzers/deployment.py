"""Deployments that serve too little, cannot roll out, or are refused their pods."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from analyzers.deletion import stuck, stuck_rule
from analyzers.readiness import START, asked_for, overdue, start_of
from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.apps import Deployment, DeploymentSpec
from kubewhy.kube.core import PodState
from kubewhy.kube.meta import Condition, condition
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

_DOCS = "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/"

UNAVAILABLE = Rule(
    "deployment-unavailable",
    Severity.CRITICAL,
    "No replica is available",
    why="Nothing of it serves: requests fail, and so does whatever depends on it.",
    look="Look at its newest pods: their events first, then the log of the container that fails.",
    hold=minutes(1),
    docs="https://kubernetes.io/docs/tasks/debug/debug-application/",
    symptom=True,
)
SHORT = Rule(
    "deployment-replicas-short",
    Severity.WARNING,
    "Fewer replicas are ready than wanted",
    why="It serves with less than the wanted capacity: a peak or one more loss may overload the rest.",
    look="Look at the pods that are not ready: do they share a node, a revision or an error?",
    hold=minutes(3),
    normal_at_first=True,
    docs="https://kubernetes.io/docs/tasks/debug/debug-application/",
    symptom=True,
)
STUCK = Rule(
    "deployment-rollout-stuck",
    Severity.WARNING,
    "The rollout makes no progress",
    why="The new version is not fully live: users get the old one, or a mix of both.",
    look="Look at the pods of its newest replica set; if the change is to blame, roll it back.",
    hold=minutes(3),
    docs=_DOCS + "#failed-deployment",
    symptom=True,
)
REFUSED = Rule(
    "deployment-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    why="Pods cannot be made or replaced, so it cannot scale, roll out or recover.",
    look="Mend the quota, policy, webhook or account that the refusal names; it is tried again by itself.",
    hold=seconds(30),
    docs=_DOCS + "#failed-deployment",
)
STALE = Rule(
    "deployment-stale",
    Severity.WARNING,
    "The deployment controller has not seen the newest change",
    why="Changes to it have no effect, not even a rollback or more replicas.",
    look="Check that the controller manager runs, has a leader, and is not starved of CPU or API requests.",
    hold=minutes(3),
    normal_at_first=True,
    docs=_DOCS + "#deployment-status",
)

DELETION_STUCK = stuck_rule(
    "deployment",
    "It is no longer scaled or rolled out, its name stays taken, and deleting its namespace hangs.",
)

# The API's way to say "no deadline" (HasProgressDeadline in the deployment controller).
_NO_DEADLINE = 2**31 - 1


def find(deployment: Deployment, related: Related) -> Iterator[Failure]:
    """What is wrong with one deployment."""
    spec, status = deployment.spec, deployment.status
    if deployment.deleting:
        yield from stuck(DELETION_STUCK, deployment)
        return
    if status.observed_generation < deployment.metadata.generation:
        # All else in the status is about an older wish.
        yield STALE.failure(
            "the deployment controller has not acted on the newest change of its spec",
            since=deployment.metadata.written,
        )
        return
    if spec.replicas < 1:
        return
    refused = _refused(deployment)
    if refused:
        yield refused  # too few replicas and a rollout that stands still would only repeat this
        return

    progressing = condition(status.conditions, "Progressing")
    stands = progressing is not None and progressing.status == "False" and not spec.paused
    if progressing and stands:
        told = progressing.message or progressing.reason
        yield STUCK.failure(
            f"the rollout has not finished within {spec.progress_deadline_seconds} seconds: {told}",
            since=progressing.last_transition_time,
            reason=progressing.reason,
        )
    short = _short(deployment, related, stands)
    if not short:
        return
    rule, message, since, hold = short
    if spec.paused and (rule is SHORT or not status.replicas):
        return  # in the middle of a rollout, or before its first one
    if progressing and progressing.status == "True" and progressing.reason != "NewReplicaSetAvailable":
        # A rollout within its deadline is no failure. Past it the controller turns Progressing to False, if it can.
        updated = progressing.last_update_time or progressing.last_transition_time
        if updated is None or since is None:
            return
        since, hold = max(since, updated + _deadline(spec)), rule.hold
    failure = rule.failure(message, since=since, cause=_lost_node(related), hold=hold)
    yield msgspec.structs.replace(failure, normal_at_first=True) if hold > rule.hold else failure


def _deadline(spec: DeploymentSpec) -> timedelta:
    """How long a rollout may stand still; one that may for ever is given the usual time."""
    if spec.progress_deadline_seconds >= _NO_DEADLINE:
        return START
    return timedelta(seconds=spec.progress_deadline_seconds)


def _refused(deployment: Deployment) -> Failure | None:
    failing = condition(deployment.status.conditions, "ReplicaFailure")
    told: Condition | None = failing if failing and failing.status == "True" else None
    progressing = condition(deployment.status.conditions, "Progressing")
    # A refused ReplicaSet, not a refused pod: the deployment then has no ReplicaSet to copy the condition from.
    if progressing and progressing.status == "False" and progressing.reason == "ReplicaSetCreateError":
        told = told or progressing
    if told is None:
        return None
    refusal = parse(told.message, deployment.namespace)
    status, wanted = deployment.status, deployment.spec.replicas
    what = "replica set cannot be created" if told is progressing else "pods cannot be created"
    severity = None
    if told.reason == "FailedDelete":
        what, severity = "pods cannot be deleted", Severity.WARNING
    return REFUSED.failure(
        f"{what} ({status.ready_replicas} of {wanted} replicas are ready): {refusal.text}",
        since=told.last_transition_time,
        cause=refusal.cause,
        reason=refusal.reason,
        severity=severity,
    )


class _Short(NamedTuple):
    rule: Rule
    message: str
    since: datetime | None
    hold: timedelta


def _short(deployment: Deployment, related: Related, stands: bool) -> _Short | None:
    status, wanted = deployment.status, deployment.spec.replicas
    pods = [pod for pod in related.all(PodState) if pod.is_active]
    # Watches are not ordered against each other: where the pods are ahead of the status, they are right.
    ready = max(status.ready_replicas, sum(pod.is_ready for pod in pods))
    if ready >= wanted:
        return None
    onsets = sorted(pod.unready_since for pod in pods if not pod.is_ready and pod.unready_since)
    if ready == 0 and status.available_replicas == 0:
        since, hold = onsets[-1] if onsets else _last_change(deployment, pods), UNAVAILABLE.hold
        written = deployment.metadata.written
        if written and since and asked_for(written, pods):
            hold = max(hold, written + _deadline(deployment.spec) - since)
        return _Short(UNAVAILABLE, f"none of {wanted} replicas is available", since, hold)
    if stands:
        return None  # the rollout that stands still explains it
    since, hold = overdue(pods, SHORT.hold, start_of(deployment.spec.template.spec, _deadline(deployment.spec)))
    return _Short(SHORT, f"{ready} of {wanted} replicas are ready", since or _last_change(deployment, pods), hold)


def _last_change(deployment: Deployment, pods: list[PodState]) -> datetime | None:
    """The best onset where no unready pod tells one: while pods are still being made, it moves with the newest."""
    available = condition(deployment.status.conditions, "Available")
    times = [pod.changed for pod in pods]
    if available and available.status == "False" and available.last_transition_time:
        times.append(available.last_transition_time)
    else:
        times += [each.last_update_time or each.last_transition_time for each in deployment.status.conditions]
    return max((time for time in times if time), default=deployment.created)


def _lost_node(related: Related) -> Ref | None:
    nodes = {pod.lost_node for pod in related.all(PodState) if pod.is_active and not pod.is_ready}
    (node,) = nodes if len(nodes) == 1 else {""}
    return Ref("Node", node) if node else None


ANALYZER = Analyzer(
    reads=Deployment,
    needs=(Need.owned(PodState),),
    rules=(UNAVAILABLE, SHORT, STUCK, REFUSED, STALE, DELETION_STUCK),
    find=find,
)
