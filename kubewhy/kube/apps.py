"""apps/v1: deployments, replica sets, stateful sets and daemon sets."""

from datetime import datetime, timedelta
from typing import ClassVar

from kubewhy.kube.core import ClaimSpec, PodSpec, class_of
from kubewhy.kube.meta import Condition, LabelSelector, Object, ObjectMeta, Part, Resource, WrittenMeta, condition


class PodTemplate(Part, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class DeploymentSpec(Part, frozen=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    paused: bool = False
    progress_deadline_seconds: int = 600


class DeploymentStatus(Part, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("Deployment", "deployments", group="apps")

    metadata: WrittenMeta = WrittenMeta()
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class DeploymentName(Object, frozen=True):
    """A view of a deployment: that it is there."""

    resource: ClassVar[Resource] = Deployment.resource


class ReplicaSetSpec(Part, frozen=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()


class ReplicaSetStatus(Part, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("ReplicaSet", "replicasets", group="apps")

    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()


class ClaimTemplate(Part, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ClaimSpec = ClaimSpec()

    @property
    def storage_class(self) -> str | None:
        """As of a claim: None means the default class, empty none at all."""
        return class_of(self.metadata, self.spec)


class Ordinals(Part, frozen=True):
    start: int = 0


class RollingUpdate(Part, frozen=True):
    partition: int = 0  # ordinals below keep their revision by design


class UpdateStrategy(Part, frozen=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class StatefulSetSpec(Part, frozen=True):
    replicas: int = 1
    service_name: str = ""
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    pod_management_policy: str = "OrderedReady"
    update_strategy: UpdateStrategy = UpdateStrategy()
    ordinals: Ordinals = Ordinals()
    volume_claim_templates: tuple[ClaimTemplate, ...] = ()


class StatefulSetStatus(Part, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


class StatefulSet(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("StatefulSet", "statefulsets", group="apps")

    metadata: WrittenMeta = WrittenMeta()
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class DaemonSetSpec(Part, frozen=True):
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    update_strategy: UpdateStrategy = UpdateStrategy()


class DaemonSetStatus(Part, frozen=True):
    observed_generation: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    updated_number_scheduled: int = 0


class DaemonSet(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("DaemonSet", "daemonsets", group="apps")

    metadata: WrittenMeta = WrittenMeta()
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class TemplateLabels(Part, frozen=True):
    labels: dict[str, str] = {}


class TemplateScale(Part, frozen=True):
    metadata: TemplateLabels = TemplateLabels()


class ScaleSpec(Part, frozen=True):
    replicas: int = 1
    template: TemplateScale = TemplateScale()


class RolloutSpec(ScaleSpec, frozen=True):
    progress_deadline_seconds: int = 600


class RolloutStatus(Part, frozen=True):
    conditions: tuple[Condition, ...] = ()


class DeploymentScale(Object, frozen=True):
    """A view of a deployment: how many pods it wants, their labels, and how its rollout goes."""

    resource: ClassVar[Resource] = Deployment.resource

    metadata: WrittenMeta = WrittenMeta()
    spec: RolloutSpec = RolloutSpec()
    status: RolloutStatus = RolloutStatus()

    @property
    def rollout_ends(self) -> datetime | None:
        """When the rollout under way should have got further; None where none is."""
        told = condition(self.status.conditions, "Progressing")
        if told is None or told.status != "True" or told.reason == "NewReplicaSetAvailable":
            return None
        updated = told.last_update_time or told.last_transition_time
        return updated + self.deadline if updated else None

    @property
    def deadline(self) -> timedelta:
        """How long a rollout may stand still. The largest number says "for ever", and is given the usual time."""
        seconds = self.spec.progress_deadline_seconds
        return timedelta(seconds=seconds if seconds < 2**31 - 1 else 600)


class StatefulSetScale(Object, frozen=True):
    """A view of a stateful set: how many pods it wants, and their labels."""

    resource: ClassVar[Resource] = StatefulSet.resource

    spec: ScaleSpec = ScaleSpec()


class ReplicaSetScale(Object, frozen=True):
    """A view of a replica set: how many pods it wants, and their labels."""

    resource: ClassVar[Resource] = ReplicaSet.resource

    spec: ScaleSpec = ScaleSpec()


class DaemonSetScaleSpec(Part, frozen=True):
    template: TemplateScale = TemplateScale()


class DaemonSetScaleStatus(Part, frozen=True):
    desired_number_scheduled: int = 0


class DaemonSetScale(Object, frozen=True):
    """A view of a daemon set: how many nodes it fits, and its pods' labels."""

    resource: ClassVar[Resource] = DaemonSet.resource

    spec: DaemonSetScaleSpec = DaemonSetScaleSpec()
    status: DaemonSetScaleStatus = DaemonSetScaleStatus()
