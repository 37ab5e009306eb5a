"""A mail server that takes every letter: as much of RFC 5321 as that needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage


class Mail:
    """`letters` is what came."""

    def __init__(self) -> None:
        self.port = 0
        self.letters: list[EmailMessage] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            match line.split()[0].upper():
                case b"EHLO":
                    writer.write(b"250-here\r\n250 AUTH PLAIN\r\n")
                case b"AUTH":
                    writer.write(b"235 known\r\n")
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    told = await reader.readuntil(b"\r\n.\r\n")
                    message = message_from_bytes(told[:-5], policy=policy.default)
                    assert isinstance(message, EmailMessage)
                    self.letters.append(message)
                    writer.write(b"250 taken\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 fine\r\n")
        writer.close()


@asynccontextmanager
async def mail() -> AsyncIterator[Mail]:
    """A server on a port of its own."""
    there = Mail()
    async with await asyncio.start_server(there.answer, "127.0.0.1", 0) as server:
        there.port = server.sockets[0].getsockname()[1]
        yield there
