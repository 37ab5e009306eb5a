"""kubewhy archive: what an archive on S3 tells of incidents, long after they are forgotten elsewhere."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubewhy.cli.options import FilePath
from kubewhy.cli.text import COLOUR, age
from kubewhy.cli.told import lines
from kubewhy.durations import parse_duration, parse_time
from kubewhy.errors import ConfigError
from kubewhy.plain import clean
from kubewhy.records import Finding, IncidentView, encode
from kubewhy.runtime.recalling import Archive, Wanted, in_bucket, opened, recall
from kubewhy.settings import load
from kubewhy.spelling import hint
from sinks.archive import Final, once
from sinks.settings import S3Settings
from sinks.stdout import printable

SHORT = 8  # letters of an id: enough to tell some thousand incidents apart

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if text[-1:] in "dhms":
            return datetime.now(UTC) - parse_duration(text)
        return _day(text) if len(text) == len("2026-12-01") else parse_time(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-12-01, 2026-12-01T08:00:00Z, or 7d for that long ago"
        ) from None


def _day(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)


def source_options(function: Function) -> Function:
    """Adds `wanted` and `archive`, from the options that say which and where."""
    for option in reversed(
        (
            click.option("--from", "where", metavar="PLACE", help="s3://BUCKET/PREFIX, or a folder of its objects."),
            click.option("--config", type=FilePath(), metavar="FILE", help="The settings of a sink of type s3."),
            click.option("--sink", metavar="NAME", help="Which of these settings, where there are several."),
            click.option("--cluster", metavar="ID", help="Only of this cluster."),
            click.option("--since", callback=_moment, metavar="TIME", help="From then on: 2026-12-01, or 7d ago."),
            click.option("--until", callback=_moment, metavar="TIME", help="Before that time."),
            click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
        )
    ):
        function = option(function)
    return function


@click.group("archive", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look into an archive on S3: at any incident, however long ago.

    Credentials come from AWS's default chain; AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL_S3 are heeded.
    """


@command.command("list", short_help="List incidents, the first to open first.")
@source_options
def list_command(output: str, **where: Any) -> None:
    """List the incidents of which the archive tells, the first to open first, each as it was last.

    \b
    kubewhy archive list --from s3://my-archive/kubewhy/ --since 7d
    """
    known = Final()
    _read(known.add, **where)
    told = sorted(known.last.values(), key=lambda each: (each.incident.opened_at, each.incident.id))
    if output == "json":
        for each in told:
            click.echo(printable(encode(each.incident)))
    elif told:
        Console().print(table(told))
    else:
        click.echo("The archive tells of no incident.")


@command.command("show", short_help="Show all that happened to one incident.")
@click.argument("incident")
@source_options
def show_command(incident: str, output: str, **where: Any) -> None:
    """Show all transitions of one INCIDENT, each once, in the order in which they happened. A beginning of its id is
    enough, where no other begins so.
    """
    told = _of(incident, **where)
    if output == "json":
        for each in told:
            click.echo(printable(encode(each)))
        return
    _print(_history(told))


@command.command("rebuild", short_help="Show how one incident was in the end.")
@click.argument("incident")
@source_options
def rebuild_command(incident: str, output: str, **where: Any) -> None:
    """Show how one INCIDENT was in the end, with what was wrong and how it was explained. A beginning of its id is
    enough, where no other begins so.
    """
    known = Final()
    for each in _of(incident, **where):
        known.add(each)
    [last] = known.last.values()
    if output == "json":
        click.echo(printable(encode(last)))
        return
    _print(_end(last))


def table(told: Sequence[Finding]) -> Table:
    """One line an incident; the cluster where there are several. Pure."""
    several = len({each.incident.cluster for each in told}) > 1
    shown = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in ("OPENED", "ID", "SEVERITY", "STATE", "LASTED", *(["CLUSTER"] if several else []), "INCIDENT"):
        shown.add_column(heading, no_wrap=heading not in ("CLUSTER", "INCIDENT"), overflow="fold")
    for each in told:
        incident = each.incident
        shown.add_row(
            Text(f"{incident.opened_at:%Y-%m-%d %H:%M}"),
            Text(clean(incident.id)[:SHORT]),
            Text(incident.severity.upper(), style=COLOUR[incident.severity]),
            Text(clean(incident.resolution or ("silenced" if incident.silenced else incident.state))),
            Text(age(incident.opened_at, incident.resolved_at) if incident.resolved_at else ""),
            *([Text(clean(incident.cluster_name or incident.cluster))] if several else []),
            Text(clean(incident.title)),
        )
    return shown


def _history(told: Iterable[Finding]) -> Iterator[Text]:
    day = None
    for each in told:
        if each.at.date() != day:
            day = each.at.date()
            yield Text(f"{day:%Y-%m-%d}, {_cluster(each.incident)}", style="dim")
        # What a digest stood for is shown here by itself.
        yield from lines(msgspec.structs.replace(each, digest=None))


def _end(last: Finding) -> Iterator[Text]:
    incident = last.incident
    if incident.resolved_at:
        lasted = age(incident.opened_at, incident.resolved_at)
        end = f"{clean(incident.resolution or 'resolved')} {incident.resolved_at:%Y-%m-%d %H:%M:%S} after {lasted}"
    else:
        end = f"still open {last.at:%Y-%m-%d %H:%M:%S}, when the archive tells of it last"
    yield Text(f"{incident.severity.upper()}  {clean(incident.title)}", style=COLOUR[incident.severity])
    yield Text(f"{clean(incident.id)} in {_cluster(incident)}", style="dim")
    yield Text(f"opened {incident.opened_at:%Y-%m-%d %H:%M:%S}, {end}{' (silenced)' if incident.silenced else ''}")
    # As it would be told were it new; what a digest stands for is shown by itself.
    yield from lines(msgspec.structs.replace(last, digest=None, transition="opened"))[1:]
    if last.explanation:
        yield from lines(msgspec.structs.replace(last, digest=None, transition="explained"))[1:]


def _cluster(incident: IncidentView) -> str:
    name = f"{clean(incident.cluster_name)}, " if incident.cluster_name else ""
    return f"cluster {name}{clean(incident.cluster)}"


def _print(told: Iterable[Text]) -> None:
    console = Console()
    for line in told:
        console.print(line, soft_wrap=True, highlight=False)


def _of(incident: str, **where: Any) -> list[Finding]:
    """Its transitions, each once."""
    found: list[Finding] = []

    def take(finding: Finding) -> None:
        if finding.incident.id.startswith(incident):
            found.append(finding)

    _read(take, **where)
    exact = [each for each in found if each.incident.id == incident]
    ids = sorted({each.incident.id for each in exact or found})
    if len(ids) > 1:
        raise ConfigError(f"{len(ids)} incidents begin with {incident}, as {ids[0]} and {ids[1]} do; write more of it")
    if not ids:
        raise ConfigError(f"the archive tells of no incident {incident}; `kubewhy archive list` lists them")
    return once(exact or found)


def _read(
    take: Callable[[Finding], None],
    *,
    cluster: str | None,
    since: datetime | None,
    until: datetime | None,
    where: str | None,
    config: Path | None,
    sink: str | None,
) -> None:
    """Gives all that is wanted, in no order, and perhaps twice."""
    wanted, archive = Wanted(cluster, since, until), _archive(where, config, sink)

    def damaged(name: str, why: str) -> None:
        log.warning("%s: %s; it is left out", clean(name), why)

    async def read() -> None:
        async for finding in recall(archive, wanted, damaged):
            take(finding)

    asyncio.run(read())


def _archive(where: str | None, config: Path | None, sink: str | None) -> Archive:
    if (where is None) == (config is None):
        raise click.UsageError("say where the archive is: --from s3://BUCKET/PREFIX, --from FOLDER or --config FILE")
    if where is not None or config is None:
        return opened(where or "")
    told = {each.called: each for each in load(config).sinks if isinstance(each, S3Settings)}
    if sink is not None and sink not in told:
        known = f" (sinks of type s3: {', '.join(told) or 'none'})"
        raise ConfigError(f"{config}: there is no sink {sink} of type s3{hint(sink, told)}{known}")
    if sink is None and len(told) != 1:
        raise ConfigError(
            f"{config}: has {len(told)} sinks of type s3"
            + (f"; name one with --sink ({', '.join(told)})" if told else "; add one, or say --from")
        )
    return in_bucket(told[sink] if sink is not None else next(iter(told.values())))
