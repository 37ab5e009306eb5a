"""kubewhy dead-letters: what no one could use, why, and another try."""

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubewhy.cli.logs import verbose
from kubewhy.cli.options import FilePath
from kubewhy.errors import ConfigError
from kubewhy.plain import clean
from kubewhy.settings import Settings, load

if TYPE_CHECKING:
    from kubewhy.runtime.fleet.kafka import Kafka
    from kubewhy.runtime.fleet.undeliverable import Kept

_AT_ONCE = 100  # letters that are sent again together

CONFIG = click.option(
    "--config",
    type=FilePath(),
    metavar="FILE",
    help="Settings in YAML, with `kafka:` in them.  [default: variables as KUBEWHY__KAFKA__SERVERS alone]",
)
STATE = click.option(
    "--state", "state_file", type=FilePath(), metavar="FILE", help="Those of `kubewhy run --state FILE` instead."
)
STAGE = click.option("--stage", default="", metavar="STAGE", help="Only of this one: analyzer, explainer, sink/NAME.")
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group("dead-letters", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List what no one could use, look at it, and send it again.

    A record that cannot be read, or that a sink refuses for good, is set aside with the reason, so that it holds up no
    others. On Kafka it is kept for fourteen days. Once the cause is mended, send it again:

    \b
    kubewhy dead-letters list --config kubewhy.yaml
    kubewhy dead-letters show 0-17 --config kubewhy.yaml
    kubewhy dead-letters retry 0-17 --config kubewhy.yaml

    What `kubewhy run --state FILE` has set aside is found with --state FILE.
    """


@command.command("list", short_help="List them, the oldest first.")
@CONFIG
@STATE
@STAGE
@OUTPUT
@verbose
def list_command(config: Path | None, state_file: Path | None, stage: str, output: str) -> None:
    """List the dead letters, the oldest first: who could not use them, where they came from, and why."""
    kept = _read(config, state_file, stage=stage, told=_told)
    if output == "json":
        click.echo(json.dumps(kept, indent=2))
    elif kept:
        Console().print(table(kept))
    else:
        click.echo("There are no dead letters.")


@command.command("show", short_help="Show one, with the record itself.")
@click.argument("known", metavar="ID")
@CONFIG
@STATE
@OUTPUT
@verbose
def show_command(known: str, config: Path | None, state_file: Path | None, output: str) -> None:
    """Show one dead letter: where it came from, why it is one, and the record as it was."""
    [told] = _one(known, _read(config, state_file, only=known, told=_whole))
    if output == "json":
        click.echo(json.dumps(told, indent=2))
        return
    for line in _lines(told):
        click.echo(clean(line))


@command.command("retry", short_help="Send one again, or all.")
@click.argument("known", metavar="ID", required=False)
@click.option("--all", "everything", is_flag=True, help="All that there are.")
@CONFIG
@STATE
@STAGE
@verbose
def retry_command(known: str | None, everything: bool, config: Path | None, state_file: Path | None, stage: str) -> int:
    """Send the dead letter of that ID again, or --all of them.

    The record goes to where it came from, just as it was: with its version, so that an old one changes nothing that is
    newer. What a sink has refused goes to that sink alone. It may be done twice, and does no harm. The dead letter
    itself stays where it is until its time is over; in a state, it is gone.
    """
    if (known is None) != everything:
        raise click.UsageError("give either an ID or --all")
    if state_file:
        sent, useless = _retried_in_state(state_file, known or "", stage)
    else:
        settings, kafka = _kafka(config)
        sent, useless = asyncio.run(_retried(kafka, settings, known or "", stage))
    if known:
        _one(known, sent + useless)
    for each in useless:
        click.echo(f"kubewhy: {each}: was too large to be kept whole, and cannot be sent again", err=True)
    if not useless or sent:
        click.echo(f"sent again: {len(sent)}")
    return 1 if useless else 0


def table(kept: Sequence[dict[str, Any]]) -> Table:
    """One line each. Pure."""
    shown = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in ("ID", "SINCE", "STAGE", "FROM", "REASON"):
        shown.add_column(heading, no_wrap=heading in ("ID", "SINCE"), overflow="fold")
    for each in kept:
        row = (each["id"], each["since"] or "", each["stage"], _place(each), each["reason"])
        shown.add_row(*(Text(clean(str(cell))) for cell in row))
    return shown


def _told(kept: "Kept") -> dict[str, Any]:
    letter = kept.letter
    origin = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset} if letter.topic else None
    return {
        "id": kept.id,
        "since": kept.since.isoformat(timespec="seconds") if kept.since else None,
        "stage": letter.stage,
        "from": origin,
        "at": letter.at.isoformat(),
        "reason": letter.reason,
    }


def _whole(kept: "Kept") -> dict[str, Any]:
    letter = kept.letter
    return {
        **_told(kept),
        "key": _text(letter.key),
        "headers": {name: _text(value) for name, value in letter.headers},
        "value": _value(letter.value),
    }


def _text(told: bytes | None) -> str | None:
    return None if told is None else told.decode(errors="backslashreplace")


def _value(told: bytes | None) -> Any:
    """JSON where it is some; else text; else base64."""
    if told is None:
        return None
    with suppress(ValueError, RecursionError):
        return json.loads(told)
    try:
        return told.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(told).decode()}


def _lines(told: dict[str, Any]) -> Iterable[str]:
    yield f"{told['id']}: {told['reason']}"
    yield f"stage: {told['stage']}"
    if told["from"]:
        yield f"from: {_place(told)}"
    yield f"at: {told['at']}"
    yield f"key: {told['key'] or ''}"
    for name, value in told["headers"].items():
        yield f"{name}: {value}"
    yield ""
    yield from (told["value"] if isinstance(told["value"], str) else json.dumps(told["value"], indent=2)).splitlines()


def _place(told: dict[str, Any]) -> str:
    origin = told["from"]
    return f"{origin['topic']} {origin['partition']}-{origin['offset']}" if origin else "the state"


def _read(
    config: Path | None,
    state_file: Path | None,
    *,
    stage: str = "",
    only: str = "",
    told: "Callable[[Kept], dict[str, Any]]",
) -> list[dict[str, Any]]:
    """What is told of each: the letters themselves may be more than there is room for."""
    from kubewhy.runtime.fleet.undeliverable import in_state, on_kafka

    if state_file:
        from kubewhy.runtime.state import SqliteState

        with closing(SqliteState(_there(state_file))) as state:
            return [told(each) for each in in_state(state, stage, only)]
    _, kafka = _kafka(config)

    async def read() -> list[dict[str, Any]]:
        return [told(each) async for each in on_kafka(kafka, stage, only)]

    return asyncio.run(read())


def _one(known: str, found: list[Any]) -> list[Any]:
    if not found:
        raise ConfigError(f"there is no dead letter {known}; `kubewhy dead-letters list` shows them")
    return found


async def _retried(kafka: "Kafka", settings: Settings, only: str, stage: str) -> tuple[list[str], list[str]]:
    """Which were sent, and which cannot be."""
    from kubewhy.runtime.fleet.undeliverable import on_kafka, retry

    sinks = [sink.called for sink in settings.sinks]
    sent, useless, some = list[str](), list[str](), list["Kept"]()

    async def send() -> None:
        back = await retry(kafka, some, sinks)
        useless.extend(each.id for each in back)
        sent.extend(each.id for each in some if each not in back)
        some.clear()

    async for each in on_kafka(kafka, stage, only):
        some.append(each)
        if len(some) == _AT_ONCE:
            await send()
    await send()
    return sent, useless


def _retried_in_state(state_file: Path, only: str, stage: str) -> tuple[list[str], list[str]]:
    from kubewhy.runtime.fleet.undeliverable import in_state, retry_in_state
    from kubewhy.runtime.state import SqliteState

    with closing(SqliteState(_there(state_file))) as state:
        letters = list(in_state(state, stage, only))
        retry_in_state(state, letters)
    return [each.id for each in letters], []


def _there(state_file: Path) -> Path:
    if not state_file.exists():
        raise ConfigError(f"{state_file}: no such file; name the state of `kubewhy run --state`")
    return state_file


def _kafka(config: Path | None) -> "tuple[Settings, Kafka]":
    settings = load(config)
    if settings.kafka is None:
        where = f"{config}: there is" if config else "there is"
        raise ConfigError(
            f"{where} no `kafka:` in the settings, and dead letters are kept there: name the settings of the fleet "
            "with --config, or with --state the state of a `kubewhy run`"
        )
    try:
        from kubewhy.runtime.fleet.kafka import Kafka
    except ImportError as error:
        raise ConfigError(
            f"kafka: needs a package that is not there ({error.name}): pip install 'kubewhy[kafka]'"
        ) from None
    return settings, Kafka(settings.kafka, os.environ, "kubewhy-dead-letters")
