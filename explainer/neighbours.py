"""Which failing objects have anything to do with each other: they name a workload, a cause or each other. Pure."""

from collections.abc import Iterable, Iterator

from explainer.correlation import ref_order
from kubewhy.records import Failure, Ref, Report


class Neighbours:
    """An undirected graph of failing objects and what they name."""

    def __init__(self) -> None:
        self._named: dict[Ref, tuple[Ref, ...]] = {}  # what each failing object names, itself included
        # And the reverse, in the order of its growth. Most are named by one alone, which weighs a tenth of a dict.
        self._naming: dict[Ref, Ref | dict[Ref, None]] = {}

    def names(self, ref: Ref) -> frozenset[Ref]:
        """What a failing object names. Nothing, where it does not fail."""
        return frozenset(self._named.get(ref, ()))

    def set(self, report: Report, failures: Iterable[Failure]) -> None:
        """These are now the failures of that object; none takes it out."""
        ref = report.ref
        named = [each.cause for each in failures if each.cause is not None]
        wanted = tuple(dict.fromkeys([ref, report.root, *named])) if failures else ()
        known = self._named.get(ref, ())
        for gone in known:
            if gone not in wanted:
                self._part(gone, ref)
        for new in wanted:
            if new not in known:
                self._join(new, ref)
        if wanted:
            self._named[ref] = wanted
        else:
            self._named.pop(ref, None)

    def _join(self, name: Ref, ref: Ref) -> None:
        before = self._naming.get(name)
        if before is None:
            self._naming[name] = ref
        elif isinstance(before, Ref):
            self._naming[name] = {before: None, ref: None}
        else:
            before[ref] = None

    def _part(self, name: Ref, ref: Ref) -> None:
        before = self._naming[name]
        if isinstance(before, dict):
            del before[ref]
        if isinstance(before, Ref) or not before:
            del self._naming[name]

    def _who(self, name: Ref) -> Iterable[Ref]:
        """The failing objects that name it, the one that has done so for the longest first."""
        naming = self._naming.get(name, ())
        return (naming,) if isinstance(naming, Ref) else naming

    def is_named(self, name: Ref) -> bool:
        """Whether any failing object names it."""
        return name in self._naming

    def every_name(self) -> Iterable[Ref]:
        """All that failing objects name, themselves included."""
        return self._naming.keys()

    def one_of(self, name: Ref) -> Ref | None:
        """The failing object that has named this for the longest, if any does."""
        return next(iter(self._who(name)), None)

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
                new = [ref for ref in self._who(name) if ref not in seen]
                seen.update(new)
                found += new
                for ref in new:
                    waiting += self._named[ref]
            if found:
                yield sorted(found, key=ref_order)
