"""The silences of a fleet, as people add and expire them: read from their topic, changed, and written back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kubewhy.errors import ConfigError, Rejected
from kubewhy.events import Message, decode, message
from kubewhy.records import SilenceChange, encode
from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.tailing import Tail, until_now
from kubewhy.runtime.silencing import SILENCE, read
from kubewhy.runtime.state import MemoryState
from kubewhy.topics import SILENCES

_SECONDS = 30.0
Result = TypeVar("Result")


@contextmanager
def opened(kafka: Kafka) -> Iterator[MemoryState]:
    """All silences there are, as rows. What was changed in them is written at the end."""
    rows = asyncio.run(_in_time(lambda: _read(kafka)))
    state = MemoryState()
    state.write(dict(rows))
    yield state
    after = dict(state.scan(SILENCE))
    changed: list[Message] = [_told(key, after.get(key)) for key in rows | after if rows.get(key) != after.get(key)]
    if changed:
        asyncio.run(_in_time(lambda: _write(kafka, changed)))


async def _read(kafka: Kafka) -> dict[str, bytes]:
    if reason := await kafka.trouble():
        raise ConfigError(f"kafka: {reason}; check kafka.servers")
    await ready(kafka, SILENCES)
    rows: dict[str, bytes] = {}
    for record in await until_now(Tail(kafka, SILENCES)):
        key = SILENCE + (record.key or b"").decode(errors="replace")
        change = _change(record)
        if change and change.silence:
            rows[key] = encode(change.silence)
        else:
            rows.pop(key, None)
    return rows


async def _write(kafka: Kafka, changed: list[Message]) -> None:
    async with kafka.producer() as producer:
        await Publisher(kafka, producer).send(changed)


async def _in_time(work: Callable[[], Awaitable[Result]]) -> Result:
    try:
        async with asyncio.timeout(_SECONDS):
            return await work()
    except TimeoutError:
        raise ConfigError(f"kafka: took longer than {_SECONDS:.0f} s; try again when the brokers answer") from None


def _change(record: Any) -> SilenceChange | None:
    try:
        change: SilenceChange | None = decode(SILENCES, record.value, record.headers) if record.value else None
    except Rejected:
        return None
    return change


def _told(key: str, row: bytes | None) -> Message:
    known = key.removeprefix(SILENCE)
    if row is None:
        return Message(SILENCES, known.encode(), None, [])
    return message(SilenceChange(id=known, silence=read(row)), topic=SILENCES)
