"""How the waiting for a cluster to settle goes, and why it ended: one line each, on stderr."""

import time
from collections.abc import Sequence

from kubewhy.cli.line import Line
from kubewhy.cli.report import Document, Name
from kubewhy.cli.rules import hold
from kubewhy.plain import clean
from kubewhy.runtime.settling import Awaited, Ending, Waited


class Progress(Line):
    """Says what is waited for, and for how long already."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def show(self, awaited: Sequence[Awaited]) -> None:
        self.say(f"{time.monotonic() - self._began:.0f} s: {_first(awaited)}")


def told(waited: Waited, document: Document, limit: float) -> str:
    """Why it ended."""
    after = hold(round(waited.seconds)) if waited.seconds >= 1 else "less than 1s"
    if waited.ending is Ending.SETTLED:
        return f"settled after {after}"
    if waited.ending is Ending.FIRED:
        fired = {Name.of(ref) for ref in waited.fired}
        worst, *rest = (each for each in document.incidents if not fired.isdisjoint(each.members))
        more = len(rest)
        others = f" and {more} more" if more else ""
        return f"fired after {after}: {worst.severity}, {clean(worst.title)}{others}"
    return f"still not settled after {hold(limit) if limit >= 1 else after}: {_first(waited.awaited)}"


def _first(awaited: Sequence[Awaited]) -> str:
    if not awaited:
        return "there is nothing in scope yet"
    more = len(awaited) - 1
    return clean(str(awaited[0])) + (f" (and {more} more)" if more else "")
