"""How long work goes: one line on a terminal, which is gone at the end."""

import shutil
import sys
from typing import Self

import click

_CLEAR = "\r\x1b[K"


class Line:
    """On stderr, where that is a terminal; elsewhere nothing. A context manager."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def say(self, words: str) -> None:
        """In place of what was said before."""
        if self._shown:
            click.echo(f"{_CLEAR}{words[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)
