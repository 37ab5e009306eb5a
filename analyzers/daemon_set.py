"""Daemon sets that lack ready pods, or are refused them."""

from collections.abc import Iterator
from datetime import datetime

from analyzers.deletion import stuck, stuck_rule
from analyzers.messages import short
from analyzers.readiness import overdue, start_of
from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.apps import DaemonSet
from kubewhy.kube.core import PodState
from kubewhy.records import Failure, Severity
from kubewhy.related import Related

SHORT = Rule(
    "daemonset-ready-short",
    Severity.WARNING,
    "Some nodes lack a ready pod",
    why="Those nodes lack what it gives them, such as networking, storage, logs or metrics.",
    look="Look at its pods that are not ready: do they share a node, an image or an error?",
    hold=minutes(3),
    normal_at_first=True,
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
    symptom=True,
)
REFUSED = Rule(
    "daemonset-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    why="Nodes that have no pod of it yet get none, and lack what it gives them.",
    look="Mend the quota, policy, webhook or account that the refusal names; it is tried again by itself.",
    hold=seconds(30),
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
)
MISSCHEDULED = Rule(
    "daemonset-misscheduled",
    Severity.INFO,
    "It runs on nodes where it should not",
    why="Its pods run where taints or labels now forbid them, and take resources kept for others.",
    look="Compare those nodes' labels and taints with its node selector, affinity and tolerations.",
    hold=minutes(15),
    normal_at_first=True,
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#how-daemon-pods-are-scheduled",
)
DELETION_STUCK = stuck_rule(
    "daemonset",
    "It makes no more pods, its name stays taken, and deleting its namespace hangs.",
)


def find(daemon_set: DaemonSet, related: Related) -> Iterator[Failure]:
    """What is wrong with one daemon set."""
    status = daemon_set.status
    if daemon_set.deleting:
        yield from stuck(DELETION_STUCK, daemon_set)
        return
    if status.observed_generation < daemon_set.metadata.generation:
        return
    refused = _refused(daemon_set, related)
    if refused:
        yield refused
    lacking = _short(daemon_set, related, bool(refused))
    if lacking:
        yield lacking
    if status.number_misscheduled > 0:
        nodes = "1 node" if status.number_misscheduled == 1 else f"{status.number_misscheduled} nodes"
        yield MISSCHEDULED.failure(f"it still runs on {nodes} where it no longer belongs")


def _refused(daemon_set: DaemonSet, related: Related) -> Failure | None:
    wanted, made = daemon_set.status.desired_number_scheduled, daemon_set.status.current_number_scheduled
    told = related.newest_event("FailedCreate")
    if made >= wanted or not told or not told.at:
        return None
    newest = _newest(related)
    if newest and newest >= told.at:
        return None  # creation has worked since
    refusal = parse(told.message, daemon_set.namespace)
    return REFUSED.failure(
        f"{wanted - made} of {wanted} pods cannot be created: {refusal.text}",
        since=max(filter(None, (told.first_timestamp or told.at, newest))),
        cause=refusal.cause,
        reason=refusal.reason,
    )


def _short(daemon_set: DaemonSet, related: Related, refused: bool) -> Failure | None:
    status = daemon_set.status
    wanted, ready = status.desired_number_scheduled, status.number_ready
    pods = [pod for pod in related.all(PodState) if pod.is_active]
    # A node that has gone silent is the node's failure, not that of each daemon set.
    lost = sum(bool(pod.lost_node) for pod in pods)
    if wanted - lost - ready <= 0:
        return None
    waiting = [pod for pod in pods if not pod.lost_node]
    since, hold = overdue(waiting, SHORT.hold, start_of(daemon_set.spec.template.spec))
    why = ""
    if since is None and not refused:
        since, why = _killed(related)
    if since is None:
        return None  # nothing says since when, and most such gaps last for seconds
    return SHORT.failure(f"{ready} of {wanted} pods are ready{why}", since=since, hold=hold)


def _killed(related: Related) -> tuple[datetime | None, str]:
    """Since when its pods fail as soon as they are made, and are removed again, and what is told of the last."""
    newest = _newest(related)
    told = [each for each in related.events("FailedDaemonPod") if each.at and (newest is None or each.at > newest)]
    if not told:
        return None, ""
    times = (each.first_timestamp or each.at for each in told)
    return min(filter(None, times)), f": {short(told[0].message)}"


def _newest(related: Related) -> datetime | None:
    """When the newest of its pods was made that has not failed."""
    return max(
        (pod.created for pod in related.all(PodState) if pod.created and pod.status.phase != "Failed"), default=None
    )


ANALYZER = Analyzer(
    reads=DaemonSet,
    needs=(Need.owned(PodState), Need.events("FailedCreate", "FailedDaemonPod")),
    rules=(SHORT, REFUSED, MISSCHEDULED, DELETION_STUCK),
    find=find,
)
