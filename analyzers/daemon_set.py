"""Daemon sets that lack ready pods, or are refused them."""

from collections.abc import Iterator

from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.apps import DaemonSet
from kubewhy.kube.core import PodState
from kubewhy.records import Failure, Related, Severity

SHORT = Rule(
    "daemonset-ready-short",
    Severity.WARNING,
    "Some nodes lack a ready pod",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
    symptom=True,
)
REFUSED = Rule(
    "daemonset-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    hold=seconds(30),
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/",
)


def find(daemon_set: DaemonSet, related: Related) -> Iterator[Failure]:
    """What is wrong with one daemon set."""
    status = daemon_set.status
    if daemon_set.deleting or status.observed_generation < daemon_set.metadata.generation:
        return
    wanted, made = status.desired_number_scheduled, status.current_number_scheduled
    pods = related.all(PodState)

    told = related.newest_event("FailedCreate")
    if made < wanted and told and told.at:
        newest = max((pod.created for pod in pods if pod.created), default=None)
        if newest is None or newest < told.at:
            refusal = parse(told.message, daemon_set.namespace)
            yield REFUSED.failure(
                f"{wanted - made} of {wanted} pods cannot be created: {refusal.text}",
                since=max(filter(None, (told.first_timestamp or told.at, newest))),
                cause=refusal.cause,
                reason=refusal.reason,
            )

    # A node that has gone silent is the node's failure, not that of each daemon set.
    lost = sum(pod.is_active and bool(pod.lost_node) for pod in pods)
    if made - lost - status.number_ready <= 0:
        return
    # The one that has been down longest: what comes and goes in turn, as in an update, never gets old.
    waiting = [pod for pod in pods if pod.is_active and not pod.is_ready and not pod.lost_node]
    since = min((pod.unready_since for pod in waiting if pod.unready_since), default=None)
    if since is None:
        return  # nothing says since when, and most such gaps last for seconds
    yield SHORT.failure(f"{status.number_ready} of {wanted} pods are ready", since=since)


ANALYZER = Analyzer(
    reads=DaemonSet,
    needs=(Need.owned(PodState), Need.events("FailedCreate")),
    rules=(SHORT, REFUSED),
    find=find,
)
