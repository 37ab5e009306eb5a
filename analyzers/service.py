"""Services that lead nowhere, and why."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from analyzers.deletion import stuck, stuck_rule
from analyzers.messages import short
from analyzers.readiness import START, asked_for
from kubewhy.contracts import Analyzer, Need, Rule, minutes
from kubewhy.kube.apps import DaemonSetScale, DeploymentScale, ReplicaSetScale, StatefulSetScale
from kubewhy.kube.batch import CronJobLabels, JobLabels
from kubewhy.kube.core import Backend, Service
from kubewhy.kube.discovery import EndpointSlice
from kubewhy.kube.meta import LabelSelector, Object
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

DOCS = "https://kubernetes.io/docs"

NOT_READY = Rule(
    "service-no-ready-endpoints",
    Severity.CRITICAL,
    "No pod behind the service is ready",
    why="Requests to the service are refused or time out: its clients see an outage.",
    look="Look at why the pods behind it are not ready; the service itself is mostly well.",
    hold=minutes(1),
    docs=f"{DOCS}/tasks/debug/debug-application/debug-service/#does-the-service-have-any-endpointslices",
    symptom=True,
)
SELECTS_NOTHING = Rule(
    "service-selects-nothing",
    Severity.CRITICAL,
    "The service's selector fits no pod",
    why="Requests to the service lead nowhere: its clients get refusals or timeouts.",
    look="Compare its selector with the pods' labels: was a label renamed, or the workload deleted or moved?",
    hold=minutes(1),
    docs=f"{DOCS}/concepts/services-networking/service/#defining-a-service",
)
FEW_READY = Rule(
    "service-few-ready-endpoints",
    Severity.WARNING,
    "Less than half of the pods behind the service are ready",
    why="The few pods left take all requests: clients may see slow answers and errors.",
    look="Look at why the other pods are not ready, before the load takes the rest down too.",
    hold=minutes(3),
    normal_at_first=True,
    docs=f"{DOCS}/tasks/debug/debug-application/debug-service/#are-the-pods-working",
    symptom=True,
)
PORT = Rule(
    "service-port-missing",
    Severity.WARNING,
    "No pod declares the port that the service names",
    why="Connections to that port of the service fail, however well its pods are.",
    look="Compare the service's targetPort with the port names that its pods' containers declare.",
    hold=minutes(1),
    docs=f"{DOCS}/concepts/services-networking/service/#field-spec-ports",
)
NO_ADDRESS = Rule(
    "service-no-load-balancer",
    Severity.WARNING,
    "The load balancer has no address",
    why="Clients outside the cluster have no address to reach it by.",
    look="Read the service's events, then the load balancer controller's log; is such a controller installed?",
    hold=minutes(5),
    normal_at_first=True,
    docs=f"{DOCS}/concepts/services-networking/service/#loadbalancer",
)
DELETION_STUCK = stuck_rule(
    "service",
    "Its load balancer may still run and cost money, and deleting its namespace hangs.",
)

# Of Kubernetes' own controllers, the AWS load balancer controller, and MetalLB.
UNBALANCED = ("SyncLoadBalancerFailed", "FailedBuildModel", "FailedDeployModel", "AllocationFailed")
OF_ONE_POD = {"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"}
WORKLOADS = (DeploymentScale, StatefulSetScale, ReplicaSetScale, DaemonSetScale)
# Of these, any may be meant by a selector and have no pod now.
MEANT = (DeploymentScale, StatefulSetScale, CronJobLabels)


def find(service: Service, related: Related) -> Iterator[Failure]:
    """What is wrong with one service."""
    if service.deleting:
        yield from stuck(DELETION_STUCK, service)
        return
    spec = service.spec
    if spec.type == "LoadBalancer" and not service.status.load_balancer.ingress:
        yield _no_address(service, related)

    # Without a selector its endpoints are somebody else's; published unready ones mean that readiness is of no matter.
    if spec.type == "ExternalName" or not spec.selector or spec.publish_not_ready_addresses:
        return
    if not related.known(Backend) or not related.known(EndpointSlice):
        return
    pods = [pod for pod in related.all(Backend) if not pod.deleting and not _done(pod)]
    if pods:
        yield from _readiness(service, related, pods)
        yield from _ports(service, related, pods)
    else:
        yield from _no_pods(service, related)


def _no_address(service: Service, related: Related) -> Failure:
    told = related.newest_event(*UNBALANCED)
    by = f"no controller has given it one for class {service.spec.load_balancer_class}"
    why = short(told.message) if told else by if service.spec.load_balancer_class else "no controller has given it one"
    return NO_ADDRESS.failure(f"it has no external address: {why}", since=service.created)


def _no_pods(service: Service, related: Related) -> Iterator[Failure]:
    if any(_ready(each) for each in related.all(EndpointSlice)) or related.count(Backend) > len(related.all(Backend)):
        return
    # What is just being deleted is most often being replaced.
    since = _newest(*(pod.deleting for pod in related.all(Backend)))
    workloads = _workloads(related)
    wanting = [each for each in workloads if _wants(each)]
    if wanting:
        message = f"{type(wanting[0]).resource.kind} {wanting[0].name} has no pod"
        yield NOT_READY.failure(message, since=since, cause=Ref.to(wanting[0]))
        return
    # Scaled to nothing or done with its work on purpose, or perhaps: what we may not read could be.
    ended = any(_done(pod) for pod in related.all(Backend))
    between = bool(related.all(JobLabels)) or bool(related.all(CronJobLabels))
    if workloads or ended or between or not all(related.known(view) for view in MEANT):
        return
    # Monitoring charts leave headless services about whose pods run elsewhere; one pod's own is its workload's matter.
    if service.spec.cluster_ip == "None" or OF_ONE_POD & service.spec.selector.keys():
        return
    selector = ", ".join(f"{key}={value}" for key, value in sorted(service.spec.selector.items()))
    # An operator makes one for each role, also for a role that no pod has now.
    severity = Severity.WARNING if service.controller else None
    yield SELECTS_NOTHING.failure(f"no pod and no workload has the labels {selector}", since=since, severity=severity)


def _readiness(service: Service, related: Related, pods: Sequence[Backend]) -> Iterator[Failure]:
    slices = related.all(EndpointSlice)
    workloads = _workloads(related)
    if related.count(EndpointSlice) > len(slices) or (workloads and not any(_wants(each) for each in workloads)):
        return
    if not any(_ready(each) for each in slices):
        # A ready pod that is being deleted serves until it goes, if no other does.
        going = (pod.deleting for pod in related.all(Backend))
        since = _newest(service.created, *(pod.changed for pod in pods), *going)
        ready = [pod for pod in pods if pod.is_ready]
        if ready:
            message = f"pods are ready ({_names(ready)}), but no endpoint slice lists one as ready"
            yield NOT_READY.failure(message, since=since, reason="Unlisted")
            return
        told = f"none of its {len(pods)} pods is ready ({_names(pods)})"
        message = told if len(pods) > 1 else f"its only pod {pods[0].name} is not ready"
        yield _lacking(NOT_READY, message, pods, workloads, since)
        return

    # A dual-stack pod is in two slices.
    serving = {name for each in slices for name in _ready(each)}
    pods = [pod for pod in pods if pod.status.phase != "Failed"]
    unready = [pod for pod in pods if pod.name not in serving]
    whole = related.count(Backend) == len(related.all(Backend)) and "" not in serving
    if whole and service.spec.cluster_ip != "None" and len(unready) * 2 > len(pods):
        message = f"it has only {len(pods) - len(unready)} of {len(pods)} pods ready; not ready: {_names(unready)}"
        since = _newest(service.created, *(pod.changed for pod in unready))
        yield _lacking(FEW_READY, message, unready, workloads, since)


def _lacking(
    rule: Rule, message: str, unready: Sequence[Backend], workloads: Sequence[Object], since: datetime | None
) -> Failure:
    hold = _patience(rule, unready, workloads, since)
    failure = rule.failure(message, since=since, cause=_cause(unready, workloads), hold=hold)
    return msgspec.structs.replace(failure, normal_at_first=True) if hold > rule.hold else failure


def _patience(rule: Rule, unready: Sequence[Backend], workloads: Sequence[Object], since: datetime | None) -> timedelta:
    """Longer where all that lacks is still starting, as in a rollout within its deadline."""
    coming = [pod for pod in unready if pod.status.phase != "Failed"]
    if not coming or not all(pod.starting for pod in coming):
        return rule.hold
    deployments = [each for each in workloads if isinstance(each, DeploymentScale)]
    if not deployments:
        return max(rule.hold, START)
    ends = [_start_ends(each, coming) for each in deployments]
    known = [end - since for end in ends if end and since]
    # A deployment that is complete has lost what it had.
    return max([rule.hold, *known]) if len(known) == len(ends) else rule.hold


def _start_ends(deployment: DeploymentScale, unready: Sequence[Backend]) -> datetime | None:
    written = deployment.metadata.written
    if written and asked_for(written, unready):
        return _newest(deployment.rollout_ends, written + deployment.deadline)
    return deployment.rollout_ends


def _ports(service: Service, related: Related, pods: Sequence[Backend]) -> Iterator[Failure]:
    # A headless service sends no traffic: its clients choose the port.
    whole = related.count(Backend) == len(related.all(Backend))
    pods = [pod for pod in pods if pod.status.phase != "Failed"]
    if not whole or not pods or service.spec.cluster_ip == "None":
        return
    wanted = [(port.target_port, port.protocol) for port in service.spec.ports if isinstance(port.target_port, str)]
    lost = [each for each in dict.fromkeys(wanted) if not any(pod.declares(*each) for pod in pods)]
    if not lost:
        return
    declared = sorted({f"{port.name} ({port.protocol})" for pod in pods for port in pod.ports if port.name})
    have = f"they declare {', '.join(declared[:5])}" if declared else "they name none"
    names = ", ".join(f"{name} ({protocol})" for name, protocol in lost)
    since = _newest(service.created, *(pod.created for pod in pods))
    yield PORT.failure(f"none of its pods declares the port {names}; {have}", since=since)


def _ready(each: EndpointSlice) -> list[str]:
    """The pods' names, or empty ones, of the endpoints that take traffic."""
    ready = [endpoint for endpoint in each.endpoints or () if endpoint.is_ready]
    return [endpoint.target_ref.name if endpoint.target_ref else "" for endpoint in ready]


def _done(pod: Backend) -> bool:
    """Whether it has done its work, or failed at it and its Job may try again."""
    of_job = pod.controller is not None and pod.controller.kind == "Job"
    return pod.status.phase == "Succeeded" or (of_job and pod.status.phase == "Failed")


def _workloads(related: Related) -> list[Object]:
    return [each for view in WORKLOADS for each in related.all(view)]


def _wants(workload: Object) -> bool:
    match workload:
        case DaemonSetScale():
            return workload.status.desired_number_scheduled > 0
        case DeploymentScale() | StatefulSetScale() | ReplicaSetScale():
            return workload.spec.replicas > 0
    return False


def _cause(pods: Sequence[Backend], workloads: Sequence[Object]) -> Ref | None:
    """The one workload behind them all, else the first of them."""
    deployments = {each.name for each in workloads if isinstance(each, DeploymentScale)}
    owners = {_owner(pod, deployments) for pod in pods}
    owner = owners.pop() if len(owners) == 1 else None
    return owner or Ref.to(pods[0])


def _owner(pod: Backend, deployments: set[str]) -> Ref | None:
    owner = pod.controller
    if owner is None or owner.kind == "Node":  # a static pod is its own
        return None
    # A Deployment names its replica sets after itself and the hash that is on the pods.
    deployment = owner.name.removesuffix(f"-{pod.metadata.labels.get('pod-template-hash', '')}")
    if owner.kind == "ReplicaSet" and deployment != owner.name and deployment in deployments:
        return Ref("Deployment", deployment, pod.namespace, "apps")
    return Ref(owner.kind, owner.name, pod.namespace, owner.group)


def _names(pods: Sequence[Backend]) -> str:
    more = f" and {len(pods) - 3} more" if len(pods) > 3 else ""
    return ", ".join(pod.name for pod in pods[:3]) + more


def _newest(*times: datetime | None) -> datetime | None:
    return max((each for each in times if each), default=None)


def _selector(service: Service) -> LabelSelector | None:
    chosen = service.spec.selector if service.spec.type != "ExternalName" else None
    return LabelSelector(match_labels=chosen) if chosen else None


def _own_labels(replicas: ReplicaSetScale) -> dict[str, str]:
    """None for a Deployment's: its old replica sets stay about, with no replicas."""
    owner = replicas.controller
    return {} if owner and owner.kind == "Deployment" else replicas.spec.template.metadata.labels


ANALYZER = Analyzer(
    reads=Service,
    rules=(NOT_READY, SELECTS_NOTHING, FEW_READY, PORT, NO_ADDRESS, DELETION_STUCK),
    needs=(
        Need.selected_by(
            EndpointSlice,
            lambda service: (
                LabelSelector(match_labels={"kubernetes.io/service-name": service.name}) if _selector(service) else None
            ),
        ),
        Need.selected_by(Backend, _selector),
        Need.selected_by(DeploymentScale, _selector, labels=lambda each: each.spec.template.metadata.labels),
        Need.selected_by(StatefulSetScale, _selector, labels=lambda each: each.spec.template.metadata.labels),
        Need.selected_by(ReplicaSetScale, _selector, labels=_own_labels),
        Need.selected_by(DaemonSetScale, _selector, labels=lambda each: each.spec.template.metadata.labels),
        Need.selected_by(JobLabels, _selector, labels=lambda each: each.spec.template.metadata.labels),
        Need.selected_by(
            CronJobLabels, _selector, labels=lambda each: each.spec.job_template.spec.template.metadata.labels
        ),
        Need.events(*UNBALANCED),
    ),
    find=find,
)
