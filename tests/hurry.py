"""Time that passes as fast as it goes: hours of waiting take no longer than what happens in them."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")
_LONGEST_SECONDS = 7200
# What is on its way between two sockets of this process is there after a moment, a longer one on a busy machine. Where
# the next timer is far away it is most likely what limits the waiting for just that.
_MOMENT, _LONG_MOMENT, _FAR = 0.001, 0.1, 2.0


class _Selector(selectors.DefaultSelector):
    """Where nothing is ready, the loop's time is moved on to its next timer."""

    ahead = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        moment = _LONG_MOMENT if timeout and timeout > _FAR else _MOMENT
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(min(timeout, moment) if timeout else timeout)
        if not ready and timeout:
            self.ahead += timeout
        return ready


class HurriedLoop(asyncio.SelectorEventLoop):
    """Its clock begins at 0, so that what depends on the time of day is the same in every run."""

    def __init__(self) -> None:
        self._clock = _Selector()
        self._clock.ahead -= super().time()
        super().__init__(self._clock)

    def time(self) -> float:
        return super().time() + self._clock.ahead


def hurried(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async test whose waiting takes no time. One that waits for ever fails."""

    async def limited(*args: P.args, **kwargs: P.kwargs) -> None:
        async with asyncio.timeout(_LONGEST_SECONDS):
            await test(*args, **kwargs)

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=HurriedLoop) as runner:
            runner.run(limited(*args, **kwargs))

    return run
