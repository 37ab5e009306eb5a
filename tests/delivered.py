"""What sinks of a test are given, by the real delivery."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kubewhy.contracts import Analyzer, Collector, Letter, Manner, Memo, Sink, State
from kubewhy.records import Finding
from kubewhy.runtime import embedded, replaying
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.routing import Router
from kubewhy.runtime.state import MemoryState
from kubewhy.settings import Settings

# One sink that is told everything.
PLAIN = Settings.model_validate({"sinks": [{"type": "stdout", "silenced": True}]})


class Kept:
    """A sink that keeps what it is sent."""

    def __init__(self, manner: Manner | None = None) -> None:
        self.manner = manner or Manner(at_most=1000, worst_first=False)
        self.letters: list[Letter] = []
        self.closed = False

    @property
    def findings(self) -> list[Finding]:
        return [letter.finding for letter in self.letters]

    @property
    def told(self) -> list[str]:
        return [letter.finding.id for letter in self.letters]

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        self.letters += letters

    async def spare(self, memo: Memo) -> bool:
        return False

    async def close(self) -> None:
        self.closed = True


class Memory:
    """What a sink remembers, for as long as the test."""

    def __init__(self) -> None:
        self._state = MemoryState()
        self.get, self.scan = self._state.get, self._state.scan

    def put(self, key: str, value: bytes | None) -> None:
        self._state.write({key: value})

    def items(self) -> Iterator[tuple[str, bytes]]:
        return self.scan()


def letters(findings: Sequence[Finding], begin: int = 1) -> list[Letter]:
    """On their way, in that order."""
    return [Letter(position, finding) for position, finding in enumerate(findings, begin)]


def _sinks(sinks: Sink | Mapping[str, Sink]) -> Mapping[str, Sink]:
    return sinks if isinstance(sinks, Mapping) else {"stdout": sinks}


async def watch(
    collector: Collector,
    analyzers: Sequence[Analyzer[Any]],
    sinks: Sink | Mapping[str, Sink],
    clock: Callable[[], datetime],
    *,
    state: State | None = None,
    router: Router | None = None,
    **more: Any,
) -> None:
    """One sink is called as that of the settings without any."""
    delivery = Delivery(_sinks(sinks), state or MemoryState())
    await embedded.watch(collector, analyzers, delivery, router or Router(PLAIN), clock, state=state, **more)


async def replay(
    path: Path,
    analyzers: Sequence[Analyzer[Any]],
    sinks: Sink | Mapping[str, Sink],
    namespaces: tuple[str, ...] = (),
    *,
    router: Router | None = None,
    **more: Any,
) -> None:
    """As `watch`, for a recording."""
    delivery = Delivery(_sinks(sinks), MemoryState())
    await replaying.replay(path, analyzers, delivery, router or Router(PLAIN), namespaces, **more)
