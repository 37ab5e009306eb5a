"""Far sides of a fleet's sinks, in a thread of their own: what tests of several processes look at meanwhile."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from tests.models.far import serving
from tests.services.receiver import Receiver
from tests.services.slack import Workspace


@contextmanager
def thread() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs what it is given in a loop of its own."""
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


@contextmanager
def far_sides() -> Iterator[tuple[Workspace, Receiver]]:
    """A Slack workspace that keeps real time, and something that is posted to."""
    workspace, hook, stack = Workspace(), Receiver(), AsyncExitStack()

    async def begin() -> None:
        await stack.enter_async_context(serving(workspace))
        await stack.enter_async_context(serving(hook))

    with thread() as run:
        run(begin())
        try:
            yield workspace, hook
        finally:
            run(stack.aclose())
