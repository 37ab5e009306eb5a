"""kubewhy sinks: where findings go, whether that works, and how it looks there."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analyzers import enabled
from kubewhy.cli.options import FilePath
from kubewhy.cli.told import renderer
from kubewhy.contracts import Previews, Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.plain import clean
from kubewhy.records import Finding
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.outbox import DEAD, OUTBOX
from kubewhy.runtime.patience import patience
from kubewhy.runtime.replaying import replay
from kubewhy.runtime.routing import Router
from kubewhy.runtime.silencing import of_settings
from kubewhy.runtime.state import MemoryState, SqliteState
from kubewhy.runtime.trying import Keeping, story, tried
from kubewhy.settings import Settings, load
from kubewhy.spelling import hint
from sinks import make
from sinks.settings import SinkSettings
from sinks.stdout import StdoutSink, render

_LONGEST = 120  # seconds that trying one out may take

CONFIG = click.option("--config", type=FilePath(), metavar="FILE", help="Settings in YAML, as `kubewhy run` has them.")
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


def _complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        known = _settings(context.params.get("config")).sinks
    except ConfigError:
        return []
    return [CompletionItem(each.called) for each in known if each.called.startswith(incomplete)]


NAME: Callable[..., Any] = click.argument("name", shell_complete=_complete_names)


@click.group("sinks", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List where findings go, try one out, or show what it would tell.

    \b
    kubewhy sinks list --config kubewhy.yaml
    kubewhy sinks test slack --config kubewhy.yaml
    kubewhy sinks preview slack --config kubewhy.yaml --from shop.kwrec
    """


@command.command("list")
@CONFIG
@click.option("--state", "state_file", type=FilePath(), metavar="FILE", help="Say also what waits for each there.")
@OUTPUT
def list_command(config: Path | None, state_file: Path | None, output: str) -> None:
    """List the sinks of the settings."""
    settings = _settings(config)
    waiting, dead = _counted(state_file) if state_file else (None, None)
    rows = [
        {
            "name": each.called,
            "type": each.type,
            "gets": _gets(settings, each),
            **({} if waiting is None else {"waiting": waiting[each.called]}),
            **({} if dead is None else {"refused": dead[each.called]}),
        }
        for each in settings.sinks
    ]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in rows[0] if rows else ("name", "type", "gets"):
        table.add_column(heading.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(str(cell))) for cell in row.values()))
    Console().print(table)


@command.command("test", short_help="Tell one of an incident that never was.")
@NAME
@CONFIG
def test_command(name: str, config: Path | None) -> None:
    """Tell NAME of an incident that never was: it opens, is explained and ends. Whoever reads there sees that it is a
    test."""
    settings = _named(_settings(config), name)
    begun = time.perf_counter()
    notes = asyncio.run(_try(settings))
    for note in notes:
        click.echo(f"{name}: {clean(note)}", err=True)
    click.echo(f"{name}: it works ({time.perf_counter() - begun:.1f} s)")


@command.command("preview", short_help="Show what one would tell.")
@NAME
@click.option("--from", "recording", type=FilePath(), metavar="FILE", help="Of what `kubewhy record` has written.")
@CONFIG
def preview_command(name: str, recording: Path | None, config: Path | None) -> None:
    """Show what NAME would tell of a recording, or of an incident that never was. Nothing is sent."""
    settings = _settings(config)
    told = asyncio.run(_preview(settings, _named(settings, name), config, recording))
    click.echo(("\n\n" if any("\n" in each for each in told) else "\n").join(told))


async def _try(settings: SinkSettings) -> list[str]:
    sink = make(settings, os.environ)
    try:
        async with asyncio.timeout(_LONGEST):
            return await tried(sink, story(f"test-{secrets.token_hex(6)}", datetime.now(UTC)))
    except TimeoutError:
        raise ConfigError(f"sink {settings.called}: it takes longer than {_LONGEST} seconds") from None
    except (RetryLater, Rejected, ConfigError) as error:
        raise ConfigError(f"sink {settings.called}: {error}") from None
    finally:
        await sink.close()


async def _preview(settings: Settings, chosen: SinkSettings, config: Path | None, recording: Path | None) -> list[str]:
    sink = _shown(chosen)
    try:
        findings = await _recorded(settings, config, recording, chosen.called) if recording else _sample()
        shown = (
            sink.preview(each) if isinstance(sink, Previews) else render(each).decode().rstrip() for each in findings
        )
        return [told for told in shown if told]
    finally:
        await sink.close()


def _shown(settings: SinkSettings) -> Sink:
    if settings.type != "stdout":
        return make(settings, os.environ)
    # As `kubewhy run` does: lines for people on a terminal, else one JSON object a line.
    return StdoutSink(BytesIO(), render=renderer(Console()) if sys.stdout.isatty() else render)


def _sample() -> Sequence[Finding]:
    return story("test", datetime.now(UTC))


async def _recorded(settings: Settings, config: Path | None, recording: Path, name: str) -> list[Finding]:
    router = Router(settings)
    sinks = {each.called: Keeping() for each in settings.sinks}
    await replay(
        recording,
        enabled(),
        Delivery(sinks, MemoryState()),
        router,
        settings.namespaces,
        incidents=patience(settings, config, router.labels, no_hold=False),
        silences=of_settings(settings),
    )
    return sinks[name].findings


def _settings(config: Path | None) -> Settings:
    return load(config)


def _named(settings: Settings, name: str) -> SinkSettings:
    names = [each.called for each in settings.sinks]
    if name not in names:
        known = ", ".join(names) or "none"
        raise ConfigError(f"there is no sink {name}{hint(name, names)} (sinks: {known}); --config names the settings")
    return settings.sinks[names.index(name)]


def _gets(settings: Settings, sink: SinkSettings) -> str:
    """What it is told, in a few words."""
    routes = sum(sink.called in route.sinks for route in settings.routes)
    told = "everything" if not routes else f"{routes} route{'s' if routes > 1 else ''}"
    return told + (", also what is silenced" if sink.silenced else "") + (", digests" if sink.digest else "")


def _counted(state_file: Path) -> tuple[Counter[str], Counter[str]]:
    """How much waits in the state for each sink, and how much each has refused."""
    if not state_file.exists():
        raise ConfigError(f"{state_file}: no such file; name the state of `kubewhy run --state`")
    with closing(SqliteState(state_file)) as state:
        waiting, dead = (Counter(key.split("\x1f")[1] for key, _ in state.scan(prefix)) for prefix in (OUTBOX, DEAD))
    return waiting, dead
