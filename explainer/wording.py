"""An incident in its rules' own words: what people read where no model says more. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from explainer.hostile import clean, cut
from kubewhy.glance import alike as alike
from kubewhy.records import IncidentView, Told

LINES = 5
_LINE = 300  # characters


class Wording(NamedTuple):
    """Four texts of at most five lines each. What echoes something else may say why it matters, never what to do."""

    what: str
    why: str
    look: str
    commands: str


def wording(incident: IncidentView) -> Wording:
    """What is broken, the root's failures first; why it matters; what to look at; and commands, which only read."""
    whys = dict.fromkeys(each.why for each in incident.words if each.why)
    return Wording(
        what="\n".join(_what(incident)) or _line(incident.title),
        why="\n".join(list(whys)[:LINES]),
        look=next((each.look for each in incident.words if each.look), ""),
        commands="\n".join(incident.commands[:LINES]),
    )


def _what(incident: IncidentView) -> list[str]:
    # The failures of an incident come in the order of their weight, the root's own first.
    together = alike(incident.failures)
    shown = together if len(together) <= LINES else together[: LINES - 1]
    lines = [_together(each) for each in shown]
    rest = len(incident.failures) - sum(map(len, shown))
    return [*lines, f"and {rest} more"] if rest else lines


def _together(told: Sequence[Told]) -> str:
    more = len(told) - 1
    return _line(f"{told[0].object}{f' and {more} more' if more else ''}: {told[0].message}")


def _line(text: str) -> str:
    return cut(" ".join(clean(text).split()), _LINE)
