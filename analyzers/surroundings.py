"""Small views of what a pod lives by: its node, its controller and its claims, as far as a pod's fate tells of them."""

from typing import ClassVar

from kubewhy.kube.apps import DaemonSet, ReplicaSet, StatefulSet
from kubewhy.kube.core import Node, NodeSpec, PersistentVolumeClaim, Pod
from kubewhy.kube.meta import Condition, Object, Part, Resource, condition
from kubewhy.related import Related


class NodeReadiness(Part, frozen=True):
    conditions: tuple[Condition, ...] = ()


class NodeState(Object, frozen=True):
    """A view of a node: whether it is heard of, and whether somebody takes it out of service."""

    resource: ClassVar[Resource] = Node.resource

    spec: NodeSpec = NodeSpec()
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
    replicas: int = 0
    ready_replicas: int = 0


class ReplicaSetStrength(Object, frozen=True):
    """A view of a replica set: how many pods it wants, how many there are, and how many are ready."""

    resource: ClassVar[Resource] = ReplicaSet.resource

    spec: Wanted = Wanted()
    status: Reached = Reached()

    @property
    def at_strength(self) -> bool:
        return self.status.ready_replicas >= self.spec.replicas

    @property
    def complete(self) -> bool:
        """Whether it has all its pods, ready or not: a pod that has ended is none of them."""
        return self.status.replicas >= self.spec.replicas


class StatefulSetStrength(Object, frozen=True):
    """A view of a stateful set: how many pods it wants, how many there are, and how many are ready."""

    resource: ClassVar[Resource] = StatefulSet.resource

    spec: Wanted = Wanted()
    status: Reached = Reached()

    @property
    def at_strength(self) -> bool:
        return self.status.ready_replicas >= self.spec.replicas

    @property
    def complete(self) -> bool:
        """Whether it has all its pods, ready or not."""
        return self.status.replicas >= self.spec.replicas


class Covered(Part, frozen=True):
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    number_ready: int = 0


class DaemonSetStrength(Object, frozen=True):
    """A view of a daemon set: how many nodes it wants to be on, on how many it is, and on how many it is ready."""

    resource: ClassVar[Resource] = DaemonSet.resource

    status: Covered = Covered()

    @property
    def at_strength(self) -> bool:
        return self.status.number_ready >= self.status.desired_number_scheduled

    @property
    def complete(self) -> bool:
        """Whether it has a pod on each of its nodes, ready or not."""
        return self.status.current_number_scheduled >= self.status.desired_number_scheduled


Strength = ReplicaSetStrength | StatefulSetStrength | DaemonSetStrength


def controller_of(pod: Pod, related: Related) -> Strength | None:
    """What makes a new pod where this one has ended. None also where that may not be read."""
    match pod.controller.kind if pod.controller else "":
        case "ReplicaSet":
            return related.first(ReplicaSetStrength)
        case "StatefulSet":
            return related.first(StatefulSetStrength)
        case "DaemonSet":
            return related.first(DaemonSetStrength)
    return None


def of_its_node(pod: Pod) -> bool:
    """Whether it belongs to its node and goes with it: a daemon set's pod, or a static one."""
    return pod.controller is not None and pod.controller.kind in ("DaemonSet", "Node")
