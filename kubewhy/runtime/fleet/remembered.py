"""What sinks remember, on Kafka: rows of bytes on a compacted topic. Who takes over a sink reads them first."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, encode
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.outbox import DEAD, OUTBOX, Dead
from kubewhy.runtime.state import MemoryState
from kubewhy.topics import FINDINGS, MEBIBYTE, SINK_STATE, Topic

WRITING_SECONDS = 3.0  # for so long nothing else is done here
_STILL_SECONDS = 0.1  # where that was waited for already
_AFTER = 1.0  # seconds until it is tried again
_CLOSING_SECONDS = 2.0
_APART = "\x1f"
_PLACE = b"@"  # begins a row that only says where the finding stands

Rows = Mapping[str, bytes | None]
Result = TypeVar("Result")


class Place(NamedTuple):
    """Where a finding stands on the topic, and which digest stands for it here."""

    partition: int
    offset: int
    digest: str | None = None

    @property
    def row(self) -> bytes:
        return _PLACE + msgspec.json.encode(self)

    @staticmethod
    def of(row: bytes) -> "Place | None":
        """None where the row holds the finding itself."""
        return msgspec.json.decode(row[1:], type=Place) if row.startswith(_PLACE) else None


class Remembered:
    """A state whose rows are on Kafka before a write returns.

    Of a finding that waits and stands on a topic, only where that is. Raises RetryLater where the brokers do not take
    rows in time: then they count as not written, though they may arrive.
    """

    def __init__(self, keep: Callable[[Rows], object], rows: Mapping[str, bytes], places: Mapping[str, Place]) -> None:
        self._keep, self._memory, self._places = keep, MemoryState(), dict(places)
        self._memory.write(rows)
        self.get, self.scan = self._memory.get, self._memory.scan

    def write(self, rows: Rows) -> None:
        """All or nothing; None deletes."""
        self.write_placed(rows, {})

    def write_placed(self, rows: Rows, places: Mapping[str, Place]) -> None:
        """As `write`, where the findings in those rows stand on the topic."""
        if not rows:
            return
        rows = {key: self._dead(key, row) if row and key.startswith(DEAD) else row for key, row in rows.items()}
        self._keep({key: places[key].row if key in places else row for key, row in rows.items()})
        self._memory.write(rows)
        self._places.update(places)
        for key, row in rows.items():
            if row is None:
                self._places.pop(key, None)

    def places(self) -> Iterator[Place]:
        """Where what waits stands."""
        return iter(self._places.values())

    def _dead(self, key: str, row: bytes) -> bytes:
        place = self._places.get(OUTBOX + key.removeprefix(DEAD))
        dead = msgspec.json.decode(row, type=Dead)
        if not place:
            return row
        return msgspec.json.encode(msgspec.structs.replace(dead, partition=place.partition, offset=place.offset))


class Writer:
    """Appends rows from a thread of its own, so that whoever writes can wait for them without giving way."""

    def __init__(self, kafka: Kafka, sink: str) -> None:
        self._kafka, self._sink = kafka, sink
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"state-of-{sink}", daemon=True)
        self._producer: AIOKafkaProducer | None = None
        self._late: Future[datetime] | None = None  # has not arrived in time, and still may
        self._thread.start()

    def write(self, lane: str, rows: Rows) -> datetime:
        """Returns when the brokers have them, and when that was by their clock. All of them arrive, or none."""
        try:
            if self._late:
                self._late.result(_STILL_SECONDS)
            self._late = self._begin(self._append(lane, rows))
            return self._late.result(WRITING_SECONDS)
        except (KafkaError, OSError) as error:  # as TimeoutError is
            told = "in time" if isinstance(error, TimeoutError) else f"({type(error).__name__})"
            raise RetryLater(f"Kafka does not take what is to be remembered {told}", _AFTER) from None
        finally:
            if self._late and self._late.done():
                self._late = None

    async def close(self) -> None:
        """Nothing is written any more, neither what is late."""
        with suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await asyncio.wrap_future(self._begin(self._stop()))
        self._begin(self._end())
        await asyncio.to_thread(self._thread.join, _CLOSING_SECONDS)

    def _begin(self, work: "Coroutine[Any, Any, Result]") -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _append(self, lane: str, rows: Rows) -> datetime:
        producer = self._producer = self._producer or await self._started()
        batch = producer.create_batch()
        for row, value in rows.items():
            key = _APART.join((self._sink, lane, row)).encode()
            if batch.append(key=key, value=value, timestamp=None) is None:
                raise Rejected("it is too large to be remembered on Kafka")
        try:
            sent = await (await producer.send_batch(batch, self._kafka.name(SINK_STATE), partition=0))
        except MessageSizeTooLargeError:
            raise Rejected("it is too large to be remembered on Kafka") from None
        except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
            raise ConfigError(
                f"kafka: we are not permitted to write to topic {self._kafka.name(SINK_STATE)}: grant it to the user "
                "of kafka.sasl"
            ) from None
        except KafkaError:
            await self._stop()  # one that has failed may never work again
            raise
        return datetime.fromtimestamp(sent.timestamp / 1000, UTC)

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._kafka.options,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=2 * MEBIBYTE,
            max_request_size=2 * MEBIBYTE,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            await producer.stop()

    async def _end(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        self._loop.call_soon(self._loop.stop)


async def recall(kafka: Kafka, sink: str) -> dict[str, dict[str, bytes]]:
    """The rows of that sink, by its lanes. Raises KafkaError where they cannot be read now."""
    prefix, lanes = f"{sink}{_APART}".encode(), dict[str, dict[str, bytes]]()
    async for record in between(kafka, SINK_STATE, {0: 0}):
        if not record.key.startswith(prefix):
            continue
        _, lane, row = record.key.decode().split(_APART, 2)
        rows = lanes.setdefault(lane, {})
        if record.value is None:
            rows.pop(row, None)
        else:
            rows[row] = record.value
    return lanes


async def restored(
    kafka: Kafka, rows: Mapping[str, bytes], places: Mapping[str, Place]
) -> tuple[dict[str, bytes], dict[str, Place]]:
    """The rows with the findings themselves, and where these stand. Of what is no more on the topic, nothing is left.

    Raises KafkaError where they cannot be read now.
    """
    wanted: dict[tuple[int, int], list[str]] = {}
    begin, end = dict[int, int](), dict[int, int]()
    for key, (partition, offset, _) in places.items():
        wanted.setdefault((partition, offset), []).append(key)
        begin[partition] = min(offset, begin.get(partition, offset))
        end[partition] = max(offset + 1, end.get(partition, 0))
    found: dict[str, bytes] = {}
    async for record in between(kafka, FINDINGS, begin, end):
        for key in wanted.get((record.partition, record.offset), ()):
            found[key] = _marked(record.value, places[key].digest)
    plain = {key: row for key, row in rows.items() if key not in places}
    return plain | found, {key: places[key] for key in found}


def placed(rows: Mapping[str, bytes]) -> dict[str, Place]:
    """Those that only say where the finding stands."""
    return {key: place for key, row in rows.items() if key.startswith(OUTBOX) and (place := Place.of(row))}


def _marked(value: bytes, digest: str | None) -> bytes:
    if not digest:
        return value
    return encode(msgspec.structs.replace(msgspec.json.decode(value, type=Finding), digest=digest))


async def between(
    kafka: Kafka, topic: Topic, begin: Mapping[int, int], end: Mapping[int, int] = {}
) -> AsyncIterator[Any]:
    """What stands on these partitions from there on, up to there or to how far it is now."""
    if not begin:
        return
    consumer = kafka.consumer()
    await consumer.start()
    try:
        parts = {TopicPartition(kafka.name(topic), partition): offset for partition, offset in begin.items()}
        consumer.assign(list(parts))
        ends = await consumer.end_offsets(list(parts))
        for part, offset in parts.items():
            consumer.seek(part, offset)
            ends[part] = min(ends[part], end.get(part.partition, ends[part]))
        left = {part for part in parts if parts[part] < ends[part]}
        while left:
            for part, records in (await consumer.getmany(*left, timeout_ms=500, max_records=5000)).items():
                for record in records:
                    if record.offset < ends[part]:
                        yield record
            left = {part for part in left if await consumer.position(part) < ends[part]}
    finally:
        await consumer.stop()
