"""Deployments that serve too little, cannot roll out, or are refused their pods."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.apps import Deployment
from kubewhy.kube.core import PodState
from kubewhy.kube.meta import Condition, condition
from kubewhy.records import Failure, Ref, Related, Severity

_DOCS = "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/"

UNAVAILABLE = Rule(
    "deployment-unavailable",
    Severity.CRITICAL,
    "No replica is available",
    hold=minutes(1),
    docs="https://kubernetes.io/docs/tasks/debug/debug-application/",
    symptom=True,
)
SHORT = Rule(
    "deployment-replicas-short",
    Severity.WARNING,
    "Fewer replicas are ready than wanted",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/tasks/debug/debug-application/",
    symptom=True,
)
STUCK = Rule(
    "deployment-rollout-stuck",
    Severity.WARNING,
    "The rollout makes no progress",
    hold=minutes(3),
    docs=_DOCS + "#failed-deployment",
    symptom=True,
)
REFUSED = Rule(
    "deployment-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    hold=seconds(30),
    docs=_DOCS + "#failed-deployment",
)
STALE = Rule(
    "deployment-stale",
    Severity.WARNING,
    "The deployment controller has not seen the newest change",
    hold=minutes(3),
    docs=_DOCS + "#deployment-status",
)

# The API's way to say "no deadline" (HasProgressDeadline in the deployment controller).
_NO_DEADLINE = 2**31 - 1
_USUAL_DEADLINE = timedelta(seconds=600)


def find(deployment: Deployment, related: Related) -> Iterator[Failure]:
    """What is wrong with one deployment."""
    spec, status = deployment.spec, deployment.status
    if deployment.deleting:
        return
    if status.observed_generation < deployment.metadata.generation:
        # All else in the status is about an older wish. Nothing tells when the change was made.
        yield STALE.failure("the deployment controller has not acted on the newest change of its spec")
        return
    if spec.replicas < 1:
        return
    refused = _refused(deployment)
    if refused:
        yield refused  # too few replicas and a rollout that stands still would only repeat this
        return
    if spec.paused:
        return

    progressing = condition(status.conditions, "Progressing")
    stuck = progressing is not None and progressing.status == "False"
    if progressing and stuck:
        told = progressing.message or progressing.reason
        yield STUCK.failure(
            f"the rollout has not finished within {spec.progress_deadline_seconds} seconds: {told}",
            since=progressing.last_transition_time,
            reason=progressing.reason,
        )
    # A rollout within its deadline is no failure; past it, the controller turns Progressing to False.
    rolling = progressing is not None and not stuck and progressing.reason != "NewReplicaSetAvailable"
    if rolling and spec.progress_deadline_seconds < _NO_DEADLINE:
        return
    short = _short(deployment, related, stuck)
    if not short:
        return
    rule, message, since = short
    if rolling and progressing:
        updated = progressing.last_update_time or progressing.last_transition_time
        if updated is None or since is None:
            return
        since = max(since, updated + _USUAL_DEADLINE)
    yield rule.failure(message, since=since, cause=_lost_node(related))


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
    what = "replica set" if told is progressing else "pods"
    return REFUSED.failure(
        f"{what} cannot be created ({status.ready_replicas} of {wanted} replicas are ready): {refusal.text}",
        since=told.last_transition_time,
        cause=refusal.cause,
        reason=refusal.reason,
    )


def _short(deployment: Deployment, related: Related, stuck: bool) -> tuple[Rule, str, datetime | None] | None:
    status, wanted = deployment.status, deployment.spec.replicas
    pods = [pod for pod in related.all(PodState) if pod.is_active]
    # Watches are not ordered against each other: where the pods are ahead of the status, they are right.
    ready = max(status.ready_replicas, sum(pod.is_ready for pod in pods))
    if ready >= wanted:
        return None
    onsets = sorted(pod.unready_since for pod in pods if not pod.is_ready and pod.unready_since)
    if ready == 0 and status.available_replicas == 0:
        since = onsets[-1] if onsets else _last_change(deployment)
        return UNAVAILABLE, f"none of {wanted} replicas is available", since
    if stuck:
        return None  # the rollout that is stuck explains it
    # The one that has been down longest: what comes and goes in turn, as in a drain, never gets old.
    since = onsets[0] if onsets else _last_change(deployment)
    return SHORT, f"{ready} of {wanted} replicas are ready", since


def _last_change(deployment: Deployment) -> datetime | None:
    """The best onset where no pod tells one."""
    available = condition(deployment.status.conditions, "Available")
    if available and available.status == "False" and available.last_transition_time:
        return available.last_transition_time
    times = [each.last_update_time or each.last_transition_time for each in deployment.status.conditions]
    return max((time for time in times if time), default=deployment.created)


def _lost_node(related: Related) -> Ref | None:
    nodes = {pod.lost_node for pod in related.all(PodState) if pod.is_active and not pod.is_ready}
    (node,) = nodes if len(nodes) == 1 else {""}
    return Ref("Node", node) if node else None


ANALYZER = Analyzer(
    reads=Deployment,
    needs=(Need.owned(PodState),),
    rules=(UNAVAILABLE, SHORT, STUCK, REFUSED, STALE),
    find=find,
)
