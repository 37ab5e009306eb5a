"""Whether a process is well, as it says itself."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

BEAT_SECONDS = 5.0
HUNG_SECONDS = 30.0
_BEGINS = "it has only begun"


@dataclass(frozen=True)
class Answer:
    """Whether all is well, and what there is to say of that."""

    well: bool
    body: bytes
    type: str = "text/plain; charset=utf-8"


class Health:
    """Alive is a process whose loop turns, ready one that does its work: once each of these checks has been passed.

    May be asked from another thread.
    """

    def __init__(self, *checks: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat = clock()
        self._wrong = dict.fromkeys(checks, _BEGINS)

    def beat(self) -> None:
        """The loop turns."""
        self._beat = self._clock()

    async def beating(self) -> None:
        """Says so until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_SECONDS)

    def say(self, check: str, wrong: str = "") -> None:
        """What is wrong with that, in a line without secrets; or that nothing is."""
        self._wrong[check] = wrong

    def alive(self) -> Answer:
        """Whether it should go on."""
        silent = self._clock() - self._beat
        if silent > HUNG_SECONDS:
            return Answer(False, f"hung: the loop has not turned for {silent:.0f} s\n".encode())
        return Answer(True, b"ok\n")

    def ready(self) -> Answer:
        """Whether it does its work, as JSON."""
        alive = self.alive()
        wrong = dict(self._wrong)
        if not alive.well:
            wrong["loop"] = alive.body.decode().strip()
        checks = {name: {"ok": not why, "reason": why} if why else {"ok": True} for name, why in wrong.items()}
        well = not any(wrong.values())
        return Answer(well, msgspec.json.encode({"ready": well, "checks": checks}) + b"\n", "application/json")
