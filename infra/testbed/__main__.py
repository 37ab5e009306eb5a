"""python -m infra.testbed: a cluster to play with."""

import signal
import sys
import threading
from pathlib import Path

import click

from infra.testbed.build import build as build_programs
from infra.testbed.control_plane import ControlPlane
from infra.testbed.errors import TestbedError
from infra.testbed.scenarios import SCENARIOS, SHOP, find


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A real Kubernetes control plane on this machine, without containers.

    The API server, controllers and scheduler are the real ones. Nodes and pods are played: a pod with the label
    kubewhy.dev/play=crash crashes. The first use builds the programs, about nine minutes.
    """


@main.command()
def build() -> None:
    """Build the programs now, so that later starts take seconds."""
    build_programs()


@main.command(name="list")
def list_() -> None:
    """List the scenarios."""
    width = max(len(scenario.name) for scenario in SCENARIOS)
    for scenario in SCENARIOS:
        click.echo(f"{scenario.name:{width}}  {scenario.note}")


@main.command()
@click.option("--nodes", default=3, show_default=True, help="How many nodes.")
@click.option(
    "--scenario", "wanted", multiple=True, default=["none"], help="A scenario's name, all, or none. Repeatable."
)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Keep data and logs here.")
def up(nodes: int, wanted: tuple[str, ...], directory: Path | None) -> None:
    """Start a cluster with a healthy shop, and what is to be broken; stay until Ctrl-C."""
    chosen = [scenario for name in wanted for scenario in find(name)]
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with ControlPlane.start(directory, nodes=nodes, say=click.echo) as plane:
        for scenario in (SHOP, *chosen):
            click.echo(f"applying {scenario.name}: {scenario.note}")
            scenario.play(plane)
        click.echo(f"\nexport KUBECONFIG={plane.admin_kubeconfig}\n\nLogs: {plane.directory}. Ctrl-C ends it.")
        try:
            over.wait()
        except KeyboardInterrupt:
            click.echo("stopping")


if __name__ == "__main__":
    try:
        main()
    except TestbedError as error:
        sys.exit(f"testbed: {error}")
