"""What is known of one cluster: objects as bytes, decoded only when gathered. Pure.

Ten thousand pods kept as typed objects cost five times what their msgpack bytes do; only the indexes are live.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw

from collectors.history import History
from collectors.index import Bag, Edge, Index, Key, Seen, decode, edges, key_of
from kubewhy.contracts import Analyzer, Link
from kubewhy.kube import KINDS
from kubewhy.kube.apps import ReplicaSet
from kubewhy.kube.core import Event, Namespace, ObjectReference, Pod, PodStatus
from kubewhy.kube.meta import Annotations, Object, ObjectMeta, Resource

_encode = msgspec.msgpack.Encoder().encode
Scope = tuple[str, str | None]  # kind, and the namespace watched or None for all

# Without these a pod's workload is not known: they stand between the two.
_BETWEEN = {"Pod": ("ReplicaSet", "Job"), "Job": ("CronJob",)}


def kinds_read(analyzers: Iterable[Analyzer[Any]]) -> tuple[type[Object], ...]:
    """The kinds that these analyzers judge, or attach, or whose owners they pass through, and namespaces."""
    names: set[str] = set()
    for analyzer in analyzers:
        names.add(analyzer.reads.resource.kind)
        if analyzer.reads.resource.namespaced:
            names.add(Namespace.resource.kind)
        names |= {need.view.resource.kind for need in analyzer.needs}
    for name in sorted(names & set(_BETWEEN)):
        names |= set(_BETWEEN[name])
    return tuple(kind for kind in KINDS if kind.resource.kind in names)


class Store:
    """A Target that remembers, and says which judged objects a change touches."""

    def __init__(self, analyzers: Iterable[Analyzer[Any]], touched: Callable[[Key], None] | None = None) -> None:
        """Without `touched` nobody wants to know, and no time is spent on finding out."""
        analyzers = tuple(analyzers)
        self._touched = touched
        self.judged = {analyzer.reads.resource.kind for analyzer in analyzers}
        self._types = {kind.resource.kind: kind for kind in KINDS}
        self._reasons = {reason for analyzer in analyzers for need in analyzer.needs for reason in need.reasons}
        wanted = edges(analyzers)
        self.index = Index(edge for edge in wanted if edge.need.link is not Link.EVENTS)
        self._told_by_events = [edge for edge in wanted if edge.need.link is Link.EVENTS]
        self._tables: dict[str, dict[Key, bytes]] = {kind: {} for kind in self._types}
        self._events: Bag[str] = Bag()  # by what they are about
        self._namespaces: dict[str, Raw] = {}  # what is attached of each, as JSON
        self.history = History()
        self._listing: dict[Scope, set[Key]] = {}
        self._synced: set[Scope] = set()
        self._refused: dict[Scope, str] = {}
        self.observed_at: datetime | None = None

    # What a LIST and its WATCH say.

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.observed_at = at
        self._listing[resource.kind, namespace] = set()

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        self.observed_at = at
        key = key_of(resource, subject)
        for scope in ((key.kind, None), (key.kind, key.namespace)):
            if scope in self._listing:
                self._listing[scope].add(key)
        if isinstance(subject, Event) and subject.reason not in self._reasons:
            return
        self._replace(key, _stub(subject))

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        self.observed_at = at
        self._replace(Key(resource.kind, namespace, name), None)

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.observed_at = at
        scope = (resource.kind, namespace)
        self._refused.pop(scope, None)
        seen = self._listing.pop(scope, set())
        for key in list(self._tables[resource.kind]):
            if namespace in (None, key.namespace) and key not in seen:
                self._replace(key, None)
        if scope not in self._synced:
            self._synced.add(scope)
            self._touch_all_that_need(resource.kind, namespace)

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        self.observed_at = at
        scope = (resource.kind, namespace)
        self._listing.pop(scope, None)
        self._refused[scope] = reason
        if scope in self._synced:
            self._synced.discard(scope)
            self._touch_all_that_need(resource.kind, namespace)

    # What is known.

    def known(self, resource: Resource, namespace: str | None) -> bool:
        """Whether all objects of the kind in that namespace are here; None asks for all namespaces."""
        return (resource.kind, None) in self._synced or (resource.kind, namespace) in self._synced

    def all_settled(self, kinds: Iterable[type[Object]]) -> bool:
        """Whether each of these kinds has been read or refused somewhere, and no LIST is under way.

        Nothing that is judged waits for namespaces: their labels are a help, and older recordings lack them.
        """
        done = {kind for kind, _ in self._synced} | {kind for kind, _ in self._refused} | {Namespace.resource.kind}
        return not self._listing and all(kind.resource.kind in done for kind in kinds)

    def refusals(self) -> list[tuple[str, str]]:
        """What cannot be read, and why: the kind's plural, with the namespace where only one is meant."""
        return sorted(
            (f"{self._types[kind].resource} in {space}" if space else str(self._types[kind].resource), reason)
            for (kind, space), reason in self._refused.items()
        )

    def stored(self, key: Key) -> bytes | None:
        return self._tables[key.kind].get(key)

    def keys(self, kind: str) -> Iterable[Key]:
        return self._tables[kind]

    def typed(self, key: Key) -> Object | None:
        """The object as its fullest class."""
        stored = self.stored(key)
        return None if stored is None else decode(stored, self._types[key.kind])

    def namespace(self, name: str) -> Raw | None:
        """What of that namespace is attached to the objects in it, as JSON. None also where it may not be read."""
        return self._namespaces.get(name) if self.known(Namespace.resource, None) else None

    def type_of(self, kind: str) -> type[Object]:
        return self._types[kind]

    def events_needs(self, kind: str) -> list[Edge]:
        """Which Events the analyzers of that kind want."""
        return [edge for edge in self._told_by_events if edge.subject.resource.kind == kind]

    def events(self, key: Key, subject: Object) -> Iterator[Event]:
        """The Events about the object, in no order."""
        for about in _names_in_events(key, subject):
            for told in self._events.at(about):
                event = decode(self._tables["Event"][told], Event)
                assert isinstance(event, Event)
                yield event

    # How a change finds its way.

    def _replace(self, key: Key, subject: Object | None) -> None:
        table = self._tables[key.kind]
        before, now = table.get(key), None if subject is None else _encode(subject)
        if before == now:
            return
        old = None if before is None else decode(before, self._types[key.kind])
        if key.kind == "Event":
            self._replace_event(key, old, subject, now)
            return
        self._remember(key, old, subject)
        was = None if old is None or before is None else Seen(before, old)
        seen = None if subject is None or now is None else Seen(now, subject)
        if now is None:
            del table[key]
        else:
            table[key] = now
        touched = {key, *self._moved(key, was, seen)}
        if key.kind == Namespace.resource.kind and self._renew(key.name, subject):
            touched.update(self._within(key.name))
        for each in sorted(touched):  # a set has another order in each process
            self._touch(each)

    def _moved(self, key: Key, was: Seen | None, now: Seen | None) -> Iterator[Key]:
        """Files it anew. Those whose evidence held it, or holds it from now on."""
        edges, alone = self._edges_changed(key.kind, was, now), was is None or now is None
        stays = was is not None and now is not None and self.index.stays(key, was, now)
        if was and not stays:
            yield from self._dependents(edges, key, was, alone=alone)
            self.index.drop(key, was)
        if now:
            if not stays:
                self.index.put(key, now)
            yield from self._dependents(edges, key, now, alone=alone)

    def _remember(self, key: Key, old: Object | None, subject: Object | None) -> None:
        self.history.stated.pop(key, None)
        for each in (old, subject):
            if isinstance(each, ReplicaSet) and each.controller:
                self.history.stated.pop(Key(each.controller.kind, key.namespace, each.controller.name), None)
        if subject is None:
            self.history.forget(key)
        elif old is not None and self.observed_at:
            self.history.saw(key, old, subject, self.observed_at)

    def _renew(self, namespace: str, subject: Object | None) -> bool:
        """Whether what is attached of that namespace changes."""
        before, now = self._namespaces.pop(namespace, None), None if subject is None else _labels_of(subject)
        if now is not None:
            self._namespaces[namespace] = now
        return before != now

    def _within(self, namespace: str) -> Iterator[Key]:
        """All judged objects in it. Those of all namespaces are touched anyway when these are first listed."""
        if self._touched and self.known(Namespace.resource, None):
            yield from (key for kind in self.judged for key in self.keys(kind) if key.namespace == namespace)

    def _replace_event(self, key: Key, old: Object | None, event: Object | None, now: bytes | None) -> None:
        for each in (old, event):
            if not isinstance(each, Event):
                continue
            about = each.involved_object.uid or each.involved_object.name
            if each is old:
                self._events.drop(about, key)
            else:
                self._events.add(about, key)
            self._touch_subject(each.involved_object)
        if now is None:
            self._tables["Event"].pop(key, None)
        else:
            self._tables["Event"][key] = now

    def _touch_subject(self, about: ObjectReference) -> None:
        resource = self._types[about.kind].resource if about.kind in self._types else None
        if resource is not None:
            self._touch(Key(about.kind, about.namespace if resource.namespaced else None, about.name))

    def _edges_changed(self, kind: str, was: Seen | None, now: Seen | None) -> list[Edge]:
        """The needs that read something of it which has changed."""
        if self._touched is None:
            return []
        edges = self.index.needs_for(kind)
        if was is None or now is None:
            return edges
        changed = {view for view in self.index.views_of(kind) if was.view(view) != now.view(view)}
        return [edge for edge in edges if edge.need.view in changed]

    def _dependents(self, edges: list[Edge], key: Key, seen: Seen, *, alone: bool) -> Iterator[Key]:
        """Whose evidence holds the object, as it is on this side of the change; `alone` when there is no other side."""
        if alone and self._touched:
            # Whose root it may be.
            yield from self.index.family.descendants(seen.whole.metadata.uid)
        for edge in edges:
            yield from self._reverse(edge, key, seen)

    def _reverse(self, edge: Edge, key: Key, seen: Seen) -> Iterator[Key]:
        kind, need, family, subject = edge.subject.resource, edge.need, self.index.family, seen.whole
        match need.link:
            case Link.NAMED:
                yield from self.index.naming(edge, key.namespace, key.name)
            case Link.USERS if need.names:
                space = key.namespace if kind.namespaced else None
                for name in need.names(seen.view(need.view)):
                    yield Key(kind.kind, space, name)
            case Link.SELECTED:
                labels = self.index.labels(edge, seen.view(need.view))
                yield from self.index.selecting(edge, key.namespace, labels)
            case Link.OWNER:
                yield from (each for each in family.descendants(subject.metadata.uid) if each.kind == kind.kind)
            case Link.OWNED:
                yield from (each for each in family.owners(subject) if each.kind == kind.kind)

    def _touch_all_that_need(self, kind: str, namespace: str | None) -> None:
        if self._touched is None:
            return
        subjects = {edge.subject.resource.kind for edge in self.index.needs_for(kind)}
        if kind == Namespace.resource.kind:
            subjects |= {subject for subject in self.judged if self._types[subject].resource.namespaced}
        for subject in sorted(subjects):
            for key in list(self.keys(subject)):
                if namespace is None or key.namespace == namespace:
                    self._touch(key)

    def _touch(self, key: Key) -> None:
        if self._touched and key.kind in self.judged:
            self._touched(key)


def _names_in_events(key: Key, subject: Object) -> Iterator[str]:
    """What an Event about it may give as its uid: a kubelet gives a node's name, and a mirror pod's config hash."""
    yield subject.metadata.uid
    if key.kind == "Node":
        yield key.name
    elif subject.metadata.annotations.config_mirror:
        yield subject.metadata.annotations.config_hash or subject.metadata.annotations.config_mirror


def _labels_of(namespace: Object) -> Raw:
    """What silences and routes go by, and nothing else."""
    told = namespace.metadata
    meta = ObjectMeta(name=told.name, labels=told.labels, annotations=Annotations(ignore=told.annotations.ignore))
    return Raw(msgspec.json.encode(Namespace(metadata=meta)))


def _stub(subject: Object) -> Object:
    """A succeeded pod needs no more than its name, its owner and that it succeeded."""
    if isinstance(subject, Pod) and subject.status.phase == "Succeeded":
        return Pod(metadata=subject.metadata, status=PodStatus(phase="Succeeded"))
    return subject
