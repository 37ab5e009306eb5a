"""What is still on its way though nothing is wrong with it: rollouts, jobs that run, pods that start. Pure.

It goes by what `kubectl rollout status` goes by, and beyond that by jobs and single pods.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import Job, failed_condition, is_complete
from kubewhy.kube.core import PodState
from kubewhy.kube.meta import Object, condition
from kubewhy.records import Evidence
from kubewhy.related import Related, decode_object

# A container without a readiness probe is ready as soon as it runs; one that fails at its start fails within this time.
STEADY = timedelta(seconds=10)

# As far as each kind has to be known. Of other kinds nothing is ever on its way.
_VIEWS: dict[str, type[Object]] = {
    kind.resource.kind: kind for kind in (DaemonSet, Deployment, Job, PodState, ReplicaSet, StatefulSet)
}
_UNSEEN = "its controller has not seen its newest change yet"


class Flight(NamedTuple):
    """What is waited for; until then, where it comes by itself."""

    words: str
    until: datetime | None = None


def in_flight(evidence: Evidence) -> Flight | None:
    """What the object is waited for; None where nothing more is to come."""
    view = _VIEWS.get(evidence.ref.kind)
    if view is None or evidence.gone or evidence.ref.group != view.resource.group:
        return None
    subject = decode_object(evidence.object, view)
    if subject.deleting:
        return None
    if isinstance(subject, PodState):
        return _pod(subject)
    words = _workload(subject, Related(evidence))
    return Flight(words) if words else None


def _workload(subject: Any, related: Related) -> str:
    match subject:
        case Job():
            return _job(subject)
        case ReplicaSet() if subject.controller and subject.controller.kind == Deployment.resource.kind:
            return ""  # the deployment's matter, and old ones stay about
    # Until the controller has seen it, the status is about an older wish.
    if subject.status.observed_generation < subject.metadata.generation:
        return _UNSEEN
    match subject:
        case Deployment():
            return _deployment(subject)
        case StatefulSet():
            return _stateful_set(subject)
        case DaemonSet():
            return _daemon_set(subject, related)
        case ReplicaSet():
            return _of(subject.status.ready_replicas, subject.spec.replicas, "ready")
    return ""


def _of(number: int, wanted: int, what: str) -> str:
    return f"{number} of {wanted} replicas are {what}" if number < wanted else ""


def _deployment(deployment: Deployment) -> str:
    status, wanted = deployment.status, deployment.spec.replicas
    if deployment.spec.paused:
        return ""  # nothing will come
    if updating := _of(status.updated_replicas, wanted, "updated"):
        return updating
    if status.replicas > status.updated_replicas:
        return f"{status.replicas - status.updated_replicas} old replicas are still there"
    return _of(status.available_replicas, status.updated_replicas, "available")


def _stateful_set(stateful_set: StatefulSet) -> str:
    spec, status = stateful_set.spec, stateful_set.status
    if status.replicas > spec.replicas:
        return f"{status.replicas - spec.replicas} replicas too many are still there"
    if starting := _of(status.available_replicas, spec.replicas, "available"):
        return starting
    rolling = spec.update_strategy.rolling_update
    if spec.update_strategy.type != "RollingUpdate" or status.update_revision == status.current_revision:
        return ""
    # Below the partition replicas keep their revision, and then the current one never becomes the new one.
    return _of(status.updated_replicas, spec.replicas - (rolling.partition if rolling else 0), "updated")


def _daemon_set(daemon_set: DaemonSet, related: Related) -> str:
    status, wanted = daemon_set.status, daemon_set.status.desired_number_scheduled
    updating = _of(status.updated_number_scheduled, wanted, "updated")
    if updating and daemon_set.spec.update_strategy.type == "RollingUpdate":
        return updating
    # A node that has gone silent is the node's failure.
    lost = sum(bool(pod.lost_node) for pod in related.all(PodState) if pod.is_active)
    return _of(status.number_available, wanted - lost, "available")


def _job(job: Job) -> str:
    """Until it ends, unless it is one run of many, or held back."""
    status = job.status
    if failed_condition(status.conditions) or is_complete(status.conditions):
        return ""
    of_many = job.controller is not None and job.controller.kind == "CronJob"
    if of_many or job.spec.suspend or job.spec.parallelism == 0:
        return ""
    return f"it has not ended: {status.active} pods are active, {status.succeeded} have succeeded"


def _pod(pod: PodState) -> Flight | None:
    scheduled = condition(pod.status.conditions, "PodScheduled")
    held_back = scheduled is not None and scheduled.reason == "SchedulingGated"
    if not pod.is_active or pod.lost_node or held_back:
        return None
    ready = condition(pod.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        return Flight("it starts" if pod.starting else "it is not ready")
    steady = ready.last_transition_time + STEADY if ready.last_transition_time else None
    return Flight("it has only just become ready", steady) if steady else None
