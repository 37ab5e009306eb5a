"""Partitions that are ours: their records through a fold; what comes of each is told, then kept, and then done."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from kubewhy.errors import Rejected
from kubewhy.events import Message
from kubewhy.runtime.fleet.publishing import dead
from kubewhy.runtime.fleet.rows import Mark, Rows
from kubewhy.topics import INCIDENTS

log = logging.getLogger(__name__)

_STAGE = "explainer"
_AT_ONCE = 1000  # records whose rows are written together
_WAITING = 4000  # records with something to tell or to keep; beyond that no further one is taken
_LARGEST = INCIDENTS.largest - 4096  # bytes of a row and its key


class Arrived(NamedTuple):
    """A record of the topic, and when the broker had it."""

    partition: int
    offset: int
    at: datetime
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Folded(NamedTuple):
    """What comes of a record. The messages have arrived before the rows are kept; None deletes a row."""

    messages: Sequence[Message] = ()
    rows: Mapping[str, bytes | None] = {}


class Fold(Protocol):
    """Goes from record to record of each partition, and remembers what it must in rows."""

    def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
        """It is ours from now on, as those rows say: they take the place of all that was known of it."""
        ...

    def end(self, partition: int) -> None:
        """It went elsewhere."""
        ...

    def feed(self, record: Arrived) -> Folded:
        """What comes of it. Raises Rejected for what is none."""
        ...

    def turn(self, partition: int) -> Sequence[Message]:
        """Once a second for each partition that is ours: what is to be sent, that time has passed among it."""
        ...


class LostPlace(Exception):
    """It has to begin again from what the brokers have: what is here is not all there is."""


class _Item(NamedTuple):
    offset: int
    mark: Mark
    messages: Sequence[Message]
    rows: Mapping[str, bytes | None]


class _Place:
    """One partition as long as it is ours. Everything before `done` is told and kept; `next` is what comes next."""

    def __init__(self, partition: int, rows: Rows, first: int) -> None:
        self.partition, self.rows = partition, rows
        self.next = self.done = first
        self.mark = rows.mark  # of what was written here
        self.waiting: list[_Item] = []
        self.work: asyncio.Task[None] | None = None


Send = Callable[[Iterable[Message]], Awaitable[None]]
Put = Callable[[int, Sequence[tuple[bytes, bytes | None]]], Awaitable[int]]


class Keeping:
    """All partitions that are ours. `send` and `put` return when the broker has it; `put` tells the last one's offset.

    What ends all this is the exception of `failed`.
    """

    def __init__(self, what: Fold, send: Send, put: Put) -> None:
        self._what, self._send, self._put = what, send, put
        self._places: dict[int, _Place] = {}
        self._waiting = 0
        self._room = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, partition: int, rows: Rows, first: int) -> None:
        """It is ours, and the first record is that of this offset. Raises ConfigError.

        Where nobody else had it meanwhile, as the rows and the offset show, it goes on as it is.
        """
        place = self._places.get(partition)
        amends = rows.amends()
        same = place and not place.work and place.rows is rows and (place.mark, place.next) == (rows.mark, first)
        if same and not amends:
            return
        self._drop(partition)
        self._what.begin(partition, rows.rows.items())
        place = self._places[partition] = _Place(partition, rows, first)
        if amends:
            self._work(place, _Item(first - 1, rows.mark, (), amends))

    def end(self, partition: int) -> None:
        """It is ours no more: nothing is written of it from now on."""
        if self._drop(partition):
            self._what.end(partition)

    def _drop(self, partition: int) -> bool:
        place = self._places.pop(partition, None)
        if place is None:
            return False
        self._waiting -= len(place.waiting)
        if place.work:
            place.work.cancel()
        return True

    @property
    def partitions(self) -> list[int]:
        return sorted(self._places)

    @property
    def full(self) -> bool:
        """Whether there is so much to tell and to keep that nothing more should be fed for now."""
        return self._waiting >= _WAITING

    async def room(self) -> None:
        """Returns when that has passed."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def feed(self, record: Any) -> None:
        """One of a consumer's records, which has a partition, offset, timestamp in ms, key, value and headers.

        What is not ours, or was fed before, is passed over. Raises LostPlace where some were lost on the way to here.
        """
        place = self._places.get(record.partition)
        if place is None:
            return
        offset = record.offset
        if offset != place.next:
            if offset < place.next:
                return
            raise LostPlace(f"record {offset} of partition {record.partition} came where {place.next} should have")
        place.next = offset + 1
        if not place.rows.mark.covers(offset, record.timestamp):
            messages, rows = self._fold(record)
            if messages or rows:
                self._work(place, _Item(offset, Mark(offset + 1, record.timestamp), messages, rows))
        if not place.work:
            place.done = place.next

    def _work(self, place: _Place, item: _Item) -> None:
        place.waiting.append(item)
        self._waiting += 1
        if not place.work:
            place.work = asyncio.create_task(self._settle(place))

    def _fold(self, record: Any) -> Folded:
        try:
            at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            told = Arrived(record.partition, record.offset, at, record.key, record.value, record.headers)
            messages, rows = self._what.feed(told)
        except Rejected as error:
            return Folded([dead(_STAGE, str(error), record)])
        except Exception as error:  # noqa: BLE001 - whatever it is, the next record is not to suffer
            return Folded([self._bug(record, f"the explainer raised {type(error).__name__}")])
        if any(row and len(row) > _LARGEST for row in rows.values()):
            large = [name for name, row in rows.items() if row and len(row) > _LARGEST]
            dropped = self._bug(record, f"what is to be kept of it is too large: {', '.join(large)}")
            rows = {name: row for name, row in rows.items() if name not in large}
            return Folded([*messages, dropped], rows)
        return Folded(messages, rows)

    def _bug(self, record: Any, reason: str) -> Message:
        log.error(
            "record %d of partition %d is set aside as a dead letter, for %s; this is a bug in kubewhy",
            record.offset,
            record.partition,
            reason,
        )
        return dead(_STAGE, f"{reason}: this is a bug in kubewhy", record)

    async def _settle(self, place: _Place) -> None:
        try:
            while place.waiting:
                batch = place.waiting[:_AT_ONCE]
                await self._tell_and_keep(place, batch)
                del place.waiting[: len(batch)]
                self._waiting -= len(batch)
                place.done = batch[-1].offset + 1
                self._room.set()
            place.done = place.next
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever waits for it
            self.fail(error)
        finally:
            place.work = None
            self._room.set()

    async def _tell_and_keep(self, place: _Place, batch: Sequence[_Item]) -> None:
        messages = [message for item in batch for message in item.messages]
        if messages:
            await self._send(messages)
        rows: dict[str, bytes | None] = {}
        for item in batch:
            rows.update(item.rows)
        if rows:
            mark = batch[-1].mark
            offset = await self._put(place.partition, place.rows.records(rows, mark))
            place.mark = mark
            if not place.rows.wrote(rows, mark, offset):
                raise LostPlace(f"another worker, which had lost partition {place.partition}, still wrote rows of it")

    def busy(self, partition: int) -> bool:
        """Whether something of it is at work."""
        place = self._places.get(partition)
        return place is not None and place.work is not None

    def positions(self) -> dict[int, int]:
        """What comes next in each partition."""
        return {place.partition: place.next for place in self._places.values()}

    def done(self) -> dict[int, int]:
        """Up to where each partition may be committed."""
        return {place.partition: place.done for place in self._places.values()}

    async def drain(self, seconds: float) -> None:
        """Brings to an end what is at work. What takes longer is given up, and done again by whoever is next."""
        work = [place.work for place in self._places.values() if place.work]
        if work:
            await asyncio.wait(work, timeout=seconds)
        for place in list(self._places.values()):
            if place.work:
                log.info("what is at work in partition %d did not end in time; it is done again", place.partition)
                self.end(place.partition)

    def turn(self) -> list[Message]:
        """What is to be sent because time passes. Raises nothing."""
        told: list[Message] = []
        for partition in self.partitions:
            try:
                told += self._what.turn(partition)
            except Exception as error:  # noqa: BLE001 - the other partitions have their turn
                log.error(
                    "partition %d missed its turn: this is a bug in kubewhy (%s)", partition, type(error).__name__
                )
        return told

    def fail(self, error: Exception) -> None:
        """Gives everything up: `failed` has the reason."""
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # or Python would say that nobody asked for it, where nobody does
        for partition in self.partitions:
            self.end(partition)
