"""One lane to a sink: what of some partitions is for it, from the topic into its queue and from there to the sink.

What was read, who was told of what, and what waits are remembered together, or nothing of it is. So each finding is
routed once, and what waits is just what has not been settled.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from kubewhy.contracts import Sink
from kubewhy.events import Message, message
from kubewhy.records import DeadLetter, Finding, encode
from kubewhy.runtime.courier import Counts, Courier
from kubewhy.runtime.fleet.remembered import Place, Remembered
from kubewhy.runtime.outbox import DEAD, Dead
from kubewhy.runtime.routing import Router
from kubewhy.settings import Settings

READ = "read\x1f"  # begins the keys of the rows that say up to where a partition has been read
MOST = 2000  # letters that wait here; the others wait on the topic
_LEAST = 500  # of one of many lanes
_RESTING_SECONDS = 10.0


class Lane:
    """Takes in what is read of its partitions. `begin` is from where on each has yet to be read."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        settings: Settings,
        state: Remembered,
        begin: Mapping[int, int],
        say: Callable[[str, Counts], None],
        took: Callable[[Sequence[Finding]], None] = lambda findings: None,
    ) -> None:
        self._name, self._state = name, state
        self._router = Router(only(settings, name))
        self._router.restore(state)
        self._courier = Courier(name, sink, state, say, took)
        # The worst are found among those that wait here; what several share has many lanes.
        self._most = max(_LEAST, 2 * sink.manner.at_most) if sink.manner.shared else MOST
        self._read, self._posted = dict(begin), dict(begin)
        self._rows: dict[str, bytes | None] = {}  # not yet written
        self._places: dict[str, Place] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Delivers from now on."""
        self._running = asyncio.create_task(self._courier.run())

    async def rest(self) -> None:
        """Ends what is under way, and begins nothing more."""
        if self._running:
            await self._courier.rest(self._running, _RESTING_SECONDS)
            if self._running.done() and not self._running.cancelled():
                self._running.exception()  # it is looked at, or the loop complains

    def check(self) -> None:
        """Raises what it has ended with, if it has."""
        if self._running and self._running.done() and not self._running.cancelled():
            self._running.result()

    def counts(self) -> Counts:
        """How it goes."""
        return self._courier.counts()

    def feed(self, partition: int, offset: int, finding: Finding | None, *, alone: bool = False) -> None:
        """The next that stands on a partition: what is none, or a finding, which may be for this sink `alone`."""
        self._read[partition] = offset + 1
        if not finding:
            return
        shares = [(self._name, finding)] if alone else list(self._router.shares(finding))
        routed = self._router.rows()
        for _, share in shares:
            stamped = self._courier.stamp(share)
            self._rows |= stamped
            if share.id == finding.id:
                self._places[next(iter(stamped))] = Place(partition, offset, share.digest)
        self._rows |= routed
        if shares or routed:
            self._rows[f"{READ}{partition}"] = str(offset + 1).encode()

    def tick(self, now: datetime) -> None:
        """It is so late. Raises as `post`."""
        self._courier.tick(now)
        for digest in self._router.tick(now):
            self._rows |= self._courier.stamp(digest)
        self._rows |= self._router.rows()
        self.post()

    def post(self) -> None:
        """What was fed waits for the sink. Raises RetryLater where that cannot be remembered now."""
        self._state.write_placed(self._rows, self._places)
        self._rows, self._places, self._posted = {}, {}, dict(self._read)
        self._courier.go()

    @property
    def begins(self) -> Mapping[int, int]:
        """From where on each of its partitions has yet to be read."""
        return self._read

    @property
    def is_full(self) -> bool:
        """Whether no more is to be read."""
        return self.counts().waiting >= self._most

    @property
    def has_room(self) -> bool:
        """Whether reading may go on."""
        return self.counts().waiting <= self._most // 2

    def offsets(self) -> dict[int, int]:
        """Up to where all is settled, of each partition."""
        settled = dict(self._posted)
        for place in self._state.places():
            settled[place.partition] = min(place.offset, settled.get(place.partition, place.offset))
        return settled

    def dead(self, topic: str) -> dict[str, Message]:
        """What was refused for good, as it goes to where such things are kept, by the rows that are to be forgotten."""
        return {key: _letter(self._name, topic, row) for key, row in self._state.scan(DEAD)}

    def buried(self, keys: Iterable[str]) -> None:
        """These are there."""
        self._state.write(dict.fromkeys(keys))


def only(settings: Settings, name: str) -> Settings:
    """The settings as far as they are about that sink."""
    sinks = tuple(sink for sink in settings.sinks if sink.called == name)
    routes = tuple(route.model_copy(update={"sinks": (name,)}) for route in settings.routes if name in route.sinks)
    return settings.model_copy(update={"sinks": sinks, "routes": routes})


def _letter(name: str, topic: str, row: bytes) -> Message:
    dead = msgspec.json.decode(row, type=Dead)
    told = message(dead.finding)
    return message(
        DeadLetter(
            stage=f"sink/{name}",
            reason=dead.reason,
            topic=topic,
            partition=dead.partition,
            offset=dead.offset,
            at=dead.finding.at,
            key=told.key,
            value=encode(dead.finding),
            headers=tuple(told.headers),
        )
    )
