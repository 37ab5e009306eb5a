"""Work that blocks, in a thread that nobody waits for at the end."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def apart(work: Callable[[], Result]) -> "asyncio.Future[Result]":
    """Like asyncio.to_thread, but the process can end meanwhile: what blocks may never go on."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        tell: Callable[[], None]
        try:
            result = work()
        except Exception as caught:  # noqa: BLE001 - told to whoever waits
            error = caught
            tell = lambda: done.set_exception(error)  # noqa: E731
        else:
            tell = lambda: done.set_result(result)  # noqa: E731
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if done.cancelled() else tell())

    threading.Thread(target=run, daemon=True).start()
    return done
