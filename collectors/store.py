"""What is known of one cluster: objects as bytes, decoded only when gathered. Pure.

Ten thousand pods kept as typed objects cost five times what their msgpack bytes do; only the indexes are live.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from collectors.index import Edge, Index, Key, decode, edges, key_of
from kubewhy.contracts import Analyzer, Link
from kubewhy.kube import KINDS
from kubewhy.kube.core import Event, ObjectReference, Pod, PodStatus
from kubewhy.kube.meta import Object, Resource

_encode = msgspec.msgpack.Encoder().encode
Scope = tuple[str, str | None]  # kind, and the namespace watched or None for all

# Without these a pod's workload is not known: they stand between the two.
_BETWEEN = {"Pod": ("ReplicaSet", "Job"), "Job": ("CronJob",)}


def kinds_read(analyzers: Iterable[Analyzer[Any]]) -> tuple[type[Object], ...]:
    """The kinds that these analyzers judge, or attach, or whose owners they pass through."""
    names: set[str] = set()
    for analyzer in analyzers:
        names.add(analyzer.reads.resource.kind)
        names |= {need.view.resource.kind for need in analyzer.needs}
    for name in sorted(names & set(_BETWEEN)):
        names |= set(_BETWEEN[name])
    return tuple(kind for kind in KINDS if kind.resource.kind in names)


class Store:
    """A Target that remembers, and says which judged objects a change touches."""

    def __init__(self, analyzers: Iterable[Analyzer[Any]], touched: Callable[[Key], None]) -> None:
        analyzers = tuple(analyzers)
        self._touched = touched
        self.judged = {analyzer.reads.resource.kind for analyzer in analyzers}
        self._types = {kind.resource.kind: kind for kind in KINDS}
        self._reasons = {reason for analyzer in analyzers for need in analyzer.needs for reason in need.reasons}
        wanted = edges(analyzers)
        self.index = Index(edge for edge in wanted if edge.need.link is not Link.EVENTS)
        self._told_by_events = [edge for edge in wanted if edge.need.link is Link.EVENTS]
        self._tables: dict[str, dict[tuple[str | None, str], bytes]] = {kind: {} for kind in self._types}
        self._events: dict[str, set[tuple[str | None, str]]] = {}  # by what they are about
        self._listing: dict[Scope, set[tuple[str | None, str]]] = {}
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
                self._listing[scope].add(key[1:])
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
        for space, name in list(self._tables[resource.kind]):
            if (namespace is None or space == namespace) and (space, name) not in seen:
                self._replace(Key(resource.kind, space, name), None)
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

    def settled(self, resource: Resource, namespace: str | None) -> bool:
        """Whether that scope has been read once, or was refused."""
        scope = (resource.kind, namespace)
        return scope in self._synced or scope in self._refused

    def all_settled(self, kinds: Iterable[type[Object]]) -> bool:
        """Whether each of these kinds has been read or refused somewhere, and no LIST is under way."""
        done = {kind for kind, _ in self._synced} | {kind for kind, _ in self._refused}
        return not self._listing and all(kind.resource.kind in done for kind in kinds)

    def refusals(self) -> list[tuple[str, str]]:
        """What cannot be read, and why: the kind's plural, with the namespace where only one is meant."""
        return sorted(
            (f"{self._types[kind].resource} in {space}" if space else str(self._types[kind].resource), reason)
            for (kind, space), reason in self._refused.items()
        )

    def stored(self, key: Key) -> bytes | None:
        return self._tables[key.kind].get(key[1:])

    def keys(self, kind: str) -> Iterator[Key]:
        return (Key(kind, *at) for at in self._tables[kind])

    def typed(self, key: Key) -> Object | None:
        """The object as its fullest class."""
        stored = self.stored(key)
        return None if stored is None else decode(stored, self._types[key.kind])

    def type_of(self, kind: str) -> type[Object]:
        return self._types[kind]

    def events_needs(self, kind: str) -> list[Edge]:
        """Which Events the analyzers of that kind want."""
        return [edge for edge in self._told_by_events if edge.subject.resource.kind == kind]

    def events(self, key: Key, subject: Object) -> Iterator[Event]:
        """The Events about the object, in no order."""
        for about in _names_in_events(key, subject):
            for at in self._events.get(about, ()):
                event = decode(self._tables["Event"][at], Event)
                assert isinstance(event, Event)
                yield event

    def owners(self, subject: Object) -> Iterator[Key]:
        """Its controllers that are here, nearest first."""
        for _ in range(8):  # an owner that owns itself would never end
            owner = self.index.keys.get(subject.controller.uid) if subject.controller else None
            found = self.typed(owner) if owner else None
            if owner is None or found is None:
                return
            yield owner
            subject = found

    def descendants(self, uid: str, depth: int = 4) -> Iterator[Key]:
        """All it controls, near and further down."""
        for child in self.index.children(uid) if depth else ():
            yield child
            found = self.typed(child)
            if found is not None:
                yield from self.descendants(found.metadata.uid, depth - 1)

    # How a change finds its way.

    def _replace(self, key: Key, subject: Object | None) -> None:
        table = self._tables[key.kind]
        before, now = table.get(key[1:]), None if subject is None else _encode(subject)
        if before == now:
            return
        old = None if before is None else decode(before, self._types[key.kind])
        if key.kind == "Event":
            self._replace_event(key, old, subject, now)
            return
        touched = {key}
        if old is not None and before is not None:
            touched |= set(self._dependents(key, old, before, now))
            self.index.drop(key, before, old)
            del table[key[1:]]
        if subject is not None and now is not None:
            table[key[1:]] = now
            self.index.put(key, now, subject)
            touched |= set(self._dependents(key, subject, now, before))
        for each in touched:
            self._touch(each)

    def _replace_event(self, key: Key, old: Object | None, event: Object | None, now: bytes | None) -> None:
        for each in (old, event):
            if not isinstance(each, Event):
                continue
            about = each.involved_object.uid or each.involved_object.name
            if each is old:
                kept = self._events.get(about, set())
                kept.discard(key[1:])
                if not kept:
                    self._events.pop(about, None)
            else:
                self._events.setdefault(about, set()).add(key[1:])
            self._touch_subject(each.involved_object)
        if now is None:
            self._tables["Event"].pop(key[1:], None)
        else:
            self._tables["Event"][key[1:]] = now

    def _touch_subject(self, about: ObjectReference) -> None:
        resource = self._types[about.kind].resource if about.kind in self._types else None
        if resource is not None:
            self._touch(Key(about.kind, about.namespace if resource.namespaced else None, about.name))

    def _dependents(self, key: Key, subject: Object, stored: bytes, other: bytes | None) -> Iterator[Key]:
        """Whose evidence holds the object, as it is on this side of the change."""
        if other is None:
            # Whose root it may be.
            yield from self.descendants(subject.metadata.uid)
        for edge in self.index.needs_for(key.kind):
            if other is not None and decode(stored, edge.need.view) == decode(other, edge.need.view):
                continue  # nothing that this need reads has changed
            yield from self._reverse(edge, key, subject, stored)

    def _reverse(self, edge: Edge, key: Key, subject: Object, stored: bytes) -> Iterator[Key]:
        kind, need = edge.subject.resource, edge.need
        match need.link:
            case Link.NAMED:
                yield from self.index.naming(edge, key.namespace, key.name)
            case Link.USERS if need.names:
                space = key.namespace if kind.namespaced else None
                for name in need.names(decode(stored, need.view)):
                    yield Key(kind.kind, space, name)
            case Link.SELECTED:
                labels = self.index.labels(edge, stored)
                yield from self.index.selecting(edge, key.namespace, labels)
            case Link.OWNER:
                yield from (each for each in self.descendants(subject.metadata.uid) if each.kind == kind.kind)
            case Link.OWNED:
                yield from (each for each in self.owners(subject) if each.kind == kind.kind)

    def _touch_all_that_need(self, kind: str, namespace: str | None) -> None:
        for subject in {edge.subject.resource.kind for edge in self.index.needs_for(kind)}:
            for key in list(self.keys(subject)):
                if namespace is None or key.namespace == namespace:
                    self._touch(key)

    def _touch(self, key: Key) -> None:
        if key.kind in self.judged:
            self._touched(key)


def _names_in_events(key: Key, subject: Object) -> Iterator[str]:
    """What an Event about it may give as its uid: a kubelet gives a node's name, and a mirror pod's config hash."""
    yield subject.metadata.uid
    if key.kind == "Node":
        yield key.name
    elif subject.metadata.annotations.config_mirror:
        yield subject.metadata.annotations.config_hash or subject.metadata.annotations.config_mirror


def _stub(subject: Object) -> Object:
    """A succeeded pod needs no more than its name, its owner and that it succeeded."""
    if isinstance(subject, Pod) and subject.status.phase == "Succeeded":
        return Pod(metadata=subject.metadata, status=PodStatus(phase="Succeeded"))
    return subject
