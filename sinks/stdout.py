"""Prints each finding: as one line of JSON, unless told otherwise."""

import asyncio
import select
from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO

import msgspec

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import RetryLater
from kubewhy.records import Finding, encode
from sinks.apart import apart


def render(finding: Finding) -> bytes:
    """One line. Pure, so the golden files in tests/golden/ pin the wire format."""
    return printable(encode(finding)) + b"\n"


def printable(document: bytes) -> bytes:
    """The same JSON, where what could steer a terminal is escaped: controls of all sorts, and what turns text round."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return "".join(char if char.isprintable() else _escaped(char) for char in document.decode()).encode()


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


# What could not be written waits for another process: this one is about to end.
_MUCH_LATER = 300.0


def pretty(told: object) -> str:
    """JSON in lines, as a terminal may show them."""
    lines = msgspec.json.format(msgspec.json.encode(told), indent=2).splitlines()
    return "\n".join(printable(line).decode() for line in lines)


class StdoutSink:
    """Writes to one unbuffered stream. Once that cannot be written to any more, `on_closed` is told why, once."""

    manner = Manner(at_most=1000, worst_first=False)

    def __init__(
        self,
        out: BinaryIO,
        on_closed: Callable[[OSError], None] = lambda error: None,
        render: Callable[[Finding], bytes] = render,
    ) -> None:
        self._out = out
        self._on_closed = on_closed
        self._render = render
        self._closed = False
        self._writing = asyncio.Lock()

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns when all are written, which a slow reader may delay."""
        async with self._writing:
            if not self._closed:
                try:
                    # A terminal that is closed may tell so already where lines are made to its measure.
                    lines = b"".join(self._render(letter.finding) for letter in letters)
                    return await apart(partial(self._write, lines))
                except OSError as error:
                    self._closed = True
                    self._on_closed(error)
        raise RetryLater("standard output is closed", _MUCH_LATER)

    def preview(self, finding: Finding) -> str:
        """The line, or the lines."""
        return self._render(finding).decode(errors="replace").rstrip("\n")

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """The stream is not ours."""

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            written = self._out.write(rest)
            if written is None:  # whoever shares the stream with us has made it non-blocking
                select.select([], [self._out], [])
            else:
                rest = rest[written:]
