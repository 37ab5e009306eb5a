"""Open incidents as a table, which stays up to date beneath the lines of what happens."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kubewhy.cli.text import COLOUR, age
from kubewhy.cli.told import lines
from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.plain import clean
from kubewhy.records import IncidentView

# Lines of a terminal that the table leaves to what happens.
_LEFT = 8


def table(incidents: Iterable[IncidentView], now: datetime, most: int = 1000) -> RenderableType:
    """The worst first, then those that opened last; what is silenced or over comes after. Pure."""
    known = sorted(incidents, key=lambda each: each.opened_at, reverse=True)
    known.sort(key=lambda each: (each.state != "open", each.silenced, -each.severity.rank))
    if not known:
        return Text("All is well, as far as can be seen.", style="green")
    shown = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading, width in (("SEVERITY", 8), ("STATE", 10), ("SINCE", 5), ("OBJECTS", 7), ("INCIDENT", 10)):
        justify: Literal["left", "right"] = "right" if heading in ("SINCE", "OBJECTS") else "left"
        shown.add_column(heading, no_wrap=True, min_width=width, justify=justify)
    for each in known[:most]:
        over = each.state != "open" or each.silenced
        shown.add_row(
            Text(each.severity.upper(), style="dim" if over else COLOUR[each.severity]),
            Text(each.resolution or ("silenced" if each.silenced else "open"), style="dim" if over else ""),
            Text(age(each.opened_at, max(now, each.opened_at)), style="dim" if over else ""),
            Text(str(each.member_count), style="dim" if over else ""),
            Text(clean(each.title), style="dim" if over else "", overflow="ellipsis"),
        )
    if len(known) > most:
        shown.add_row("", "", "", "", Text(f"and {len(known) - most} more", style="dim"))
    return shown


class Board:
    """A sink for a terminal: prints what happens, and keeps the table beneath it. An asynchronous context manager."""

    manner = Manner(at_most=1000, worst_first=False)

    def __init__(self, console: Console, incidents: Callable[[], Iterable[IncidentView]]) -> None:
        self._console, self._incidents = console, incidents
        self._live = Live(console=console, auto_refresh=False, transient=True)

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Prints each at once."""
        for letter in letters:
            for line in lines(letter.finding):
                self._console.print(line, soft_wrap=True, highlight=False)
        self._draw()

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """The terminal is not ours."""

    async def __aenter__(self) -> "Board":
        self._live.start()
        self._task = asyncio.create_task(self._keep_up())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        self._live.stop()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._draw()

    def _draw(self) -> None:
        most = max(self._console.height - _LEFT, 3)
        self._live.update(table(self._incidents(), datetime.now(UTC), most), refresh=True)
