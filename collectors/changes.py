"""What was changed of late in an object: as it was seen to happen, or as the object itself tells. Pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from collectors.differences import images
from collectors.history import AT_ONCE, KEPT, change
from collectors.index import Key
from collectors.store import Store
from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import CronJob, Job
from kubewhy.kube.meta import Object, WrittenMeta
from kubewhy.records import Change, Sort

_WORKLOADS = {kind.resource.kind for kind in (Deployment, StatefulSet, DaemonSet, CronJob, Job)}
_NEVER = datetime.min.replace(tzinfo=UTC)


def recent(store: Store, keys: Iterable[Key]) -> tuple[Change, ...]:
    """What was done of late to these, the newest first."""
    since = store.observed_at - KEPT if store.observed_at else _NEVER
    found = [each for key in dict.fromkeys(keys) for each in _joined(store.history.of(key), _stated(store, key, since))]
    return tuple(sorted((each for each in found if each.at >= since), key=_at, reverse=True))


def known(store: Store, key: Key) -> list[Change]:
    """All that is known of it, however long ago, the newest first."""
    subject = store.typed(key)
    told = stated(store, subject) if subject else ()
    return sorted(_joined(store.history.of(key), told), key=_at, reverse=True)


def stated(store: Store, subject: Object) -> Iterator[Change]:
    """What its times tell, and of a deployment its revisions."""
    rollout = _rollout(store, subject) if isinstance(subject, Deployment) else None
    if rollout:
        yield rollout
    if subject.created:
        yield change(subject, subject.created, Sort.CREATED, "it was created")
    written = subject.metadata.written if isinstance(subject.metadata, WrittenMeta) else None
    told = [each for each in (subject.created, rollout.at if rollout else None) if each]
    if written and all(written - each > AT_ONCE for each in told):
        yield change(subject, written, Sort.WRITTEN, "it was last written, its status apart")


def _stated(store: Store, key: Key, since: datetime) -> tuple[Change, ...]:
    """Of workloads, and found out once until they change: all their pods ask for the same."""
    found = store.history.stated.get(key)
    subject = store.typed(key) if found is None and key.kind in _WORKLOADS else None
    if subject:
        found = store.history.stated[key] = tuple(each for each in stated(store, subject) if each.at >= since)
    return found or ()


def _joined(seen: list[Change], told: Iterable[Change]) -> Iterator[Change]:
    """What was seen says more than what is told of the same."""
    yield from seen
    for each in told:
        if all(abs(each.at - other.at) > AT_ONCE and each.what != other.what for other in seen):
            yield each


def _rollout(store: Store, deployment: Deployment) -> Change | None:
    """Its newest revision, by what tells it from the one before."""
    family = store.index.family.descendants(deployment.metadata.uid)
    found = [store.typed(key) for key in family if key.kind == ReplicaSet.resource.kind]
    sets = sorted((each for each in found if isinstance(each, ReplicaSet)), key=_revision)
    if len(sets) < 2 or not sets[-1].created:
        return None
    before, newest = sets[-2], sets[-1]
    # A revision that comes back takes its old ReplicaSet: only the deployment tells when.
    back = any(each.created and newest.created and each.created > newest.created for each in sets)
    at = (deployment.metadata.written if back else None) or newest.created
    told = images(before.spec.template.spec, newest.spec.template.spec)
    sort = Sort.IMAGES if told else Sort.SPECIFICATION
    return change(deployment, at, sort, told or "its pods' template, but not their images") if at else None


def _revision(replica_set: ReplicaSet) -> tuple[int, float]:
    told = replica_set.metadata.annotations.revision or ""
    return int(told) if told.isdecimal() else 0, replica_set.created.timestamp() if replica_set.created else 0.0


def _at(change: Change) -> datetime:
    return change.at
