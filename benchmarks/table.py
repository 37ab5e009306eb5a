"""What was measured, as a table that people read and documents quote."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADINGS = ("Stage", "Figure", "Measured against", "Limit", "Met")


@dataclass(frozen=True)
class Row:
    """`against` names what the figure is compared with, and how it compares. `met` is None where nothing is asked."""

    stage: str
    figure: str
    against: str = ""
    limit: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        verdict = {None: "", True: "yes", False: "NO"}[self.met]
        return (self.stage, self.figure, self.against, self.limit, verdict)


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown, with columns that line up."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    head, *body = (_line(line, widths) for line in lines)
    return "\n".join([head, _line(["-" * width for width in widths], widths), *body])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def at_most(stage: str, figure: str, ratio: float, peer: str, limit: float) -> Row:
    """Something that may cost so many times what its peer does."""
    return Row(stage, figure, f"{ratio:.1f} x {peer}", f"at most {limit:g} x", ratio <= limit)


def memory(stage: str, mebibytes: float, limit: float) -> Row:
    """A largest resident set, in MiB."""
    share = mebibytes / limit
    return Row(stage, f"{mebibytes:.0f} MiB", f"{share:.2f} of the limit", f"at most {limit:.0f} MiB", share <= 1)


def at_least(stage: str, per_second: float, ratio: float, peer: str, limit: float) -> Row:
    """Something that must be done so often a second, on one core."""
    met = per_second >= limit
    return Row(stage, f"{per_second:,.0f} a second", f"{ratio:.1f} x {peer}", f"at least {limit:,.0f} a second", met)
