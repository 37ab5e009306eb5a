"""Small views of what a pod lives by: its node, its controller and its claims, as far as a pod's fate tells of them."""

from typing import ClassVar

from kubewhy.kube.apps import DaemonSet, ReplicaSet, StatefulSet
from kubewhy.kube.core import Node, PersistentVolumeClaim, Pod
from kubewhy.kube.meta import Condition, Object, Part, Resource, condition
from kubewhy.records import Related


class NodeReadiness(Part, frozen=True):
    conditions: tuple[Condition, ...] = ()


class NodeState(Object, frozen=True):
    """A view of a node: whether it is heard of."""

    resource: ClassVar[Resource] = Node.resource

    status: NodeReadiness = NodeReadiness()

    @property
    def silent(self) -> Condition | None:
        """The Ready condition, where the node controller no longer hears of the kubelet."""
        ready = condition(self.status.conditions, "Ready")
        return ready if ready and ready.status == "Unknown" else None


class ClaimPhase(Part, frozen=True):
    phase: str = ""


class ClaimState(Object, frozen=True):
    """A view of a claim: whether it is bound."""

    resource: ClassVar[Resource] = PersistentVolumeClaim.resource

    status: ClaimPhase = ClaimPhase()


class Wanted(Part, frozen=True):
    replicas: int = 1


class Reached(Part, frozen=True):
    ready_replicas: int = 0


class ReplicaSetStrength(Object, frozen=True):
    """A view of a replica set: how many pods it wants, and how many are ready."""

    resource: ClassVar[Resource] = ReplicaSet.resource

    spec: Wanted = Wanted()
    status: Reached = Reached()

    @property
    def at_strength(self) -> bool:
        return self.status.ready_replicas >= self.spec.replicas


class StatefulSetStrength(Object, frozen=True):
    """A view of a stateful set: how many pods it wants, and how many are ready."""

    resource: ClassVar[Resource] = StatefulSet.resource

    spec: Wanted = Wanted()
    status: Reached = Reached()

    @property
    def at_strength(self) -> bool:
        return self.status.ready_replicas >= self.spec.replicas


class Covered(Part, frozen=True):
    desired_number_scheduled: int = 0
    number_ready: int = 0


class DaemonSetStrength(Object, frozen=True):
    """A view of a daemon set: how many nodes it wants to be on, and on how many it is ready."""

    resource: ClassVar[Resource] = DaemonSet.resource

    status: Covered = Covered()

    @property
    def at_strength(self) -> bool:
        return self.status.number_ready >= self.status.desired_number_scheduled


def replaced(pod: Pod, related: Related) -> bool:
    """Whether its controller has all the pods it wants without this one. Unknown is no."""
    controller: ReplicaSetStrength | StatefulSetStrength | DaemonSetStrength | None = None
    match pod.controller.kind if pod.controller else "":
        case "ReplicaSet":
            controller = related.first(ReplicaSetStrength)
        case "StatefulSet":
            controller = related.first(StatefulSetStrength)
        case "DaemonSet":
            controller = related.first(DaemonSetStrength)
    return controller is not None and controller.at_strength
