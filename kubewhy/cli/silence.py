"""kubewhy silence: what nobody wants to be told for a while."""

import getpass
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from explainer.incidents import Incidents
from explainer.matchers import BadMatcher, Matchers, parse_all
from kubewhy.cli.text import age
from kubewhy.contracts import State
from kubewhy.durations import parse_duration, parse_time
from kubewhy.errors import ConfigError
from kubewhy.plain import clean
from kubewhy.records import Ref, Silence
from kubewhy.runtime.embedded import restore
from kubewhy.runtime.silencing import IN_SETTINGS, add, expire, kept, of_settings
from kubewhy.runtime.state import SqliteState
from kubewhy.settings import load

_STATE = click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `kubewhy run --state FILE` keeps.",
)
_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The settings of a fleet: for all its clusters, as Kafka has them.",
)


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the silences are kept."""
    return _STATE(_CONFIG(function))


def _length(context: click.Context, parameter: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not length:
        raise click.BadParameter(f"{text!r} is no time at all; write 90s, 15m, 1h30m or 7d")
    return length


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group("silence", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep failures from being told for a while.

    They go on being found, and are kept for archives. A running `kubewhy run --state FILE`, or a fleet, hears of it
    within seconds.
    """


@command.command("add", short_help="Silence what fits, and print the silence's id.")
@_kept
@click.argument("matchers", nargs=-1, required=True, metavar="MATCHER...")
@click.option("--for", "length", callback=_length, metavar="DURATION", help="How long: 90s, 15m, 1h30m, 7d.")
@click.option("--until", callback=_moment, metavar="TIME", help="Until when: 2026-12-01T08:00:00Z.")
@click.option("--start", callback=_moment, metavar="TIME", help="From when on.  [default: now]")
@click.option("--comment", default="", help="Why.")
@click.option("--author", default=None, help="Who.  [default: your user name]")
def add_command(
    state_file: Path | None,
    config: Path | None,
    matchers: tuple[str, ...],
    length: timedelta | None,
    until: datetime | None,
    start: datetime | None,
    comment: str,
    author: str | None,
) -> None:
    """Silence all failures that every MATCHER fits, and print the silence's id.

    A matcher is name="value", with != for another value, and =~ or !~ for a regular expression that fits the whole
    value. The names are cluster, namespace, kind, name, rule and severity; label:KEY is a label of the object, and
    namespace-label:KEY one of its namespace.

    \b
    kubewhy silence add --state kubewhy.state --for 2h namespace=shop 'name=~"web-.*"'
    kubewhy silence add --state kubewhy.state --until 2026-12-01T08:00:00Z namespace-label:team=a
    """
    if (length is None) == (until is None):
        raise click.UsageError("give either --for or --until: a silence has to end")
    wanted = _read(matchers)
    now = datetime.now(UTC)
    ends_at = until or _after(start or now, length or timedelta())
    with _opened(state_file, config) as state:
        who = _user() if author is None else author
        silence = add(state, wanted, now, ends_at, starts_at=start, author=who, comment=comment)
    click.echo(silence.id)


@command.command("list", short_help="List what is silenced.")
@_kept
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_command(state_file: Path | None, config: Path | None, output: str) -> None:
    """List the silences that have not ended, and what objects and namespaces say is to be ignored."""
    now = datetime.now(UTC)
    with _opened(state_file, config) as state:
        incidents = Incidents()
        restore(incidents, state)
        silences = kept(state, now)
    # Those of the settings are known only to what runs on them.
    if config:
        silences += [each for each in of_settings(load(config)) if each.ends_at > now]
    silences += [each for each in incidents.silences() if each.id.startswith(IN_SETTINGS) and each.ends_at > now]
    ignored = incidents.ignored()
    if output == "json":
        told = [_told(each, now) for each in silences] + [_told_ignored(*each) for each in ignored]
        click.echo(json.dumps(told, indent=2))
        return
    Console().print(table(silences, ignored, now))


@command.command("expire")
@_kept
@click.argument("key", metavar="ID")
def expire_command(state_file: Path | None, config: Path | None, key: str) -> None:
    """End a silence now. What still fails is told anew."""
    with _opened(state_file, config) as state:
        expire(state, key, datetime.now(UTC))


def table(silences: list[Silence], ignored: list[tuple[str, Ref, str]], now: datetime) -> Table | Text:
    """One line a silence. Pure."""
    if not silences and not ignored:
        return Text("Nothing is silenced.")
    shown = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in ("ID", "ENDS", "SILENCED", "BY", "COMMENT"):
        shown.add_column(heading, no_wrap=heading in ("ID", "ENDS"), overflow="fold")
    for each in silences:
        ends = f"in {age(now, each.ends_at)}"
        if each.starts_at and each.starts_at > now:
            ends += f", begins in {age(now, each.starts_at)}"
        by = "the settings" if each.id.startswith(IN_SETTINGS) else each.author
        row = (each.id, ends, ", ".join(each.matchers), by, each.comment)
        shown.add_row(*(Text(clean(cell)) for cell in row))
    for cluster, ref, rules in ignored:
        row = ("-", "never", f"{rules} of {ref} in {cluster}", "its annotation", "")
        shown.add_row(*(Text(clean(cell)) for cell in row))
    return shown


def _told(silence: Silence, now: datetime) -> dict[str, Any]:
    begun = silence.starts_at is None or silence.starts_at <= now
    source = "settings" if silence.id.startswith(IN_SETTINGS) else "command"
    told: dict[str, Any] = msgspec.structs.asdict(silence) | {"state": "active" if begun else "pending"}
    return {**msgspec.to_builtins(told), "source": source}


def _told_ignored(cluster: str, ref: Ref, rules: str) -> dict[str, Any]:
    told = {"id": None, "cluster": cluster, "object": msgspec.to_builtins(ref), "rules": rules}
    return {**told, "state": "active", "source": "annotation"}


def _read(matchers: tuple[str, ...]) -> Matchers:
    try:
        return parse_all(matchers)
    except BadMatcher as error:
        raise click.BadParameter(str(error), param_hint="MATCHER") from None


def _after(start: datetime, length: timedelta) -> datetime:
    try:
        return start + length
    except OverflowError:
        raise click.BadParameter("that is beyond all calendars", param_hint="--for") from None


@contextmanager
def _opened(path: Path | None, config: Path | None) -> Iterator[State]:
    if (path is None) == (config is None):
        raise click.UsageError("give either --state, for what `kubewhy run` keeps, or --config, for a fleet on Kafka")
    if config:
        from kubewhy.runtime.fleet.fleet_silences import opened
        from kubewhy.runtime.fleet.workers import brokers

        with opened(brokers(load(config), os.environ, "silence")) as rows:
            yield rows
        return
    assert path
    if not path.exists():
        raise ConfigError(f"{path}: no such file; start `kubewhy run --state {path}`, which makes it")
    with closing(SqliteState(path)) as state:
        yield state


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return ""
