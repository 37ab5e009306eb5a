"""core/v1: pods, nodes, services, claims, volumes and events."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import ClassVar

from msgspec import field

from kubewhy.kube.meta import Condition, Object, ObjectMeta, Part, Resource, condition


class ContainerPort(Part, frozen=True):
    name: str = ""
    container_port: int = 0
    protocol: str = "TCP"


class Resources(Part, frozen=True):
    requests: dict[str, int | float | str] = {}
    limits: dict[str, int | float | str] = {}


class Probe(Part, frozen=True):
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    failure_threshold: int = 3


class Container(Part, frozen=True):
    """Neither command, arguments nor environment are declared: they hold what is nobody's business."""

    name: str = ""
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: Resources = Resources()
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: str | None = None  # Always makes an init container a sidecar


class ClaimSource(Part, frozen=True):
    claim_name: str = ""


class EphemeralSource(Part, frozen=True):
    """A volume whose claim is made with the pod and named after both."""


class LocalReference(Part, frozen=True):
    name: str = ""


class SecretSource(Part, frozen=True):
    secret_name: str = ""


class Volume(Part, frozen=True):
    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: EphemeralSource | None = None
    secret: SecretSource | None = None
    config_map: LocalReference | None = None


class ReadinessGate(Part, frozen=True):
    condition_type: str = ""


class PodSpec(Part, frozen=True):
    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    resources: Resources = Resources()  # of all containers together
    volumes: tuple[Volume, ...] = ()
    restart_policy: str = "Always"
    readiness_gates: tuple[ReadinessGate, ...] = ()
    scheduler_name: str = ""
    scheduling_gates: tuple[LocalReference, ...] = ()
    image_pull_secrets: tuple[LocalReference, ...] = ()
    service_account_name: str = ""
    priority_class_name: str = ""


class Waiting(Part, frozen=True):
    reason: str = ""
    message: str = ""


class Running(Part, frozen=True):
    started_at: datetime | None = None


class Terminated(Part, frozen=True):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(Part, frozen=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part, frozen=True):
    name: str = ""
    image: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Part, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    nominated_node_name: str = ""
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("Pod", "pods")

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def claim_names(self) -> Iterator[str]:
        """The claims its volumes use, made-along ones included."""
        for volume in self.spec.volumes:
            if volume.persistent_volume_claim:
                yield volume.persistent_volume_claim.claim_name
            elif volume.ephemeral:
                yield f"{self.metadata.name}-{volume.name}"


class PodStateContainer(Part, frozen=True):
    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodStateSpec(Part, frozen=True):
    node_name: str = ""
    containers: tuple[PodStateContainer, ...] = ()


class Delay(Part, frozen=True):
    reason: str = ""


class End(Part, frozen=True):
    """That a container has ended; how is its own pod's matter."""


class Now(Part, frozen=True):
    waiting: Delay | None = None


class Before(Part, frozen=True):
    terminated: End | None = None


class ContainerProgress(Part, frozen=True):
    """How far a container has come: nothing to tell of while all goes well."""

    state: Now = Now()
    last_state: Before = Before()

    @property
    def fails(self) -> bool:
        """Whether it waits for something else than its turn, or has ended before."""
        waits = self.state.waiting is not None and self.state.waiting.reason not in WAITS_ITS_TURN
        return waits or self.last_state.terminated is not None


# What a container waits for while nothing is wrong.
WAITS_ITS_TURN = {"", "ContainerCreating", "PodInitializing"}


class PodStateStatus(Part, frozen=True):
    phase: str = ""
    reason: str = ""
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerProgress, ...] = ()
    container_statuses: tuple[ContainerProgress, ...] = ()


# A kubelet has said something of a new pod by then.
FIRST_WORD = timedelta(seconds=30)


class PodState(Object, frozen=True):
    """A view of a pod: where it is and whether it is ready, for those that only count pods."""

    resource: ClassVar[Resource] = Pod.resource

    spec: PodStateSpec = PodStateSpec()
    status: PodStateStatus = PodStateStatus()

    @property
    def is_active(self) -> bool:
        """Whether a controller counts it: neither finished nor being deleted."""
        return not self.deleting and self.status.phase not in {"Succeeded", "Failed"}

    @property
    def is_ready(self) -> bool:
        ready = condition(self.status.conditions, "Ready")
        return ready is not None and ready.status == "True"

    @property
    def unready_since(self) -> datetime | None:
        """When a pod that is not ready stopped being so, or was made."""
        ready = condition(self.status.conditions, "Ready")
        return (ready.last_transition_time if ready else None) or self.created

    @property
    def changed(self) -> datetime | None:
        """When it was made or last became ready or unready, whichever is later."""
        ready = condition(self.status.conditions, "Ready")
        return max(filter(None, (self.created, ready.last_transition_time if ready else None)), default=None)

    @property
    def starting(self) -> bool:
        """Whether it has never been ready, and nothing fails so far.

        Its Ready condition has then not turned since it came to its node.
        """
        if any(each.fails for each in (*self.status.init_container_statuses, *self.status.container_statuses)):
            return False
        ready = condition(self.status.conditions, "Ready")
        if ready is None:
            return self.status.phase == "Pending"
        scheduled = condition(self.status.conditions, "PodScheduled")
        began = (scheduled.last_transition_time if scheduled else None) or self.created
        turned = ready.last_transition_time
        return ready.status != "True" and began is not None and (turned is None or turned - began <= FIRST_WORD)

    @property
    def lost_node(self) -> str:
        """Its node, where that has gone silent; empty otherwise.

        The node controller then takes Ready from the pod but leaves ContainersReady, which only the kubelet writes.
        """
        ready = condition(self.status.conditions, "Ready")
        running = condition(self.status.conditions, "ContainersReady")
        lost = ready and running and ready.status != "True" and running.status == "True"
        return self.spec.node_name if lost and ready and ready.reason != "ReadinessGatesNotReady" else ""


class Taint(Part, frozen=True):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: datetime | None = None


# Set on nodes that something is about to take away, in good order: whole keys, or the prefix of one owner's keys.
LEAVING = (
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "karpenter.sh/disruption",
    "karpenter.sh/disrupted",
    "cloud.google.com/impending-node-termination",
    "aws-node-termination-handler/",
)


class NodeSpec(Part, frozen=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()

    @property
    def leaving(self) -> bool:
        """Whether somebody is taking the node out of service: it is cordoned, or about to be removed."""
        return self.unschedulable or any(taint.key.startswith(LEAVING) for taint in self.taints)


class NodeInfo(Part, frozen=True):
    kubelet_version: str = ""


class NodeStatus(Part, frozen=True):
    conditions: tuple[Condition, ...] = ()
    node_info: NodeInfo = NodeInfo()


class Node(Object, frozen=True):
    """Heartbeat times are left out: they change every few seconds and say nothing a condition does not."""

    resource: ClassVar[Resource] = Resource("Node", "nodes", namespaced=False)

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Namespace(Object, frozen=True):
    """Its labels are what silences and routes go by."""

    resource: ClassVar[Resource] = Resource("Namespace", "namespaces", namespaced=False)


class ServicePort(Part, frozen=True):
    name: str = ""
    port: int = 0
    protocol: str = "TCP"
    target_port: int | str | None = None


class ServiceSpec(Part, frozen=True):
    type: str = "ClusterIP"
    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = field(default="", name="clusterIP")
    publish_not_ready_addresses: bool = False
    load_balancer_class: str | None = None


class LoadBalancerIngress(Part, frozen=True):
    hostname: str = ""
    ip: str = ""


class LoadBalancerStatus(Part, frozen=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Part, frozen=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("Service", "services")

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class Sidecar(PodStateContainer, frozen=True):
    restart_policy: str | None = None  # Always makes an init container a sidecar


class BackendSpec(PodStateSpec, frozen=True):
    init_containers: tuple[Sidecar, ...] = ()


class Backend(PodState, frozen=True):
    """A view of a pod as a Service sees it: whether it is ready, and the ports it declares, sidecars' included."""

    spec: BackendSpec = BackendSpec()

    def declares(self, name: str, protocol: str) -> bool:
        """Whether a port of that name can be found, as the endpoint slice controller looks for it."""
        return any(port.name == name and port.protocol == protocol for port in self.ports)

    @property
    def ports(self) -> Iterator[ContainerPort]:
        """What its long-running containers declare."""
        for container in self.spec.containers:
            yield from container.ports
        for sidecar in self.spec.init_containers:
            if sidecar.restart_policy == "Always":
                yield from sidecar.ports


class ClaimSpec(Part, frozen=True):
    # Absent means the default class, empty means no class at all.
    storage_class_name: str | None = None
    volume_name: str = ""
    resources: Resources = Resources()


def class_of(metadata: ObjectMeta, spec: ClaimSpec) -> str | None:
    """The class that a claim or its template names. An annotation comes before the field."""
    told = metadata.annotations.class_beta
    return spec.storage_class_name if told is None else told


class ClaimStatus(Part, frozen=True):
    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class PersistentVolumeClaim(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("PersistentVolumeClaim", "persistentvolumeclaims")

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def storage_class(self) -> str | None:
        """The class it names: None means the default one, empty none at all."""
        return class_of(self.metadata, self.spec)


class PodClaimsSpec(Part, frozen=True):
    node_name: str = ""
    volumes: tuple[Volume, ...] = ()


class PodClaims(Object, frozen=True):
    """A view of a pod: the claims it uses, and whether a node has it."""

    resource: ClassVar[Resource] = Pod.resource

    spec: PodClaimsSpec = PodClaimsSpec()
    status: PodStateStatus = PodStateStatus()

    @property
    def claim_names(self) -> Iterator[str]:
        """The claims its volumes use, made-along ones included."""
        for volume in self.spec.volumes:
            if volume.persistent_volume_claim:
                yield volume.persistent_volume_claim.claim_name
            elif volume.ephemeral:
                yield f"{self.metadata.name}-{volume.name}"


class VolumeStatus(Part, frozen=True):
    phase: str = ""
    message: str = ""


class PersistentVolume(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("PersistentVolume", "persistentvolumes", namespaced=False)

    status: VolumeStatus = VolumeStatus()


class ObjectReference(Part, frozen=True):
    kind: str = ""
    namespace: str | None = None
    name: str = ""
    uid: str = ""
    field_path: str = ""


class EventSeries(Part, frozen=True):
    count: int = 0
    last_observed_time: datetime | None = None


class Event(Object, frozen=True):
    """An Event about another object. It explains; it never opens or resolves anything, for it expires."""

    resource: ClassVar[Resource] = Resource("Event", "events")

    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 0
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None
    series: EventSeries | None = None

    @property
    def at(self) -> datetime | None:
        """When it was last seen. The newer events API leaves lastTimestamp null and fills eventTime or the series."""
        seen = self.series.last_observed_time if self.series else None
        return seen or self.last_timestamp or self.event_time or self.first_timestamp or self.created
