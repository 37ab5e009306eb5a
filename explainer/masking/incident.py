"""The names that an incident brings with it: what it is told of, and what its objects are made of. Pure."""

from collections.abc import Iterable, Iterator

from kubewhy.kube.naming import Name
from kubewhy.records import IncidentView, Ref


def told(view: IncidentView) -> Iterator[Name]:
    """What an incident names by itself."""
    yield Name("cluster", view.cluster)
    if view.cluster_name:
        yield Name("cluster", view.cluster_name)
    yield from of_refs([view.root, *view.members])
    for failure in view.failures:
        yield from of_refs([failure.object, *([failure.cause] if failure.cause else [])])
        yield from (Name("label", value) for value in failure.labels.values())


def of_refs(refs: Iterable[Ref]) -> Iterator[Name]:
    """The objects and their namespaces."""
    for ref in refs:
        yield Name(ref.kind, ref.name)
        if ref.namespace:
            yield Name("namespace", ref.namespace)
