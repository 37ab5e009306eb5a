"""kubewhy cache: what models have answered before."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from explainer.cache import Answers, Entry
from kubewhy.cli.options import Duration
from kubewhy.cli.text import age
from kubewhy.errors import ConfigError
from kubewhy.plain import clean
from kubewhy.runtime.models import answers
from sinks.stdout import printable

OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
_SHORT = 12  # characters of a key that are shown


@click.group("cache", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show and remove what models have answered before.

    Answers are kept as they came: names in them are masked still.
    """


@command.command("list")
@OUTPUT
def list_command(output: str) -> None:
    """List what is kept, the newest first."""
    cache = _cache()
    entries = cache.entries()
    if output == "json":
        click.echo(printable(msgspec.json.encode([_shown(each) for each in entries])))
        return
    console = Console()
    console.print(_table(entries))
    if entries:
        held = decimal(sum(len(each.text) for each in entries))
        console.print(Text(f"({cache.path}: {len(entries)} answers, {held})", style="dim"), soft_wrap=True)


@command.command("get", short_help="Show one answer.")
@click.argument("key")
@OUTPUT
def get_command(key: str, output: str) -> None:
    """Show one answer. KEY is as `list` has it, or how it begins."""
    entry = _one(_cache().entries(), key)
    if output == "json":
        click.echo(printable(msgspec.json.encode(_shown(entry) | {"answer": _answer(entry)})))
        return
    click.echo(_pretty(entry))


@command.command("purge", short_help="Remove answers.")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--older-than", type=Duration(), metavar="DURATION", help="Those that were made longer ago: 90s, 24h.")
def purge_command(keys: tuple[str, ...], everything: bool, older_than: float | None) -> None:
    """Remove those of these KEYs, those that are older, or all. It says how many."""
    if bool(keys) + everything + (older_than is not None) != 1:
        raise click.UsageError("give KEYs, --older-than or --all")
    cache = _cache()
    entries = cache.entries()
    if keys:
        entries = [_one(entries, key) for key in keys]
    elif older_than is not None:
        before = datetime.now(UTC) - timedelta(seconds=older_than)
        entries = [each for each in entries if each.made < before]
    gone = cache.purge({each.key for each in entries})
    click.echo(f"removed {gone} answer{'' if gone == 1 else 's'}")


def _cache() -> Answers:
    return answers(os.environ, lambda: datetime.now(UTC))


def _one(entries: Sequence[Entry], key: str) -> Entry:
    fits = [each for each in entries if each.key.startswith(key)] if key else []
    if not fits:
        raise ConfigError(f"no answer has the key {key!r}: `kubewhy cache list` has them")
    if len(fits) > 1:
        raise ConfigError(f"{len(fits)} answers begin with {key!r}: give more of the key")
    return fits[0]


def _shown(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if name != "text"}


def _answer(entry: Entry) -> Any:
    try:
        return json.loads(entry.text)
    except ValueError:
        return entry.text


def _pretty(entry: Entry) -> str:
    told = json.dumps(_answer(entry), ensure_ascii=False, indent=2)
    return "\n".join(clean(line) for line in told.split("\n"))


def _table(entries: Sequence[Entry]) -> Table | Text:
    if not entries:
        return Text("No answer is kept.")
    shown = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in ("KEY", "AGE", "USED", "BACKEND", "MODEL", "LANGUAGE", "TOKENS"):
        shown.add_column(heading, no_wrap=heading in ("KEY", "AGE", "USED"))
    now = datetime.now(UTC)
    for each in entries:
        ages = (age(each.made, now), age(each.used, now))
        tokens = str(each.input_tokens + each.output_tokens)
        cells = (each.key[:_SHORT], *ages, each.backend, each.by, each.language, tokens)
        shown.add_row(*(Text(clean(cell)) for cell in cells))
    return shown
