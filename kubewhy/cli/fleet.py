"""The board of a fleet, for `kubewhy incidents`: how all its incidents stand, by what is on Kafka."""

import asyncio
import os
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from kubewhy.cli.board import table
from kubewhy.cli.stopping import until_stopped
from kubewhy.errors import ConfigError
from kubewhy.records import encode
from kubewhy.runtime.fleet.boarding import Board
from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.tailing import Tail
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import FINDINGS

_REFRESH_SECONDS = 1.0


def show(config: Path, cluster: str | None, *, resolved: bool, watch: bool, json: bool) -> None:
    """Raises ConfigError where no broker answers, or the topics are missing."""
    kafka = brokers(load(config), os.environ, "incidents")
    if watch:
        asyncio.run(until_stopped(_watched(kafka, cluster, resolved)))
        return
    board = asyncio.run(_once(kafka))
    incidents = board.views(resolved=resolved, cluster=cluster)
    if json:
        for each in incidents:
            click.echo(encode(each))
        return
    Console().print(table(incidents, datetime.now(UTC)))


async def _once(kafka: Kafka) -> Board:
    await _reached(kafka)
    board = Board()
    async with aclosing(Tail(kafka, FINDINGS).batches()) as batches:
        async for records in batches:
            if not records:
                break
            board.take(records)
    board.forget(datetime.now(UTC))
    return board


async def _watched(kafka: Kafka, cluster: str | None, resolved: bool) -> None:
    await _reached(kafka)
    board, console = Board(), Console()
    with Live(console=console, auto_refresh=False) as live:

        async def draw() -> None:
            while True:
                now = datetime.now(UTC)
                board.forget(now)
                shown = board.views(resolved=resolved, cluster=cluster)
                live.update(table(shown, now, max(console.height - 2, 3)), refresh=True)
                await asyncio.sleep(_REFRESH_SECONDS)

        drawing = None
        try:
            async for records in Tail(kafka, FINDINGS).batches():
                board.take(records)
                if not records:
                    # Not before all is known: else what has ended long ago would flash by.
                    drawing = asyncio.create_task(draw())
        finally:
            if drawing:
                drawing.cancel()


async def _reached(kafka: Kafka) -> None:
    """Who looks once has no patience."""
    if reason := await kafka.trouble():
        raise ConfigError(f"kafka: {reason}; check kafka.servers")
    await ready(kafka, FINDINGS)
