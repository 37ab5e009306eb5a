"""What was done to workloads and nodes of late: their images, replicas, and whatever else their specs say. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from collectors.index import Key
from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import CronJob, Job
from kubewhy.kube.core import Node, PodSpec
from kubewhy.kube.meta import Object
from kubewhy.records import Change, Ref

# What was done longer ago is no reason for what breaks now.
KEPT = timedelta(minutes=35)
_EACH = 3  # changes of one object, the newest
_AT_ONCE = timedelta(seconds=10)  # a controller acts on a write within this time, so that both are one change


_WORKLOADS = (Deployment, StatefulSet, DaemonSet, CronJob, Job)


class History:
    """The last changes of each object, for as long as they matter."""

    def __init__(self) -> None:
        self._changes: dict[Key, list[Change]] = {}  # the newest first

    def saw(self, key: Key, old: Object, new: Object, at: datetime) -> None:
        """An object was one way and is another."""
        if what := difference(old, new):
            self._note(key, new, at, what)

    def appeared(self, key: Key, subject: Object, at: datetime) -> None:
        """It is seen for the first time, which may be long after it was made."""
        if isinstance(subject, _WORKLOADS) and subject.created and at - subject.created <= KEPT:
            self._note(key, subject, subject.created, "it was created")

    def found(self, deployment: Deployment, sets: Iterable[ReplicaSet]) -> None:
        """The revisions of a deployment as they are: the newest is a change too, which nobody may have seen."""
        key = Key(Deployment.resource.kind, deployment.namespace, deployment.name)
        *_, before, newest = [None, None, *sorted(sets, key=_revision)]
        if before is None or newest is None or newest.created is None:
            return
        # A revision that comes back takes its old ReplicaSet: only the deployment tells when.
        back = before.created and before.created > newest.created
        at = deployment.metadata.written if back else newest.created
        known = self._changes.get(key, [])
        if at is None or any(abs(each.at - at) <= _AT_ONCE for each in known):
            return
        told = _images(before.spec.template.spec, newest.spec.template.spec)
        self._note(key, deployment, at, "; ".join(told) or "a new revision with the same images")

    def of(self, keys: Iterable[Key], now: datetime) -> tuple[Change, ...]:
        """All of these, the newest first."""
        found = [each for key in dict.fromkeys(keys) for each in self._changes.get(key, ())]
        return tuple(sorted((each for each in found if now - each.at <= KEPT), key=_at, reverse=True))

    def forget(self, key: Key) -> None:
        self._changes.pop(key, None)

    def _note(self, key: Key, subject: Object, at: datetime, what: str) -> None:
        resource = type(subject).resource
        change = Change(object=Ref(key.kind, key.name, key.namespace, resource.group), at=at, what=what)
        known = [each for each in self._changes.get(key, []) if at - each.at <= KEPT]
        self._changes[key] = sorted([change, *known], key=_at, reverse=True)[:_EACH]


def _at(change: Change) -> datetime:
    return change.at


def _revision(replica_set: ReplicaSet) -> tuple[int, float]:
    told = replica_set.metadata.annotations.revision or ""
    return int(told) if told.isdecimal() else 0, replica_set.created.timestamp() if replica_set.created else 0.0


def difference(old: Object, new: Object) -> str:
    """What of the specification was changed, in words; empty where only time has passed."""
    match old, new:
        case (Node(), Node()):
            return _cordon(old, new)
        case (Deployment(), Deployment()) | (StatefulSet(), StatefulSet()) | (DaemonSet(), DaemonSet()):
            if old.metadata.generation == new.metadata.generation:
                return ""
            one, other = _spec(old), _spec(new)
            told = _images(one.template.spec, other.template.spec)
            before, after = getattr(one, "replicas", None), getattr(other, "replicas", None)
            if before != after:
                told.append(f"replicas: {before} -> {after}")
            return "; ".join(told) or f"its specification (generation {new.metadata.generation})"
    return ""


def _spec(workload: Any) -> Any:
    return workload.spec


def _cordon(old: Node, new: Node) -> str:
    if old.spec.unschedulable != new.spec.unschedulable:
        return "it was cordoned" if new.spec.unschedulable else "it was uncordoned"
    return ""


def _images(old: PodSpec, new: PodSpec) -> list[str]:
    before, after = (
        {each.name: each.image for each in (*spec.init_containers, *spec.containers)} for spec in (old, new)
    )
    told = [
        f"image of container {name}: {before[name]} -> {image}"
        for name, image in after.items()
        if name in before and before[name] != image
    ]
    told += [f"container {name} with image {image} is new" for name, image in after.items() if name not in before]
    return told + [f"container {name} is no more" for name in before if name not in after]
