"""Work that goes on until somebody stops it."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Closed:
    """Standard output, once it takes no more, and why."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.error: OSError | None = None

    def by(self, error: OSError) -> None:
        """This happened to it."""
        self.error = error
        self.event.set()


async def until_stopped(work: Coroutine[Any, Any, None], closed: asyncio.Event | None = None) -> None:
    """Does the work until it ends, a signal asks to stop, or `closed` is set."""
    stop = closed or asyncio.Event()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    for number in STOPPING:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    tasks = [asyncio.create_task(work), asyncio.create_task(stop.wait()), asyncio.create_task(stopped.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for number in STOPPING:
        # Once is enough: another one, while all is being closed, must not turn a clean end into a death.
        signal.signal(number, signal.SIG_IGN)
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await tasks[0]
