"""What a sink is given next of all that waits for it. Pure: the same that waits gives the same."""

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from kubewhy.contracts import Manner
from kubewhy.records import Finding

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ASIDE = 100


class Waiting(NamedTuple):
    """A letter, as far as its turn depends on it."""

    position: int
    incident: str
    rank: int  # of its severity
    at: datetime
    beneath: bool = False  # a digest stands for it

    @staticmethod
    def of(position: int, finding: Finding) -> "Waiting":
        """How that finding waits."""
        incident = finding.incident
        return Waiting(position, incident.id, incident.severity.rank, finding.at, finding.digest is not None)


class Batch(NamedTuple):
    """Positions in the order in which they are given; `settled` has also those for which these stand.

    What is `aside` keeps nothing else waiting.
    """

    given: tuple[int, ...]
    settled: frozenset[int]
    aside: bool = False

    @staticmethod
    def plain(waiting: Sequence[Waiting]) -> "Batch":
        """Just these."""
        given = tuple(each.position for each in waiting)
        return Batch(given, frozenset(given))


def next_batch(waiting: Sequence[Waiting], manner: Manner, now: datetime) -> Batch | None:
    """What is given now of these, which are in the order of their coming; None where nothing is due yet."""
    if not waiting:
        return None
    if manner.span:
        return _span(waiting, manner, now)
    if not manner.worst_first and not manner.merges:
        return Batch.plain(waiting[: manner.at_most])
    if manner.aside and (beneath := [each for each in waiting if each.beneath]):
        return Batch.plain(beneath[:_ASIDE])._replace(aside=True)
    lines: dict[str, list[Waiting]] = {}
    for each in waiting:
        lines.setdefault(each.incident, []).append(each)
    if manner.worst_first:
        chosen = heapq.nsmallest(manner.at_most, lines.values(), key=_turn)
    else:
        chosen = list(islice(lines.values(), manner.at_most))
    if manner.merges:
        given = tuple(line[-1].position for line in chosen)
        return Batch(given, frozenset(each.position for line in chosen for each in line))
    return Batch.plain([each for line in chosen for each in line][: manner.at_most])


def _turn(line: Sequence[Waiting]) -> tuple[int, int]:
    """The worst first; of those alike, who has waited longest."""
    return -max(each.rank for each in line), line[0].position


def _span(waiting: Sequence[Waiting], manner: Manner, now: datetime) -> Batch | None:
    """The first that came within one span, once that is over or there are as many as go together."""
    number = _number(waiting[0], manner.span)
    most = waiting[: manner.at_most]
    together = next((index for index, each in enumerate(most) if _number(each, manner.span) != number), len(most))
    if together == manner.at_most or together < len(most) or now >= _EPOCH + (number + 1) * manner.span:
        return Batch.plain(most[:together])
    return None


def _number(each: Waiting, span: timedelta) -> int:
    return (each.at - _EPOCH) // span
