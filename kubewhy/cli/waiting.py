"""How the waiting for a cluster to settle goes, and why it ended: one line each, on stderr."""

import shutil
import sys
import time
from collections.abc import Sequence

import click

from kubewhy.cli.report import Document, Name
from kubewhy.cli.rules import hold
from kubewhy.plain import clean
from kubewhy.runtime.settling import Awaited, Ending, Waited

_CLEAR = "\r\x1b[K"


class Progress:
    """One line on a terminal that says what is waited for, and is gone at the end; elsewhere nothing."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()

    def show(self, awaited: Sequence[Awaited]) -> None:
        if self._shown:
            words = f"{time.monotonic() - self._began:.0f} s: {_first(awaited)}"
            room = shutil.get_terminal_size().columns - 1
            click.echo(f"{_CLEAR}{words[:room]}", nl=False, err=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)


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
