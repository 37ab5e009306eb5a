"""Replica sets that are refused their pods."""

from collections.abc import Iterator

from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, seconds
from kubewhy.kube.apps import DeploymentName, ReplicaSet
from kubewhy.kube.meta import condition
from kubewhy.records import Failure, Related, Severity

REFUSED = Rule(
    "replicaset-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    hold=seconds(30),
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/",
)


def find(replica_set: ReplicaSet, related: Related) -> Iterator[Failure]:
    """What is wrong with one replica set."""
    failing = condition(replica_set.status.conditions, "ReplicaFailure")
    if replica_set.deleting or failing is None or failing.status != "True" or failing.reason == "FailedDelete":
        return
    wanted, made = replica_set.spec.replicas, replica_set.status.replicas
    if made >= wanted:
        return  # an old revision, or one that has been scaled down since
    owner = replica_set.controller
    if owner and owner.kind == "Deployment" and related.first(DeploymentName):
        return  # the deployment copies the condition
    refusal = parse(failing.message, replica_set.namespace)
    yield REFUSED.failure(
        f"{wanted - made} of {wanted} pods cannot be created: {refusal.text}",
        since=failing.last_transition_time,
        cause=refusal.cause,
        reason=refusal.reason,
    )


ANALYZER = Analyzer(reads=ReplicaSet, needs=(Need.owner(DeploymentName),), rules=(REFUSED,), find=find)
