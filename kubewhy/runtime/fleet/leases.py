"""Whose turn it is: a worker whose place another may have taken gives nothing to a sink, and remembers nothing."""

import time
from collections.abc import Sequence

from kubewhy.contracts import Letter, Manner, Memo, Sink
from kubewhy.errors import RetryLater

_AFTER = 1.0  # seconds until it is asked again
# It goes on while the machine sleeps, where there is such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def moment() -> float:
    """Now, by the clock of leases."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Until when no other member of the group can have taken our place."""

    def __init__(self, session: float, since: float) -> None:
        self._session = session
        self.renew(since)

    def renew(self, since: float) -> None:
        """The group has said at that time or later that it is our turn."""
        self._until = since + self._session

    @property
    def is_over(self) -> bool:
        """Whether one may have: after we stood still, or lost touch with the group."""
        return moment() >= self._until

    def check(self) -> None:
        """Raises RetryLater where it is over."""
        if self.is_over:
            raise RetryLater("Kafka has not said of late that it is our turn", _AFTER)


class Held:
    """A sink that is given nothing when it may not be our turn any more."""

    def __init__(self, sink: Sink, lease: Lease) -> None:
        self._sink, self._lease = sink, lease

    @property
    def manner(self) -> Manner:
        return self._sink.manner

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """As the sink does."""
        self._lease.check()
        await self._sink.send(letters, memo)

    async def spare(self, memo: Memo) -> bool:
        """As the sink does."""
        self._lease.check()
        return await self._sink.spare(memo)

    async def close(self) -> None:
        """It goes on in the next shift."""
