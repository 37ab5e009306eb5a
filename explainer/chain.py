"""How an object comes to be in an incident: the steps from it to the root. Pure."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from explainer.correlation import Group
from kubewhy.records import Ref

OWNED_BY = "owned by"
BLAMES = "blames"
ECHOES = "echoes"


@dataclass(frozen=True)
class Step:
    """An object, and how the one before leads to it."""

    object: Ref
    how: str = ""  # empty for the first


def chain(group: Group, workloads: Mapping[Ref, Ref], start: Ref) -> tuple[Step, ...]:
    """The shortest way from an object to the group's root; only the object itself where none is known.

    `workloads` are the objects at the top of the owners of all that fails, in the group or not.
    """
    edges = _edges(group, workloads)
    came: dict[Ref, tuple[Ref, Step] | None] = {start: None}
    waiting = deque([start])
    while waiting and group.root not in came:
        here = waiting.popleft()
        for step in edges.get(here, ()):
            if step.object not in came:
                came[step.object] = (here, step)
                waiting.append(step.object)
    steps: list[Step] = []
    back = came.get(group.root)
    while back:
        before, step = back
        steps.append(step)
        back = came[before]
    return (Step(start), *reversed(steps))


def _edges(group: Group, workloads: Mapping[Ref, Ref]) -> dict[Ref, list[Step]]:
    """What each object leads on to, the most telling first."""
    edges: dict[Ref, list[Step]] = {}
    for here, step in (*_blames(group), *_owned(workloads), *_echoes(group, workloads)):
        edges.setdefault(here, []).append(step)
    return edges


def _blames(group: Group) -> Iterator[tuple[Ref, Step]]:
    causes = [each for each in group.members if each[1].cause and each[1].cause != each[0]]
    for ref, failure in sorted(causes, key=lambda each: each[1].symptom):
        assert failure.cause
        yield ref, Step(failure.cause, ECHOES if failure.symptom else BLAMES)


def _owned(workloads: Mapping[Ref, Ref]) -> Iterator[tuple[Ref, Step]]:
    for ref, workload in workloads.items():
        if workload != ref:
            yield ref, Step(workload, OWNED_BY)


def _echoes(group: Group, workloads: Mapping[Ref, Ref]) -> Iterator[tuple[Ref, Step]]:
    """A workload fails as its members do; the worst of them comes first."""
    for ref in group.objects:
        workload = workloads.get(ref, ref)
        if workload != ref:
            yield workload, Step(ref, ECHOES)
