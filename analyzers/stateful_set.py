"""Stateful sets that lack ready pods, and what holds them up: claims, refusals, their Service, an old revision."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from analyzers.deletion import stuck, stuck_rule
from analyzers.readiness import overdue, start_of
from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.apps import ClaimTemplate, StatefulSet
from kubewhy.kube.core import PersistentVolumeClaim, PodState, Service
from kubewhy.kube.meta import condition
from kubewhy.kube.storage import StorageClass
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

_DOCS = "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/"

SHORT = Rule(
    "statefulset-replicas-short",
    Severity.WARNING,
    "Fewer replicas are ready than wanted",
    why="Members are missing: with one more lost, a quorum or the only copy of data may be gone.",
    look="Start with the lowest pod that is not ready: with ordered start, those above it wait for it.",
    hold=minutes(3),
    normal_at_first=True,
    docs="https://kubernetes.io/docs/tasks/debug/debug-application/debug-statefulset/",
    symptom=True,
)
REFUSED = Rule(
    "statefulset-creation-refused",
    Severity.CRITICAL,
    "The API server refuses its pods",
    why="Members that are missing cannot come back, nor can those that follow them in order.",
    look="Mend the quota, policy, webhook or account that the refusal names; it is tried again by itself.",
    hold=seconds(30),
    docs=_DOCS,
)
STUCK = Rule(
    "statefulset-update-stuck",
    Severity.WARNING,
    "The update waits for a pod that it will not replace",
    why="The broken pod stays broken, and the update that may mend it never reaches it.",
    look="Check that quorum and data allow it, then delete the pod it waits for: it comes back updated.",
    hold=minutes(3),
    normal_at_first=True,
    docs=_DOCS + "#forced-rollback",
)
NO_SERVICE = Rule(
    "statefulset-service-missing",
    Severity.WARNING,
    "Its governing Service does not exist",
    why="Its pods have no names of their own in DNS, so members and clients may not find each other.",
    look="Create the headless service that spec.serviceName names: that field cannot be changed afterwards.",
    hold=seconds(30),
    docs=_DOCS + "#stable-network-id",
)
NOT_HEADLESS = Rule(
    "statefulset-service-not-headless",
    Severity.INFO,
    "Its governing Service is not headless",
    why="Clients reach some member by the service's address, and none by its own name.",
    look="If members must be told apart, make the service anew with clusterIP: None.",
    hold=minutes(3),
    docs=_DOCS + "#stable-network-id",
)
NO_CLASS = Rule(
    "statefulset-class-missing",
    Severity.WARNING,
    "A storage class it names does not exist",
    why="Pods that have their volumes go on, but a new one gets none and does not start.",
    look="Create the class, or make the set anew: the class in its claim templates cannot be changed.",
    hold=seconds(30),
    docs=_DOCS + "#stable-storage",
)
NO_DEFAULT = Rule(
    "statefulset-class-default-missing",
    Severity.WARNING,
    "It relies on a default storage class, and there is none",
    why="Nothing makes a volume for its claim, so the pod that needs it does not start.",
    look="Mark one storage class as the default: claims that wait then take it.",
    hold=minutes(2),
    docs="https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass",
)
DELETION_STUCK = stuck_rule(
    "statefulset",
    "It is no longer scaled or mended, its name stays taken, and deleting its namespace hangs.",
)


class Place(NamedTuple):
    """One ordinal, and the pod that has it."""

    ordinal: int
    name: str
    pod: PodState | None

    @property
    def is_ready(self) -> bool:
        return self.pod is not None and self.pod.is_active and self.pod.is_ready

    @property
    def since(self) -> datetime | None:
        """Since when its pod is not ready: for one being deleted, when that should have ended."""
        return (self.pod.deleting or self.pod.unready_since) if self.pod else None


def find(stateful_set: StatefulSet, related: Related) -> Iterator[Failure]:
    """What is wrong with one stateful set."""
    status = stateful_set.status
    if stateful_set.deleting:
        yield from stuck(DELETION_STUCK, stateful_set)
        return
    if status.observed_generation < stateful_set.metadata.generation:
        return
    if stateful_set.spec.replicas < 1:
        return
    yield from _service(stateful_set, related)
    yield from _classes(stateful_set, related)
    # What tells since when a pod is not ready is the pod.
    if status.ready_replicas >= stateful_set.spec.replicas or not related.known(PodState):
        return
    places = list(_places(stateful_set, related))
    waiting = [place for place in places if not place.is_ready]
    if waiting:
        yield _short(stateful_set, related, waiting)


def _service(stateful_set: StatefulSet, related: Related) -> Iterator[Failure]:
    name = stateful_set.spec.service_name
    if not name:
        return  # optional in the API
    cause = Ref("Service", name, stateful_set.namespace)
    if related.absent(Service, name):
        yield NO_SERVICE.failure(
            f"service {name} does not exist, so its pods have no names in DNS",
            cause=cause,
        )
    service = related.named(Service, name)
    if service and service.spec.cluster_ip not in ("None", "") and not service.deleting:
        yield NOT_HEADLESS.failure(
            f"service {name} has a cluster IP, so its pods have no names of their own in DNS",
            since=service.created,
            cause=cause,
        )


def _classes(stateful_set: StatefulSet, related: Related) -> Iterator[Failure]:
    templates = stateful_set.spec.volume_claim_templates
    # An empty name means "static volumes only"; an absent one means the default class.
    for name in sorted({each.storage_class or "" for each in templates} - {""}):
        if related.absent(StorageClass, name):
            yield NO_CLASS.failure(
                f"storage class {name} does not exist, so it gets no new volumes",
                cause=Ref("StorageClass", name, group=StorageClass.resource.group),
            )
    claims = {claim.name: claim for claim in related.all(PersistentVolumeClaim)}
    for template in templates:
        if template.storage_class is not None:
            continue
        # The API server fills the class in as soon as there is a default one, also later on.
        for ordinal in _ordinals(stateful_set):
            claim = claims.get(_claim_name(stateful_set, template, ordinal))
            if claim and _is_pending(claim) and claim.storage_class is None and not claim.spec.volume_name:
                yield NO_DEFAULT.failure(
                    f"claim {claim.name} names no storage class, and no class is the default",
                    since=claim.created,
                    cause=Ref.to(claim),
                )
                return


def _short(stateful_set: StatefulSet, related: Related, waiting: list[Place]) -> Failure:
    spec, status, lowest = stateful_set.spec, stateful_set.status, waiting[0]
    ready = status.ready_replicas
    counted = f"{ready} of {spec.replicas} replicas are ready"
    since, hold = _overdue(stateful_set, waiting)
    if lowest.pod is None:
        refused = _refused(stateful_set, related, counted)
        if refused:
            return refused

    blocking = next((place for place in waiting if _blocks_update(stateful_set, place)), None)
    if blocking and status.current_revision != status.update_revision:
        return STUCK.failure(
            f"pod {blocking.name} of an older revision is not ready, and the update waits for it instead of "
            "replacing it: delete the pod",
            since=blocking.since,
        )

    claim, why = _held_up_by(stateful_set, related, lowest)
    state = "does not exist" if lowest.pod is None else "is not ready"
    lost = lowest.pod.lost_node if lowest.pod else ""
    if lost:
        claim, why = None, f": node {lost} has gone silent"
    # Without any pod to tell the time, the onset is the first sight of it: controllers close such gaps at once.
    return SHORT.failure(
        f"{counted}; pod {lowest.name} {state}{why}",
        since=since,
        cause=Ref("Node", lost) if lost else claim,
        severity=None if ready else Severity.CRITICAL,
        hold=hold,
    )


def _overdue(stateful_set: StatefulSet, waiting: list[Place]) -> tuple[datetime | None, timedelta]:
    """As for any workload, but a pod being deleted is late from when it should have gone."""
    pods = [place.pod for place in waiting if place.pod and not place.pod.deleting]
    times = [overdue(pods, SHORT.hold, start_of(stateful_set.spec.template.spec))]
    times += [(place.pod.deleting, SHORT.hold) for place in waiting if place.pod and place.pod.deleting]
    known = [(since, hold) for since, hold in times if since]
    return min(known, key=lambda each: each[0] + each[1], default=(None, SHORT.hold))


def _refused(stateful_set: StatefulSet, related: Related, counted: str) -> Failure | None:
    told = related.newest_event("FailedCreate")
    if not told or not told.at:
        return None
    newest = max((pod.created for pod in related.all(PodState) if pod.created), default=told.first_timestamp or told.at)
    if newest > told.at:
        return None  # creation has worked since
    refusal = parse(told.message, stateful_set.namespace)
    return REFUSED.failure(
        f"{counted}, and the next pod cannot be created: {refusal.text}",
        since=max(newest, told.first_timestamp or told.at),
        cause=refusal.cause,
        reason=refusal.reason,
    )


def _blocks_update(stateful_set: StatefulSet, place: Place) -> bool:
    """With ordered updates a broken pod of an older revision is waited for, even where the new one would mend it."""
    spec, revision = stateful_set.spec, stateful_set.status.update_revision
    if spec.pod_management_policy != "OrderedReady" or spec.update_strategy.type != "RollingUpdate":
        return False
    rolling = spec.update_strategy.rolling_update
    if place.pod is None or not place.pod.is_active or place.ordinal < (rolling.partition if rolling else 0):
        return False
    own = place.pod.metadata.labels.get("controller-revision-hash", "")
    return bool(own and revision) and own != revision and not place.pod.lost_node


def _held_up_by(stateful_set: StatefulSet, related: Related, place: Place) -> tuple[Ref | None, str]:
    """The claim that keeps one pod from starting, if it is that."""
    if place.pod:
        scheduled = condition(place.pod.status.conditions, "PodScheduled")
        # A claim of a late-binding class is pending by design until its pod has a node.
        if scheduled is None or "persistentvolumeclaim" not in scheduled.message.lower():
            return None, ""
    for template in stateful_set.spec.volume_claim_templates:
        name = _claim_name(stateful_set, template, place.ordinal)
        claim = related.named(PersistentVolumeClaim, name)
        ref = Ref("PersistentVolumeClaim", name, stateful_set.namespace)
        if place.pod and related.absent(PersistentVolumeClaim, name):
            return ref, f": its claim {name} does not exist"
        if claim and (_is_pending(claim) or claim.status.phase == "Lost"):
            return ref, f": its claim {name} is {claim.status.phase.lower()}"
    return None, ""


def _is_pending(claim: PersistentVolumeClaim) -> bool:
    return claim.status.phase == "Pending" and not claim.deleting


def _places(stateful_set: StatefulSet, related: Related) -> Iterator[Place]:
    pods = {pod.name: pod for pod in related.all(PodState)}
    cut = related.count(PodState) > len(pods)
    for ordinal in _ordinals(stateful_set):
        name = f"{stateful_set.name}-{ordinal}"
        # Of a set whose evidence was cut for size, a pod that is not there says nothing.
        if name in pods or not cut:
            yield Place(ordinal, name, pods.get(name))


def _ordinals(stateful_set: StatefulSet) -> range:
    start = stateful_set.spec.ordinals.start
    return range(start, start + stateful_set.spec.replicas)


def _claim_name(stateful_set: StatefulSet, template: ClaimTemplate, ordinal: int) -> str:
    return f"{template.metadata.name}-{stateful_set.name}-{ordinal}"


def _claim_names(stateful_set: StatefulSet) -> Iterator[str]:
    for template in stateful_set.spec.volume_claim_templates:
        yield from (_claim_name(stateful_set, template, ordinal) for ordinal in _ordinals(stateful_set))


def _class_names(stateful_set: StatefulSet) -> list[str]:
    return [template.storage_class or "" for template in stateful_set.spec.volume_claim_templates]


ANALYZER = Analyzer(
    reads=StatefulSet,
    needs=(
        Need.owned(PodState),
        Need.named(Service, lambda stateful_set: stateful_set.spec.service_name),
        Need.named(StorageClass, _class_names),
        Need.named(PersistentVolumeClaim, _claim_names),
        Need.events("FailedCreate"),
    ),
    rules=(SHORT, REFUSED, STUCK, NO_SERVICE, NOT_HEADLESS, NO_CLASS, NO_DEFAULT, DELETION_STUCK),
    find=find,
)
