"""kubewhy incidents: what is broken now, as `kubewhy run --state` remembers it."""

import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.live import Live

from explainer.incidents import Incidents
from kubewhy.cli.board import table
from kubewhy.errors import ConfigError
from kubewhy.records import IncidentView, encode
from kubewhy.runtime.embedded import restore
from kubewhy.runtime.state import SqliteState

REFRESH_SECONDS = 1.0


@click.command("incidents")
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `kubewhy run --state FILE` keeps.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The settings of a fleet: all its clusters, as Kafka has them.",
)
@click.option("--cluster", metavar="NAME", help="Of this cluster alone, by its name or id.")
@click.option("--all", "resolved", is_flag=True, help="Also what was resolved within the last day.")
@click.option("--watch", is_flag=True, help="Stay, and keep up to date until Ctrl-C.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    state_file: Path | None, config: Path | None, cluster: str | None, resolved: bool, watch: bool, output: str
) -> None:
    """List what is broken now, the worst first. No cluster is asked.

    \b
    kubewhy run --state kubewhy.state &
    kubewhy incidents --state kubewhy.state --all
    kubewhy incidents --config fleet.yaml --watch    all clusters of a fleet
    """
    if (state_file is None) == (config is None):
        raise click.UsageError("give either --state, for what `kubewhy run` keeps, or --config, for a fleet on Kafka")
    if watch and output == "json":
        raise click.UsageError("--watch is for people; for programs there is `kubewhy run -o json`")
    if config:
        from kubewhy.cli.fleet import show

        show(config, cluster, resolved=resolved, watch=watch, json=output == "json")
        return
    assert state_file
    if cluster:
        raise click.UsageError("--cluster goes with --config: `kubewhy run` watches one cluster only")
    _check(state_file)
    if output == "json":
        for each in read(state_file, resolved):
            click.echo(encode(each))
        return
    console = Console()
    if not watch:
        console.print(table(read(state_file, resolved), datetime.now(UTC)))
        with closing(SqliteState(state_file)) as state:
            rows, held = state.size()
        console.print(
            f"({state_file}: {rows:,} rows, {decimal(held)})",
            style="dim",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(table(read(state_file, resolved), datetime.now(UTC), max(console.height - 2, 3)), refresh=True)
            time.sleep(REFRESH_SECONDS)


def read(path: Path, resolved: bool) -> list[IncidentView]:
    """The incidents of a state that another process may be writing."""
    return list(restored(path).views(resolved=resolved))


def restored(path: Path) -> Incidents:
    """All that such a state remembers. Raises ConfigError where there is none."""
    _check(path)
    incidents = Incidents()
    with closing(SqliteState(path)) as state:
        restore(incidents, state)
    return incidents


def _check(path: Path) -> None:
    if not path.exists():
        raise ConfigError(f"{path}: no such file; start `kubewhy run --state {path}`, which makes it")
