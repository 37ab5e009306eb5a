"""What one object and all it depends on look like now: evidence, ready to be judged. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from msgspec import Raw

from collectors.changes import recent
from collectors.index import Edge, Key, decode
from collectors.store import Store
from kubewhy.contracts import Link
from kubewhy.kube import GROUPS
from kubewhy.kube.core import Event, Namespace
from kubewhy.kube.meta import Object
from kubewhy.records import Attached, Evidence, Ref, Version

MAX_BYTES = 256 * 1024
_EVENTS = 20  # the newest; older ones only say the same again
_PASSED_THROUGH = {"Pod", "ReplicaSet", "Job"}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


@dataclass
class _Found:
    """What was found of one view."""

    objects: dict[Key, Raw]
    missing: dict[str, None]
    known: bool


def gather(store: Store, key: Key, *, cluster: str, version: Version, server: str = "") -> Evidence:
    """The evidence about an object; that it is gone, where it is not in the store."""
    resource = store.type_of(key.kind).resource
    ref = Ref(key.kind, key.name, key.namespace, resource.group)
    at = store.observed_at or _LONG_AGO
    subject = store.typed(key)
    if subject is None:
        return Evidence(cluster=cluster, version=version, ref=ref, observed_at=at)
    whole = _encode(subject)
    events = _events(store, key, subject)
    top = root(store, subject, ref)
    related, cut = _within(list(_related(store, key, subject)), MAX_BYTES - len(whole) - 512 * len(events))
    return Evidence(
        cluster=cluster,
        version=version,
        ref=ref,
        observed_at=at,
        uid=subject.metadata.uid,
        object=Raw(whole),
        root=top,
        related=related,
        events=events,
        server=server,
        changes=recent(store, [key, *_workload(top)]),
        truncated=cut,
    )


def _workload(root: Ref | None) -> Iterator[Key]:
    """That at the top of an object's owners, where it is of a kind that is read."""
    if root and GROUPS.get(root.kind) == root.group:
        yield Key(root.kind, root.namespace, root.name)


def content_hash(evidence: Evidence) -> int:
    """Tells whether anything worth sending changed: without versions, and without how often and when Events came."""
    told = blake2b(bytes(evidence.object), digest_size=8)
    told.update(
        _encode((evidence.root, evidence.related, [(event.reason, event.message) for event in evidence.events]))
    )
    if evidence.logs:
        told.update(_encode(evidence.logs))
    return int.from_bytes(told.digest(), "big")


def root(store: Store, subject: Object, ref: Ref) -> Ref | None:
    """The workload at the top of its owners; None when it is that itself.

    Only controllers are followed, never into a Node: a mirror pod is its own root. A custom owner is named unread.
    """
    top: Ref | None = None
    kind, owner = ref.kind, subject.controller
    for _ in range(8):  # an owner that owns itself would never end
        if owner is None or kind not in _PASSED_THROUGH or owner.kind == "Node":
            break
        top = Ref(owner.kind, owner.name, ref.namespace, owner.group)
        kind, owner = owner.kind, store.index.family.controller(owner.uid)
    return top


def _events(store: Store, key: Key, subject: Object) -> tuple[Event, ...]:
    needs = [edge.need for edge in store.events_needs(key.kind)]
    reasons = frozenset[str]().union(*(need.reasons for need in needs))
    told = [event for event in store.events(key, subject) if event.reason in reasons]
    told.sort(key=lambda event: (event.at or _LONG_AGO, event.name), reverse=True)
    return tuple(told[:_EVENTS])


def _related(store: Store, key: Key, subject: Object) -> Iterator[tuple[str, _Found]]:
    found: dict[str, _Found] = {}
    for edge in store.index.needs_of(key.kind):
        view = edge.need.view
        namespace = key.namespace if view.resource.namespaced else None
        if view.__name__ not in found:
            found[view.__name__] = _Found({}, {}, store.known(view.resource, namespace))
        into = found[view.__name__]
        for other in _linked(store, edge, key, subject, namespace):
            stored = store.stored(other)
            if stored is not None:
                into.objects[other] = Raw(_encode(decode(stored, view)))
            elif edge.need.link is Link.NAMED and into.known:
                into.missing[other.name] = None
    yield from found.items()
    told = store.namespace(key.namespace) if key.namespace else None
    if told is not None and key.namespace:
        name = Namespace.resource.kind
        yield name, _Found({Key(name, None, key.namespace): told}, {}, True)


def _linked(store: Store, edge: Edge, key: Key, subject: Object, namespace: str | None) -> Iterable[Key]:
    need, kind = edge.need, edge.kind
    match need.link:
        case Link.NAMED if need.names:
            return [Key(kind, namespace, name) for name in need.names(subject)]
        case Link.USERS:
            return store.index.naming(edge, key.namespace, key.name)
        case Link.SELECTED if need.selector:
            selector = need.selector(subject)
            if selector is None:
                return ()
            labelled = store.index.labelled(edge, namespace, selector)
            if not selector.match_expressions:
                return labelled
            return [each for each in labelled if selector.matches(_labels(store, edge, each))]
        case Link.OWNER:
            return [each for each in store.index.family.owners(subject) if each.kind == kind]
        case Link.OWNED:
            return [each for each in store.index.family.descendants(subject.metadata.uid) if each.kind == kind]
    return ()


def _labels(store: Store, edge: Edge, key: Key) -> dict[str, str]:
    stored = store.stored(key)
    return {} if stored is None else store.index.labels(edge, decode(stored, edge.need.view))


def _within(found: Sequence[tuple[str, _Found]], room: int) -> tuple[tuple[Attached, ...], bool]:
    """All that was found, cut to so many bytes: from the view that takes most, its last names first."""
    sizes = {view: sum(map(len, each.objects.values())) for view, each in found}
    cut = False
    kept = {view: sorted(each.objects.items(), key=_place) for view, each in found}
    while sum(sizes.values()) > room and any(kept.values()):
        cut = True
        largest = max((view for view in kept if kept[view]), key=lambda view: sizes[view])
        _, dropped = kept[largest].pop()
        sizes[largest] -= len(dropped)
    attached = tuple(
        Attached(
            view=view,
            known=each.known,
            objects=tuple(raw for _, raw in kept[view]),
            missing=tuple(each.missing),
            count=len(each.objects),
        )
        for view, each in sorted(found, key=lambda item: item[0])
    )
    return attached, cut


def _place(item: tuple[Key, Raw]) -> tuple[str, str]:
    return item[0].namespace or "", item[0].name
