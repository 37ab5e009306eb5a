"""Prints each finding: as one line of JSON, unless told otherwise."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO

from kubewhy.records import Finding, encode


def render(finding: Finding) -> bytes:
    """One line. Pure, so the golden files in tests/golden/ pin the wire format."""
    return encode(finding) + b"\n"


class StdoutSink:
    """Writes to one stream. Once nobody reads it any more, `on_closed` is called and the rest goes nowhere."""

    def __init__(
        self,
        out: BinaryIO,
        on_closed: Callable[[], None] = lambda: None,
        render: Callable[[Finding], bytes] = render,
    ) -> None:
        self._out = out
        self._on_closed = on_closed
        self._render = render
        self._closed = False

    async def send(self, findings: Sequence[Finding]) -> None:
        """Returns when all are written, which a slow reader may delay."""
        if self._closed:
            return
        try:
            await asyncio.to_thread(self._write, b"".join(map(self._render, findings)))
        except BrokenPipeError:
            self._closed = True
            self._drain()
            self._on_closed()

    def _write(self, lines: bytes) -> None:
        self._out.write(lines)
        self._out.flush()

    def _drain(self) -> None:
        # What is still buffered would raise again when the interpreter flushes at its end:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._out.fileno())
        os.close(nowhere)
