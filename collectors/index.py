"""Who refers to whom: the indexes by which a change finds the objects that depend on it. Pure."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from sys import intern
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from kubewhy.contracts import Analyzer, Link, Need
from kubewhy.kube.meta import LabelSelector, Object, OwnerReference, Resource

K = TypeVar("K", bound=Hashable)


class Key(NamedTuple):
    """One object of the cluster. `namespace` is None for a kind that has none."""

    kind: str
    namespace: str | None
    name: str


def key_of(resource: Resource, subject: Object) -> Key:
    """Its key, from the typed object."""
    meta = subject.metadata
    # Namespaces are few: ten thousand objects share their names.
    return Key(resource.kind, intern(meta.namespace) if resource.namespaced and meta.namespace else None, meta.name)


class Bag(Generic[K]):
    """Sets by key, none of them empty."""

    def __init__(self) -> None:
        self._sets: dict[K, set[Key]] = {}

    def add(self, at: K, key: Key) -> None:
        self._sets.setdefault(at, set()).add(key)

    def drop(self, at: K, key: Key) -> None:
        kept = self._sets.get(at)
        if kept is not None:
            kept.discard(key)
            if not kept:
                del self._sets[at]

    def at(self, at: K) -> Set[Key]:
        return self._sets.get(at, frozenset())


class Edge(NamedTuple):
    """A need of one judged kind. `number` tells edges apart."""

    number: int
    subject: type[Object]
    need: Need

    @property
    def kind(self) -> str:
        """The related kind."""
        return self.need.view.resource.kind


def edges(analyzers: Iterable[Analyzer[Any]]) -> list[Edge]:
    """All needs of all analyzers, numbered."""
    pairs = [(analyzer.reads, need) for analyzer in analyzers for need in analyzer.needs]
    return [Edge(number, subject, need) for number, (subject, need) in enumerate(pairs)]


# The pair of a selector under which it is filed; None for one that has only expressions.
Pair = tuple[str, str] | None
Decode = Callable[[bytes, type[Object]], Object]


def decode(stored: bytes, view: type[Object]) -> Object:
    """A typed object from the bytes that the store keeps."""
    return msgspec.msgpack.decode(stored, type=view)


class Seen:
    """An object as it is on one side of a change. It is decoded once for each view that is asked for."""

    def __init__(self, stored: bytes, whole: Object) -> None:
        self.stored, self.whole = stored, whole
        self._views: dict[type[Object], Object] = {}

    def view(self, view: type[Object]) -> Object:
        found = self._views.get(view)
        if found is None:
            found = self._views[view] = decode(self.stored, view)
        return found


class Family:
    """Who controls whom, by uid: read at every change and for all evidence, so no object is decoded for it."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._controllers: dict[str, OwnerReference] = {}  # of whom; siblings share one
        self._children: dict[str, set[str]] = {}

    def put(self, key: Key, subject: Object) -> None:
        uid, owner = subject.metadata.uid, subject.controller
        self._keys[uid] = key
        if owner:
            siblings = self._children.setdefault(owner.uid, set())
            known = self._controllers.get(next(iter(siblings), ""))
            self._controllers[uid] = known if known is not None and known == owner else owner
            siblings.add(uid)

    def drop(self, key: Key, subject: Object) -> None:
        uid = subject.metadata.uid
        if self._keys.get(uid) != key:
            return
        del self._keys[uid]
        owner = self._controllers.pop(uid, None)
        if owner:
            siblings = self._children[owner.uid]
            siblings.discard(uid)
            if not siblings:
                del self._children[owner.uid]

    def controller(self, uid: str) -> OwnerReference | None:
        """Who controls the object of that uid; None also where that object is not here."""
        return self._controllers.get(uid)

    def owners(self, subject: Object) -> Iterator[Key]:
        """Its controllers that are here, nearest first."""
        owner = subject.controller
        for _ in range(8):  # an owner that owns itself would never end
            key = self._keys.get(owner.uid) if owner else None
            if owner is None or key is None:
                return
            yield key
            owner = self._controllers.get(owner.uid)

    def descendants(self, uid: str, depth: int = 4) -> Iterator[Key]:
        """All it controls, near and further down."""
        for child in self._children.get(uid, ()) if depth else ():
            yield self._keys[child]
            yield from self.descendants(child, depth - 1)


class Index:
    """What refers to what, by name, by label and by owner, kept as objects come and go."""

    def __init__(self, wanted: Iterable[Edge]) -> None:
        self._by_subject: dict[str, list[Edge]] = {}
        self._by_view: dict[str, list[Edge]] = {}
        for edge in wanted:
            self._by_subject.setdefault(edge.subject.resource.kind, []).append(edge)
            self._by_view.setdefault(edge.kind, []).append(edge)
        self._views = {kind: frozenset(each.need.view for each in edges) for kind, edges in self._by_view.items()}
        self._names: Bag[tuple[int, str | None, str]] = Bag()  # who names it
        self._labels: Bag[tuple[int, str | None, str, str]] = Bag()  # who carries the label
        self._members: Bag[tuple[int, str | None]] = Bag()  # who could be selected at all
        self._selectors: Bag[tuple[int, str | None, Pair]] = Bag()  # who selects by the pair
        self.family = Family()

    def needs_of(self, kind: str) -> list[Edge]:
        return self._by_subject.get(kind, [])

    def needs_for(self, kind: str) -> list[Edge]:
        return self._by_view.get(kind, [])

    def views_of(self, kind: str) -> frozenset[type[Object]]:
        """All as which such an object is attached to others."""
        return self._views.get(kind, frozenset())

    def put(self, key: Key, now: Seen) -> None:
        """Files an object as it is now. What it was before must have been dropped."""
        for bag, at in self._places(key, now):
            bag.add(at, key)
        self.family.put(key, now.whole)

    def drop(self, key: Key, before: Seen) -> None:
        """Takes out an object as it was filed."""
        for bag, at in self._places(key, before):
            bag.drop(at, key)
        self.family.drop(key, before.whole)

    def stays(self, key: Key, before: Seen, now: Seen) -> bool:
        """Whether it is filed as it was: then others depend on it, and it on them, just as before."""
        one, other = before.whole, now.whole
        if one.metadata.uid != other.metadata.uid or one.controller != other.controller:
            return False
        return list(self._places(key, before)) == list(self._places(key, now))

    def _places(self, key: Key, seen: Seen) -> Iterator[tuple[Bag[Any], Hashable]]:
        """Where it is filed."""
        for edge in self.needs_of(key.kind):
            space = key.namespace if edge.need.view.resource.namespaced else None
            if edge.need.link is Link.NAMED and edge.need.names:
                for name in edge.need.names(seen.whole):
                    yield self._names, (edge.number, space, name)
            elif edge.need.link is Link.SELECTED and edge.need.selector:
                selector = edge.need.selector(seen.whole)
                if selector is not None:
                    yield self._selectors, (edge.number, space, _filed_under(selector))
        for edge in self.needs_for(key.kind):
            space = key.namespace if edge.subject.resource.namespaced else None
            if edge.need.link is Link.USERS and edge.need.names:
                for name in edge.need.names(seen.view(edge.need.view)):
                    yield self._names, (edge.number, space, name)
            elif edge.need.link is Link.SELECTED:
                yield self._members, (edge.number, key.namespace)
                for label, value in self.labels(edge, seen.view(edge.need.view)).items():
                    yield self._labels, (edge.number, key.namespace, label, value)

    @staticmethod
    def labels(edge: Edge, view: Object) -> dict[str, str]:
        """The labels by which that need selects the object."""
        return dict(edge.need.labels(view)) if edge.need.labels else view.metadata.labels

    def naming(self, edge: Edge, namespace: str | None, name: str) -> Iterable[Key]:
        """Who names that object."""
        return self._names.at((edge.number, namespace, name))

    def labelled(self, edge: Edge, namespace: str | None, selector: LabelSelector) -> Iterable[Key]:
        """All with the labels that it matches: what is left is to try its expressions, where it has any."""
        pairs = selector.match_labels.items()
        if not pairs:
            return self._members.at((edge.number, namespace))
        first, *others = sorted((self._labels.at((edge.number, namespace, *pair)) for pair in pairs), key=len)
        return set(first).intersection(*others) if others else first

    def selecting(self, edge: Edge, namespace: str | None, labels: dict[str, str]) -> Iterator[Key]:
        """Who may select an object with these labels."""
        for pair in (None, *labels.items()):
            yield from self._selectors.at((edge.number, namespace, pair))


def _filed_under(selector: LabelSelector) -> Pair:
    # The last label in order tends to be the one that tells objects apart (app before version or tier does not matter:
    # any one pair is right, a rare one is only faster).
    return max(selector.match_labels.items(), default=None)
