"""What the cluster itself says of an object, beside the rules: how it stands, how it got there, what changed. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from collectors.index import Key
from collectors.store import Store
from kubewhy.cli.report import Name
from kubewhy.kube import GROUPS
from kubewhy.kube.apps import Deployment, ReplicaSet
from kubewhy.kube.core import PodSpec
from kubewhy.kube.meta import Object, WrittenMeta
from kubewhy.records import Ref

# A change counts so long before the onset of what it may have brought about.
BEFORE = timedelta(minutes=30)
# A controller acts on a write within this time, so that both are one change.
_AT_ONCE = timedelta(seconds=10)


class Change(msgspec.Struct, frozen=True):
    object: Name
    at: datetime
    what: str


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
