"""Claims that have no volume, have lost it, or cannot be resized or removed, and why."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from analyzers.messages import short
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.core import Event, PersistentVolume, PersistentVolumeClaim, PodClaims
from kubewhy.kube.meta import LabelSelector, condition
from kubewhy.kube.storage import StorageClass
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

DOCS = "https://kubernetes.io/docs/concepts/storage"

CLASS_MISSING = Rule(
    "pvc-class-missing",
    Severity.CRITICAL,
    "The storage class does not exist",
    why="The claim gets no volume, so the pods that use it do not start.",
    look="Create the class; if its name is wrong, make the claim anew, for a claim's class cannot be changed.",
    hold=seconds(30),
    docs=f"{DOCS}/persistent-volumes/#class-1",
)
NO_DEFAULT = Rule(
    "pvc-no-default-class",
    Severity.CRITICAL,
    "No storage class is named, and none is the default",
    why="Nothing makes a volume for the claim, and the pods that use it stay pending.",
    look="Mark one storage class as the default: waiting claims then take it. Or make the claim with a class.",
    hold=minutes(2),
    docs=f"{DOCS}/storage-classes/#default-storageclass",
)
UNBOUND = Rule(
    "pvc-unbound",
    Severity.CRITICAL,
    "No volume could be made or found",
    why="Pods that use the claim do not start for as long as it has no volume.",
    look="Read the claim's events, then the provisioner's log: quota, zone, size or access mode rule volumes out.",
    hold=minutes(2),
    docs=f"{DOCS}/persistent-volumes/#binding",
)
WAITING = Rule(
    "pvc-waits-for-pod",
    Severity.WARNING,
    "The volume waits for a pod that no node takes",
    why="The pod does not start, and its volume is not made before the pod has a node.",
    look="Mend why the pod finds no node: the claim then follows by itself.",
    hold=minutes(7),
    normal_at_first=True,
    docs=f"{DOCS}/storage-classes/#volume-binding-mode",
    symptom=True,
)
LOST = Rule(
    "pvc-lost",
    Severity.CRITICAL,
    "The claim has lost its volume",
    why="Its data may be gone, and pods that use the claim cannot start again.",
    look="Find the data in the storage system or a backup before anybody deletes the claim.",
    docs=f"{DOCS}/persistent-volumes/#binding",
)
VOLUME_MISSING = Rule(
    "pvc-volume-missing",
    Severity.CRITICAL,
    "The claim's volume does not exist",
    why="The volume it names is not there: pods cannot mount it, and its data may be gone.",
    look="Check volumeName in the claim; then find out who deleted that volume, and what the storage still has.",
    hold=seconds(30),
    docs=f"{DOCS}/persistent-volumes/#reserving-a-persistentvolume",
)
RESIZE_FAILED = Rule(
    "pvc-resize-failed",
    Severity.WARNING,
    "The volume cannot be changed",
    why="It keeps its old size or settings: once it is full, writes fail.",
    look="Read the condition: quota, a limit of the storage, or a driver that cannot do this is the usual reason.",
    hold=minutes(3),
    docs=f"{DOCS}/persistent-volumes/#recovering-from-failure-when-expanding-volumes",
)
RESIZE_STUCK = Rule(
    "pvc-resize-stuck",
    Severity.WARNING,
    "The volume's resize does not end",
    why="The space asked for is not there yet: once the old size is full, writes fail.",
    look="Read the log of the storage driver's resizer; a file system may grow only when its pod is restarted.",
    hold=minutes(10),
    normal_at_first=True,
    docs=f"{DOCS}/persistent-volumes/#expanding-persistent-volumes-claims",
)
DELETION_STUCK = Rule(
    "pvc-deletion-stuck",
    Severity.WARNING,
    "The claim cannot be deleted",
    why="Its storage is not freed, and a claim of that name cannot be made anew.",
    look="See which pods still use it, also ended ones, or who sets its finalizers: it goes with the last of them.",
    hold=minutes(10),
    normal_at_first=True,
    docs=f"{DOCS}/persistent-volumes/#storage-object-in-use-protection",
)

PROVISIONING = minutes(5)  # some storage takes this long to make a volume

CANNOT = {
    "ControllerResizeError": "its volume cannot be made larger",
    "NodeResizeError": "the node cannot make its volume larger",
    "ModifyVolumeError": "its volume's attributes cannot be changed",
}


def find(claim: PersistentVolumeClaim, related: Related) -> Iterator[Failure]:
    """What is wrong with one claim."""
    if claim.deleting:
        yield from _deletion(claim, related)
        return

    volume = claim.spec.volume_name
    if claim.status.phase == "Lost":
        other = bool(related.named(PersistentVolume, volume))
        why = f"volume {volume} belongs to another claim" if other else f"its volume {volume} is gone"
        yield LOST.failure(why, cause=_volume(volume))
    elif volume and related.absent(PersistentVolume, volume):
        yield VOLUME_MISSING.failure(f"volume {volume} does not exist", cause=_volume(volume))
    elif claim.status.phase == "Pending":
        yield from _pending(claim, related)
    elif claim.status.phase == "Bound":
        yield from _resize(claim, related)


def _pending(claim: PersistentVolumeClaim, related: Related) -> Iterator[Failure]:
    # An empty class name asks for a volume without a class; an absent one for the default class.
    wanted = claim.storage_class
    if wanted and not claim.spec.volume_name and related.absent(StorageClass, wanted):
        message = f"storage class {wanted} does not exist, and no free volume of that class fits"
        yield CLASS_MISSING.failure(message, since=claim.created, cause=_class(wanted))
        return  # the provisioner's own complaint would only repeat this

    default = next((each for each in related.all(StorageClass) if each.is_default), None)
    if wanted is None and not default and not claim.spec.volume_name and _complete(related):
        message = "it names no storage class, none is the default, and no free volume fits"
        yield NO_DEFAULT.failure(message, since=claim.created)
        return

    storage = related.named(StorageClass, wanted) if wanted else default if wanted is None else None
    static = wanted == "" or bool(claim.spec.volume_name)
    if static or (storage and not storage.binds_late):
        yield _unbound(claim, storage, related, claim.created)
        return

    # A late-binding class waits for a pod by design; a class that we may not read may be such a one.
    users = [pod for pod in related.all(PodClaims) if _waits(pod)]
    if not users or not related.known(PodClaims):
        return
    since = _newest(claim.created, min((pod.created for pod in users if pod.created), default=None))
    placed = next((pod for pod in users if pod.spec.node_name), None)
    if claim.metadata.annotations.selected_node or not storage:
        yield _unbound(claim, storage, related, since)
    elif placed:
        message = f"pod {placed.name} was put on a node without the scheduler, which alone starts a volume of class"
        yield UNBOUND.failure(f"{message} {storage.name}", since=since, cause=Ref.to(placed))
    else:
        told = related.newest_event("ProvisioningFailed")
        why = f": {short(told.message)}" if told else ""
        message = f"its volume is bound once pod {users[0].name} is scheduled{why}"
        yield WAITING.failure(message, since=since, cause=Ref.to(users[0]))


def _unbound(
    claim: PersistentVolumeClaim, storage: StorageClass | None, related: Related, since: datetime | None
) -> Failure:
    # The claim's state opens this; an Event, while one is kept, only says why.
    failed = related.newest_event("ProvisioningFailed", "VolumeMismatch", "FailedBinding")
    told = failed or related.newest_event("ExternalProvisioning", "Provisioning")
    failure = UNBOUND.failure(_why_unbound(claim, storage, told), since=since)
    if failed:
        return failure
    # A volume that is there takes a moment to be bound; and where somebody makes one, a while.
    made = {"severity": Severity.WARNING, "hold": PROVISIONING.total_seconds()} if told else {}
    return msgspec.structs.replace(failure, normal_at_first=True, **made)


def _why_unbound(claim: PersistentVolumeClaim, storage: StorageClass | None, told: Event | None) -> str:
    size = claim.spec.resources.requests.get("storage")
    what = f"no volume of {size}" if size else "no volume"
    why = f": {short(told.message)}" if told and told.message else ""
    if claim.spec.volume_name:
        return f"it asks for volume {claim.spec.volume_name}, which has not been bound to it{why}"
    if claim.storage_class == "":
        return f'{what} fits; it asks for one made by hand (storage class ""), so none is made for it{why}'
    name = claim.storage_class or (storage.name if storage else "")
    if storage and storage.is_static:
        return f"{what} in class {name} fits, and that class makes none by itself{why}"
    return f"{what} in class {name}{why or ': nothing has made one'}"


def _resize(claim: PersistentVolumeClaim, related: Related) -> Iterator[Failure]:
    failing = [each for each in claim.status.conditions if each.type in CANNOT and each.status == "True"]
    for each in failing:
        message = f"{CANNOT[each.type]}: {short(each.message) or each.reason or 'no reason given'}"
        yield RESIZE_FAILED.failure(message, since=each.last_transition_time, reason=each.type)
    if failing:
        return

    pending = condition(claim.status.conditions, "FileSystemResizePending")
    running = condition(claim.status.conditions, "Resizing")
    told = related.newest_event("VolumeResizeFailed", "FileSystemResizeFailed")
    why = f": {short(told.message)}" if told and told.message else ""
    if pending and pending.status == "True":
        # The node grows the file system: without a pod there, this waits by design.
        pods = [pod.name for pod in related.all(PodClaims) if pod.spec.node_name and _alive(pod)]
        if pods:
            message = f"its file system has not grown; {_some(pods)} may have to be restarted{why}"
            yield RESIZE_STUCK.failure(message, since=pending.last_transition_time)
    elif running and running.status == "True":
        message = f"its volume is still being made larger{why}"
        yield RESIZE_STUCK.failure(message, since=running.last_transition_time)


def _deletion(claim: PersistentVolumeClaim, related: Related) -> Iterator[Failure]:
    holders = claim.metadata.finalizers
    if not holders:
        return
    # Any pod on a node counts, also one that has ended.
    pods = [pod for pod in related.all(PodClaims) if pod.spec.node_name]
    protected = "kubernetes.io/pvc-protection" in holders
    if protected and pods:
        message = f"it is to be deleted, but it is still used by {_some([pod.name for pod in pods])}"
        yield DELETION_STUCK.failure(message, since=claim.deleting, cause=Ref.to(pods[0]))
    else:
        message = f"it is to be deleted, but held by {', '.join(sorted(holders))}"
        yield DELETION_STUCK.failure(message, since=claim.deleting)


def _alive(pod: PodClaims) -> bool:
    return not pod.deleting and pod.status.phase not in ("Succeeded", "Failed")


def _waits(pod: PodClaims) -> bool:
    """Whether the pod means to start: a gated one does not yet."""
    scheduled = condition(pod.status.conditions, "PodScheduled")
    return _alive(pod) and not (scheduled and scheduled.reason == "SchedulingGated")


def _complete(related: Related) -> bool:
    return related.known(StorageClass) and related.count(StorageClass) == len(related.all(StorageClass))


def _volume(name: str) -> Ref | None:
    return Ref(PersistentVolume.resource.kind, name) if name else None


def _class(name: str) -> Ref:
    return Ref(StorageClass.resource.kind, name, group=StorageClass.resource.group)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"pod {names[0]}{more}"


def _newest(*times: datetime | None) -> datetime | None:
    return max((each for each in times if each), default=None)


ANALYZER = Analyzer(
    reads=PersistentVolumeClaim,
    rules=(
        CLASS_MISSING,
        NO_DEFAULT,
        UNBOUND,
        WAITING,
        LOST,
        VOLUME_MISSING,
        RESIZE_FAILED,
        RESIZE_STUCK,
        DELETION_STUCK,
    ),
    needs=(
        Need.named(StorageClass, lambda claim: claim.storage_class),
        # Without a name, all classes, for any may be the default.
        Need.selected_by(StorageClass, lambda claim: LabelSelector() if claim.storage_class is None else None),
        Need.named(PersistentVolume, lambda claim: claim.spec.volume_name),
        Need.users(PodClaims, lambda pod: pod.claim_names),
        Need.events(
            "ProvisioningFailed",
            "VolumeMismatch",
            "FailedBinding",
            "ExternalProvisioning",
            "Provisioning",
            "VolumeResizeFailed",
            "FileSystemResizeFailed",
        ),
    ),
    find=find,
)
