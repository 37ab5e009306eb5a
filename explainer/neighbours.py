"""Which failing objects have anything to do with each other: they name a workload, a cause or each other. Pure."""

from collections.abc import Iterable, Iterator

from explainer.correlation import ref_order
from kubewhy.records import Failure, Ref, Report


class Neighbours:
    """An undirected graph of failing objects and what they name."""

    def __init__(self) -> None:
        self._named: dict[Ref, frozenset[Ref]] = {}  # what each failing object names, itself included
        self._naming: dict[Ref, dict[Ref, None]] = {}  # and the reverse, in the order of its growth

    def names(self, ref: Ref) -> frozenset[Ref]:
        """What a failing object names. Nothing, where it does not fail."""
        return self._named.get(ref, frozenset())

    def set(self, report: Report, failures: Iterable[Failure]) -> None:
        """These are now the failures of that object; none takes it out."""
        ref = report.ref
        named = {each.cause for each in failures if each.cause is not None}
        wanted = frozenset({ref, report.root, *named}) if failures else frozenset()
        for gone in self.names(ref) - wanted:
            naming = self._naming[gone]
            del naming[ref]
            if not naming:
                del self._naming[gone]
        for new in wanted - self.names(ref):
            self._naming.setdefault(new, {})[ref] = None
        if wanted:
            self._named[ref] = wanted
        else:
            self._named.pop(ref, None)

    def is_named(self, name: Ref) -> bool:
        """Whether any failing object names it."""
        return name in self._naming

    def every_name(self) -> Iterable[Ref]:
        """All that failing objects name, themselves included."""
        return self._naming.keys()

    def one_of(self, name: Ref) -> Ref | None:
        """The failing object that has named this for the longest, if any does."""
        return next(iter(self._naming.get(name, ())), None)

    def connected(self, names: Iterable[Ref]) -> Iterator[list[Ref]]:
        """The failing objects that hang together with these names, a list for each set that has nothing to do
        with the others."""
        asked: set[Ref] = set()
        seen: set[Ref] = set()
        for start in names:
            found: list[Ref] = []
            waiting = [start]
            while waiting:
                name = waiting.pop()
                if name in asked:
                    continue
                asked.add(name)
                new = self._naming.get(name, {}).keys() - seen
                seen |= new
                found += new
                for ref in new:
                    waiting += self._named[ref]
            if found:
                yield sorted(found, key=ref_order)
