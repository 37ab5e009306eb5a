"""Replica sets that are refused their pods, or cannot be deleted."""

from collections.abc import Iterator

from analyzers.deletion import stuck, stuck_rule
from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, seconds
from kubewhy.kube.apps import DeploymentName, ReplicaSet
from kubewhy.kube.meta import condition
from kubewhy.records import Failure, Severity
from kubewhy.related import Related

REFUSED = Rule(
    "replicaset-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    why="Pods that it lacks are not made, so it serves less than it should, or nothing.",
    look="Mend the quota, policy, webhook or account that the refusal names; it is tried again by itself.",
    hold=seconds(30),
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/",
)
DELETION_STUCK = stuck_rule(
    "replicaset",
    "It replaces no more pods, and deleting its deployment or namespace may hang.",
)


def find(replica_set: ReplicaSet, related: Related) -> Iterator[Failure]:
    """What is wrong with one replica set."""
    if replica_set.deleting:
        yield from stuck(DELETION_STUCK, replica_set)
        return
    failing = condition(replica_set.status.conditions, "ReplicaFailure")
    if failing is None or failing.status != "True":
        return
    wanted, made = replica_set.spec.replicas, replica_set.status.replicas
    delete = failing.reason == "FailedDelete"
    if made <= wanted if delete else made >= wanted:
        return  # an old revision, or one that has been scaled since
    owner = replica_set.controller
    if owner and owner.kind == "Deployment" and related.first(DeploymentName):
        return  # the deployment copies the condition
    refusal = parse(failing.message, replica_set.namespace)
    what = (
        f"{made - wanted} pods too many cannot be deleted"
        if delete
        else f"{wanted - made} of {wanted} pods cannot be created"
    )
    yield REFUSED.failure(
        f"{what}: {refusal.text}",
        since=failing.last_transition_time,
        cause=refusal.cause,
        reason=refusal.reason,
        severity=Severity.WARNING if delete else None,
    )


ANALYZER = Analyzer(reads=ReplicaSet, needs=(Need.owner(DeploymentName),), rules=(REFUSED, DELETION_STUCK), find=find)
