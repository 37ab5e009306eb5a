"""What the cluster itself says of an object, beside the rules: how it stands, how it got there, what changed. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from analyzers.containers import views
from analyzers.messages import exit_words, short
from collectors.index import Key
from collectors.store import Store
from kubewhy.cli.report import Name
from kubewhy.kube import GROUPS
from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import CronJob, Job, failed_condition, is_complete
from kubewhy.kube.core import Event, Node, PersistentVolumeClaim, Pod, PodSpec
from kubewhy.kube.meta import Condition, Object, WrittenMeta, condition
from kubewhy.records import Ref, Related

# A change counts so long before the onset of what it may have brought about.
BEFORE = timedelta(minutes=30)
# A controller acts on a write within this time, so that both are one change.
_AT_ONCE = timedelta(seconds=10)
_EVENTS = 5

# Conditions that are bad news when they are true. Those of a pod and a workload are good news otherwise, readiness
# gates included; of a node and a claim all others are troubles that somebody has found.
_BAD = {"DisruptionTarget", "PodResizePending", "PodResizeInProgress", "ReplicaFailure", "Failed", "FailureTarget"}
_GOOD = {"Ready"}


class ConditionSeen(msgspec.Struct, frozen=True):
    """`good` is whether it says that all is well."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None
    good: bool


class ContainerSeen(msgspec.Struct, frozen=True):
    """`exit` is the code of its last end, null where none is known, and `exit_words` what it usually stands for."""

    name: str
    sort: str  # container, init container or ephemeral container
    state: str  # running, waiting, ended or unknown
    reason: str
    ready: bool
    restarts: int
    exit: int | None
    exit_words: str
    ended_at: datetime | None


class EventSeen(msgspec.Struct, frozen=True):
    type: str  # Warning or Normal
    reason: str
    message: str
    count: int
    at: datetime | None


class Change(msgspec.Struct, frozen=True):
    object: Name
    at: datetime
    what: str


def conditions(subject: Object) -> list[ConditionSeen]:
    """All of them, in the object's own order."""
    told: Iterable[Condition] = getattr(getattr(subject, "status", None), "conditions", ())
    return [
        ConditionSeen(
            each.type, each.status, each.reason, short(each.message), each.last_transition_time, _good(subject, each)
        )
        for each in told
    ]


def _good(subject: Object, told: Condition) -> bool:
    bad = told.type not in _GOOD if isinstance(subject, Node | PersistentVolumeClaim) else told.type in _BAD
    return told.status == ("False" if bad else "True")


def containers(subject: Object, related: Related) -> list[ContainerSeen]:
    """A pod's, in the order they start."""
    return [_container(view) for view in views(subject, related)] if isinstance(subject, Pod) else []


def _container(view: Any) -> ContainerSeen:
    state, dead = view.status.state, view.dead
    word, reason = "unknown", ""
    if state.waiting:
        word, reason = "waiting", state.waiting.reason
    elif state.running:
        word = "running"
    elif state.terminated:
        word, reason = "ended", state.terminated.reason
    return ContainerSeen(
        name=view.status.name,
        sort=view.label.removesuffix(f" {view.status.name}"),
        state=word,
        reason=reason,
        ready=view.status.ready,
        restarts=view.status.restart_count,
        exit=dead.exit_code if dead else None,
        exit_words=exit_words(dead) if dead else "",
        ended_at=dead.finished_at if dead else None,
    )


def events(told: Iterable[Event]) -> list[EventSeen]:
    """The newest of each sort, from those that the rules went by: warnings first."""
    found: dict[tuple[str, str], EventSeen] = {}
    for event in told:
        message = short(event.message)
        count = (event.series.count if event.series else 0) or event.count or 1
        found.setdefault((event.reason, message), EventSeen(event.type, event.reason, message, count, event.at))
    return sorted(found.values(), key=lambda each: each.type != "Warning")[:_EVENTS]


def state(subject: Object) -> str:
    """How it stands, in a few words; empty for a kind of which there is nothing to say."""
    going = ", being deleted" if subject.deleting else ""
    return f"{_state(subject)}{going}".removeprefix(", ")


def _state(subject: Object) -> str:
    match subject:
        case Pod():
            statuses = subject.status.container_statuses
            where = f", on node {subject.spec.node_name}" if subject.spec.node_name else ""
            ready = f", {sum(each.ready for each in statuses)} of {len(subject.spec.containers)} containers ready"
            # What a succeeded pod was made of is not kept.
            return f"{subject.status.phase}{ready if subject.spec.containers else ''}{where}"
        case Deployment() | ReplicaSet() | StatefulSet():
            return f"{subject.status.ready_replicas} of {subject.spec.replicas} replicas ready"
        case DaemonSet():
            return f"{subject.status.number_ready} of {subject.status.desired_number_scheduled} pods ready"
        case Job():
            return _job(subject)
        case CronJob():
            last = subject.status.last_schedule_time
            ran = f"last run at {last:%Y-%m-%d %H:%M} UTC" if last else "never run yet"
            return f"suspended, {ran}" if subject.spec.suspend else ran
        case Node():
            told = condition(subject.status.conditions, "Ready")
            word = {"True": "Ready", "False": "NotReady"}.get(told.status if told else "", "no longer heard of")
            return f"{word}, cordoned" if subject.spec.unschedulable else word
        case PersistentVolumeClaim():
            return subject.status.phase
    return ""


def _job(job: Job) -> str:
    status = job.status
    if failed_condition(status.conditions):
        return "Failed"
    if is_complete(status.conditions):
        return "Complete"
    if job.spec.suspend:
        return "Suspended"
    return f"{status.active} active, {status.succeeded} succeeded, {status.failed} failed"


def find(store: Store, ref: Ref) -> Object | None:
    """The object, where it was read."""
    return store.typed(Key(ref.kind, ref.namespace, ref.name)) if GROUPS.get(ref.kind) == ref.group else None


def changes(store: Store, ref: Ref, onset: datetime, until: datetime) -> list[Change]:
    """What was done to the object within half an hour before the onset, or between that and `until`; newest first."""
    subject = find(store, ref)
    if subject is None:
        return []
    told = [each for each in _changes(store, subject, Name.of(ref)) if onset - BEFORE <= each.at <= until]
    return sorted(told, key=lambda each: each.at, reverse=True)


def _changes(store: Store, subject: Object, name: Name) -> Iterator[Change]:
    written = subject.metadata.written if isinstance(subject.metadata, WrittenMeta) else None
    rollout = _rollout(store, subject, name) if isinstance(subject, Deployment) else None
    if rollout:
        yield rollout
    if subject.created and not (rollout and rollout.at - subject.created <= _AT_ONCE):
        yield Change(name, subject.created, "it was created")
    known = [each for each in (subject.created, rollout.at if rollout else None) if each]
    if written and all(written - each > _AT_ONCE for each in known):
        yield Change(name, written, "it was last written, its status apart")


def _rollout(store: Store, deployment: Deployment, name: Name) -> Change | None:
    """Its newest revision, by what tells it from the one before."""
    family = store.index.family.descendants(deployment.metadata.uid)
    found = [store.typed(key) for key in family if key.kind == ReplicaSet.resource.kind]
    sets = sorted((each for each in found if isinstance(each, ReplicaSet)), key=_revision)
    if not sets:
        return None
    newest, made = sets[-1], sets[-1].created
    if not made:
        return None
    if len(sets) == 1:
        return Change(name, made, f"its first ReplicaSet {newest.name} was made, with {_images(newest)}")
    difference = _difference(sets[-2].spec.template.spec, newest.spec.template.spec)
    if any(each.created and each.created > made for each in sets):
        # A revision that comes back takes its old ReplicaSet: only the deployment tells when.
        at, what = deployment.metadata.written or made, f"it went back to ReplicaSet {newest.name}"
    else:
        at, what = made, f"its newest ReplicaSet {newest.name} was made"
    return Change(name, at, f"{what}: {difference}")


def _revision(replica_set: ReplicaSet) -> tuple[int, float]:
    told = replica_set.metadata.annotations.revision or ""
    return int(told) if told.isdecimal() else 0, replica_set.created.timestamp() if replica_set.created else 0.0


def _images(replica_set: ReplicaSet) -> str:
    images = dict.fromkeys(each.image for each in replica_set.spec.template.spec.containers)
    return f"image {', '.join(images)}"


def _difference(old: PodSpec, new: PodSpec) -> str:
    before, after = (
        {each.name: each.image for each in (*spec.init_containers, *spec.containers)} for spec in (old, new)
    )
    told = [
        f"image of container {name}: {before[name]} -> {image}"
        for name, image in after.items()
        if name in before and before[name] != image
    ]
    told += [f"container {name} with image {image} is new" for name, image in after.items() if name not in before]
    told += [f"container {name} is no more" for name in before if name not in after]
    return "; ".join(told) or "its images are those of the one before"
