"""What was set aside because no one could use it: read where it is kept, and sent where it was to go."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from kubewhy.contracts import State
from kubewhy.errors import ConfigError, Rejected
from kubewhy.events import ALONE, decode, message
from kubewhy.records import DeadLetter, encode
from kubewhy.runtime.fleet.cutting import CUT
from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import appended
from kubewhy.runtime.fleet.reaching import short
from kubewhy.runtime.fleet.remembered import between
from kubewhy.runtime.outbox import DEAD, RETRY, Dead
from kubewhy.topics import DEAD_LETTERS, FINDINGS

SINK = "sink/"  # begins the stage of what a sink refuses


class Kept(NamedTuple):
    """A dead letter, what it is called, and since when it is one, where that is known."""

    id: str
    letter: DeadLetter
    since: datetime | None = None


class Resent(NamedTuple):
    """Where a record goes that is sent again."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


async def on_kafka(kafka: Kafka, stage: str = "", only: str = "") -> AsyncIterator[Kept]:
    """Those of the topic, the oldest first; all of them, of one stage, or the one of that id.

    Raises ConfigError where they cannot be read.
    """
    begin, end = (0, {}) if not only else (offset := _offset(only), {0: offset + 1})
    await _reached(kafka)
    try:
        async for record in between(kafka, DEAD_LETTERS, {0: begin}, end):
            known = f"{record.partition}-{record.offset}"
            if only and known != only:
                continue
            try:
                letter: DeadLetter = decode(DEAD_LETTERS, record.value, record.headers)
            except Rejected:
                continue
            if not stage or letter.stage == stage:
                yield Kept(known, letter, appended(record))
    except KafkaError as error:
        raise ConfigError(f"kafka: the dead letters cannot be read ({short(error)}): try again") from None


def in_state(state: State, stage: str = "", only: str = "") -> Iterator[Kept]:
    """Those of the sinks of one process, which knows no others."""
    for key, row in state.scan(DEAD):
        name, _, position = key.removeprefix(DEAD).rpartition("\x1f")
        known = f"{name}/{int(position, 16):x}"
        if (only and known != only) or (stage and stage != SINK + name):
            continue
        dead = msgspec.json.decode(row, type=Dead)
        told = message(dead.finding)
        yield Kept(
            known,
            DeadLetter(
                stage=SINK + name,
                reason=dead.reason,
                topic="",
                partition=-1,
                offset=-1,
                at=dead.finding.at,
                key=told.key,
                value=encode(dead.finding),
                headers=tuple(told.headers),
            ),
        )


async def retry(kafka: Kafka, letters: Sequence[Kept], sinks: Iterable[str]) -> list[Kept]:
    """Sends them again, and returns once the brokers have them. Those that it gives back were cut, and are no use.

    Raises ConfigError where that is not possible.
    """
    known, useless = set(sinks), [each for each in letters if each.letter.reason.endswith(CUT)]
    sent = [one for each in letters if each not in useless for one in again(kafka, each, known)]
    async with _producing(kafka) as producer:
        try:
            for one in sent:
                await producer.send_and_wait(one.topic, one.value, one.key, one.partition, headers=one.headers)
        except KafkaError as error:
            raise ConfigError(f"kafka: cannot send to {one.topic} ({short(error)}): try again") from None
    return useless


def again(kafka: Kafka, kept: Kept, sinks: Iterable[str]) -> list[Resent]:
    """What is sent for it: the record as it came, for all; or for the one sink that has refused it. Pure."""
    letter = kept.letter
    try:
        topic = kafka.topic(letter.topic)
    except KeyError:
        raise ConfigError(
            f"{kept.id}: it came from {letter.topic}, which is none of our topics; is kafka.prefix another one now?"
        ) from None
    if topic is not FINDINGS:
        return [Resent(letter.topic, letter.partition, letter.key, letter.value, list(letter.headers))]
    name = letter.stage.removeprefix(SINK)
    if name not in sinks:
        raise ConfigError(f"{kept.id}: it is for the sink {name}, which the settings do not name any more")
    # As the newest of its incident it would stand for how that is: so it has a key of its own, emptied at once.
    key = b"\x1f".join((b"again", name.encode(), letter.key or b""))
    headers = [*((name, value) for name, value in letter.headers if name != ALONE), (ALONE, name.encode())]
    return [
        Resent(letter.topic, letter.partition, key, letter.value, headers),
        Resent(letter.topic, letter.partition, key, None, []),
    ]


def retry_in_state(state: State, letters: Iterable[Kept]) -> None:
    """Whoever runs with that state sends them again, within a second or at its next start."""
    rows: dict[str, bytes | None] = {}
    for each in letters:
        name, _, position = each.id.rpartition("/")
        place = f"{name}\x1f{int(position, 16):016x}"
        rows |= {RETRY + place: each.letter.value, DEAD + place: None}
    state.write(rows)


def _offset(known: str) -> int:
    partition, _, offset = known.partition("-")
    if partition != "0" or not offset.isdecimal():
        raise ConfigError(f"{known!r} is no id of a dead letter; `kubewhy dead-letters list` shows them")
    return int(offset)


async def _reached(kafka: Kafka) -> None:
    """Who looks once has no patience."""
    if reason := await kafka.trouble():
        raise ConfigError(f"kafka: {reason}; check kafka.servers")
    await ready(kafka, DEAD_LETTERS)


@asynccontextmanager
async def _producing(kafka: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    producer = kafka.producer()
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()
