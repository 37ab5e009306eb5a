"""What is noted of a role while it works. Whoever looks after the process is told; else nobody is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from kubewhy.contracts import Completion
from kubewhy.records import Finding, Report

HELD = "held"  # people were spared what was over before its hold was


def _nobody(*told: object) -> None:
    """Is told, and does nothing."""


@dataclass
class Notes:
    """Whom to tell of what. Each may be told of every record, from the loop: it takes microseconds, and raises nothing.

    What they are told is described where it is shown, in `metrics.py` and `health.py`.
    """

    said: Callable[[str, str], None] = _nobody  # how a check goes: its name, and what is wrong, if anything

    consumed: Callable[[str, int], None] = _nobody  # a topic, and how many records
    produced: Callable[[str, int], None] = _nobody
    dead: Callable[[str], None] = _nobody  # the stage
    commit_failed: Callable[[], None] = _nobody

    watched: Callable[[str, str], None] = _nobody  # a kind, and the type of the event
    listed: Callable[[str, str], None] = _nobody  # a kind, and the reason
    published: Callable[[msgspec.Struct], None] = _nobody
    active: Callable[[int | None], None] = _nobody  # the term; None: no more

    judged: Callable[[Sequence[Report], int, float], None] = _nobody  # of how many records, in how many seconds

    folded: Callable[[msgspec.Struct, Sequence[Finding]], None] = _nobody
    spared: Callable[[str, int], None] = _nobody  # what people were not told, and why

    called: Callable[[str, str, str, float], None] = _nobody  # backend, model, outcome, seconds
    spent: Callable[[str, str, Completion, float | None], None] = _nobody  # backend, model, and the dollars
    looked_up: Callable[[bool], None] = _nobody  # an answer, and whether it was there

    delivered: Callable[[str, Sequence[Finding]], None] = _nobody  # the sink
