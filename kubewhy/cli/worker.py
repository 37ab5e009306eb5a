"""kubewhy worker: one role of a fleet on Kafka, as one process."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kubewhy.cli.logs import one_line
from kubewhy.cli.options import FilePath
from kubewhy.cli.stopping import until_stopped
from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.settings import Settings, load
from kubewhy.spelling import hint

CONFIG: Callable[..., Any] = click.option(
    "--config", type=FilePath(), metavar="FILE", required=True, help="Settings in YAML, the same for all roles."
)
Role = Callable[[Kafka, Settings], Coroutine[Any, Any, None]]


@click.group("worker", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run one role of a fleet, until Ctrl-C or SIGTERM.

    What is broken travels from a collector in each cluster over analyzers and an explainer to the sinks, through topics
    of Kafka. Each role may run several times, and be stopped and started at any moment: nothing is lost by that.

    \b
    kubewhy topics create --config fleet.yaml       once
    kubewhy worker collector --config fleet.yaml    in each cluster
    kubewhy worker analyzer --config fleet.yaml
    kubewhy worker explainer --config fleet.yaml
    kubewhy worker sink slack --config fleet.yaml   for each sink of the settings
    """


@command.command("collector")
@CONFIG
@click.option("--kubeconfig", type=FilePath(), metavar="FILE", help="As for kubectl.")
@click.option("--context", metavar="NAME", help="As for kubectl.")
@click.option("--with-analyzers", is_flag=True, help="Judge here what was collected: no analyzer is needed then.")
def collector_command(config: Path, kubeconfig: Path | None, context: str | None, with_analyzers: bool) -> None:
    """Watch one cluster, and publish how its objects are.

    Several may run for one cluster. One of them is active; should it end or be cut off, another takes over within
    seconds. Nothing is written to Kubernetes for that.
    """
    from analyzers import enabled
    from kubewhy.runtime.fleet import workers

    async def role(kafka: Kafka, settings: Settings) -> None:
        chosen, wanted = kubeconfig or settings.kubeconfig, context or settings.context
        await workers.collector(kafka, settings, list(enabled()), chosen, wanted, with_analyzers=with_analyzers)

    _run(config, "collector", role)


@command.command("analyzer")
@CONFIG
def analyzer_command(config: Path) -> None:
    """Judge what the collectors publish. It remembers nothing: run as many as there is work for."""
    from analyzers import enabled
    from kubewhy.runtime.fleet import workers

    async def role(kafka: Kafka, settings: Settings) -> None:
        await workers.analyzer(kafka, settings, list(enabled()))

    _run(config, "analyzer", role)


@command.command("explainer")
@CONFIG
@click.option("--no-hold", is_flag=True, help="Tell at once also what has not lasted long enough yet to count.")
def explainer_command(config: Path, no_hold: bool) -> None:
    """Make incidents of what fails, and have models explain them, where the settings name any.

    Several share the clusters. What they remember is on Kafka, and goes with the clusters.
    """
    from kubewhy.runtime.fleet import workers

    async def role(kafka: Kafka, settings: Settings) -> None:
        await workers.explainer(kafka, settings, config, os.environ, no_hold=no_hold)

    _run(config, "explainer", role)


def _complete_sinks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    config = context.params.get("config")
    try:
        known = load(config).sinks if config else ()
    except ConfigError:
        return []
    return [CompletionItem(each.called) for each in known if each.called.startswith(incomplete)]


@command.command("sink")
@CONFIG
@click.argument("name", shell_complete=_complete_sinks)
def sink_command(config: Path, name: str) -> None:
    """Deliver findings to the sink of that NAME in the settings.

    Of one that posts to people, as Slack, one worker is active and others stand by; the others share the work.
    """
    from kubewhy.runtime.fleet import workers

    async def role(kafka: Kafka, settings: Settings) -> None:
        names = [sink.called for sink in settings.sinks]
        if name not in names:
            raise ConfigError(f"{config}: there is no sink {name}{hint(name, names)} (sinks: {', '.join(names)})")
        await workers.sink(kafka, settings, name, os.environ)

    _run(config, f"sink-{name}", role)


def _run(config: Path, name: str, role: Role) -> None:
    from kubewhy.runtime.fleet.workers import brokers

    settings = load(config)
    kafka = brokers(settings, os.environ, name)
    if sys.stderr.isatty():
        click.echo(one_line(f"{name}: Kafka at {kafka.settings.called}; Ctrl-C ends it"), err=True)
    asyncio.run(until_stopped(role(kafka, settings)))
