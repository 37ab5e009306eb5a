"""How long pods may take to get ready: by their own probes, and as part of a workload."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from kubewhy.contracts import minutes, seconds
from kubewhy.kube.core import PodSpec, PodState, Probe

# A threshold of billions stands for a probe that never gives up.
_FOR_EVER = timedelta(days=366).total_seconds()
# The usual deadline of a rollout: until then a pod may wait for a node, pull its images and start.
START = minutes(10)


def allowance(probe: Probe | None) -> timedelta:
    """How long after its start a container may fail this probe by its own declaration."""
    if probe is None:
        return timedelta(0)
    allowed = probe.initial_delay_seconds + probe.period_seconds * probe.failure_threshold
    return seconds(min(allowed, _FOR_EVER))


def start_of(spec: PodSpec, deadline: timedelta = START) -> timedelta:
    """How long a new pod of a workload may take to get ready."""
    probes = (allowance(each.startup_probe) + allowance(each.readiness_probe) for each in spec.containers)
    return max(deadline, max(probes, default=deadline))


def asked_for(written: datetime | None, pods: Sequence[PodState]) -> bool:
    """Whether all these pods start because the workload was just written: it was scaled up from none."""
    return (
        written is not None
        and bool(pods)
        and all(pod.starting and pod.created is not None and pod.created >= written for pod in pods)
    )


def overdue(pods: Iterable[PodState], hold: timedelta, start: timedelta) -> tuple[datetime | None, timedelta]:
    """Since when the pod is unready that first will have been so for too long, and how long is too long for it.

    One that has never been ready has as long as a start may take. What comes and goes in turn never gets old.
    """
    times = [(pod.unready_since, max(hold, start) if pod.starting else hold) for pod in pods if not pod.is_ready]
    known = [(since, held) for since, held in times if since]
    return min(known, key=lambda each: each[0] + each[1], default=(None, hold))
