"""kubewhy run: watches a cluster, or replays a recording, and tells what breaks and what recovers."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyzers import enabled
from collectors.credentials import connect
from collectors.live import LiveCollector
from collectors.requests import Cluster
from explainer.incidents import Incidents
from kubewhy.cli.logs import one_line
from kubewhy.cli.models import Asking, settings_of
from kubewhy.cli.options import Seconds, cluster_options, from_option, kind_option, logs_option, scope_options
from kubewhy.cli.stopping import Closed, until_stopped
from kubewhy.contracts import Analyzer, Sink, State
from kubewhy.records import Finding
from kubewhy.runtime.delivery import Delivery, warn
from kubewhy.runtime.embedded import CLUSTER, watch
from kubewhy.runtime.patience import patience
from kubewhy.runtime.replaying import replay
from kubewhy.runtime.routing import Router
from kubewhy.runtime.silencing import of_settings
from kubewhy.runtime.state import MemoryState, SqliteState
from kubewhy.runtime.telemetry.notes import Notes
from kubewhy.runtime.telemetry.showing import showing
from kubewhy.settings import ExplainSettings, Settings, load
from sinks import make
from sinks.stdout import StdoutSink, render

if TYPE_CHECKING:
    from kubewhy.runtime.calls import Calls
    from kubewhy.runtime.telemetry.shown import Shown


@click.command("run")
@cluster_options
@scope_options
@from_option
@kind_option
@click.option(
    "--no-hold",
    is_flag=True,
    help="Tell at once also what has not lasted long enough yet to count, and resolve at once what is seen no more.",
)
@click.option(
    "--until-idle",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="End when nothing has changed and nothing was found for so long; what is seen no more by then is resolved, "
    "however long it was to be kept open.  [default: stay until stopped]",
)
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings in YAML; flags come before them.",
)
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Remember there what was told, so that a restart tells nothing twice.",
)
@logs_option
@click.option(
    "--explain",
    is_flag=True,
    help="Have a model explain incidents: those of the settings, else the default of `kubewhy backends`.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    help="Lines for people, or one JSON object a line.  [default: text on a terminal, else json]",
)
def command(
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    recording: Path | None,
    kinds: tuple[str, ...],
    no_hold: bool,
    until_idle: float | None,
    config: Path | None,
    state_file: Path | None,
    logs: bool,
    explain: bool,
    output: str | None,
) -> int:
    """Watch a cluster, and tell what breaks and what recovers, until Ctrl-C or SIGTERM.

    What is seen no more is kept open for two minutes before it is told as resolved.

    With --from a recording is replayed in its own time, as fast as it goes. At its end, what is seen no more is
    resolved.

    \b
    kubewhy run                               every namespace
    kubewhy run -n shop | jq .incident.title  one namespace, as JSON lines
    kubewhy run --from shop.kwrec             a recording
    """
    if recording and state_file:
        raise click.UsageError(
            "--state goes with a cluster, not with --from: a recording is always told from its start"
        )
    settings = load(config)
    if explain and not settings.explain.backends:
        asked = settings.explain.model_copy(update={"backends": (settings_of(Asking()),)})
        settings = settings.model_copy(update={"explain": asked})
    router = Router(settings)
    chosen = kubeconfig or settings.kubeconfig
    notes = Notes()
    told = _Told(
        kubeconfig=str(chosen) if chosen else None,
        context=context or settings.context,
        namespaces=namespaces or (() if all_namespaces else settings.namespaces),
        all_namespaces=all_namespaces,
        recording=recording,
        analyzers=[analyzer for analyzer in enabled() if not kinds or analyzer.name in kinds],
        no_hold=no_hold,
        until_idle=until_idle,
        state_file=state_file,
        logs=logs or settings.logs,
        text=sys.stdout.isatty() if output is None else output == "text",
        settings=settings,
        router=router,
        incidents=patience(settings, config, router.labels, no_hold=no_hold),
        calls=_calls(settings.explain, notes),
        notes=notes,
    )
    # Nobody reads on, as in `kubewhy run | head -1`.
    return 1 if asyncio.run(told.to_stdout()) else 0


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What is to be told, and where it comes from."""

    kubeconfig: str | None
    context: str | None
    namespaces: tuple[str, ...]
    all_namespaces: bool
    recording: Path | None
    analyzers: Sequence[Analyzer[Any]]
    no_hold: bool
    until_idle: float | None
    state_file: Path | None
    logs: bool
    text: bool
    settings: Settings
    router: Router
    incidents: Incidents
    calls: "Calls | None"
    notes: Notes

    async def to_stdout(self) -> bool:
        """Until it ends or is stopped. True when nobody reads on."""
        sinks: dict[str, Sink] = {}
        try:
            for each in self.settings.sinks:
                if each.type != "stdout":
                    sinks[each.called] = make(each, os.environ)
            return await self._told(sinks)
        finally:
            for sink in sinks.values():
                await sink.close()
            if self.calls:
                await self.calls.close()

    async def _told(self, sinks: Mapping[str, Sink]) -> bool:
        closed = Closed()
        if self.text and not self.recording and sys.stdout.isatty():
            # What draws takes megabytes, which what watches a cluster from within has no use for.
            from rich.console import Console

            from kubewhy.cli.board import Board

            async with Board(Console(), self.incidents.views) as board:
                await until_stopped(self._to(board, sinks), closed.event)
            return False
        out = FileIO(sys.stdout.fileno(), "w", closefd=False)
        stdout = StdoutSink(out, closed.by, _for_people() if self.text else render)
        await until_stopped(self._to(stdout, sinks), closed.event)
        if closed.error and not isinstance(closed.error, BrokenPipeError):
            raise closed.error
        return closed.error is not None

    async def _to(self, stdout: Sink, others: Mapping[str, Sink]) -> None:
        sinks = {each.called: others.get(each.called, stdout) for each in self.settings.sinks}
        ours = sinks.keys() - others.keys()

        def delivery(state: State) -> Delivery:
            # What befalls standard output is told at the end.
            def say(name: str, *told: Any) -> None:
                if name not in ours:
                    warn(name, *told)

            return Delivery(sinks, state, say, ours, self.notes)

        if self.recording:
            await replay(
                self.recording,
                self.analyzers,
                delivery(MemoryState()),
                self.router,
                self.namespaces,
                no_hold=self.no_hold,
                incidents=self.incidents,
                silences=of_settings(self.settings),
                calls=self.calls,
            )
            return
        answering = showing(self.settings.metrics, self.notes, "run", CLUSTER)
        async with answering as shown, await connect(self.kubeconfig, self.context) as cluster:
            # What cannot be reached is not being watched.
            identity = self.settings.cluster.id or await cluster.identify()
            if self.text:
                click.echo(one_line(f"watching {cluster.name} ({cluster.server}); Ctrl-C ends it"), err=True)
            with closing(SqliteState(self.state_file)) if self.state_file else nullcontext() as state:
                await self._watch(cluster, identity, delivery(state or MemoryState()), state, shown)

    async def _watch(
        self,
        cluster: Cluster,
        identity: str,
        delivery: Delivery,
        state: SqliteState | None,
        shown: "Shown | None",
    ) -> None:
        # Each start counts as another collector: what an earlier one has said is older, whatever its number.
        term = state.count_up("term") if state else 1
        if shown:
            shown.collects(identity, self.settings.cluster.name or cluster.name, lambda: collector.waiting)
            shown.judges()
            shown.explains(self.incidents.count)
            shown.delivers(delivery.counts)
            if self.calls:
                shown.asks()
        self.notes.active(term)
        cluster.troubles.on_reach = partial(self.notes.said, CLUSTER)
        collector = LiveCollector(
            cluster,
            self.analyzers,
            self.namespaces,
            term=term,
            all_namespaces=self.all_namespaces,
            cluster_id=identity,
            name=self.settings.cluster.name,
            redact=_redact() if self.logs else None,
            on_event=self.notes.watched,
            on_list=self.notes.listed,
        )
        await watch(
            collector,
            self.analyzers,
            delivery,
            self.router,
            cluster.now,
            until_idle=self.until_idle,
            no_hold=self.no_hold,
            state=state,
            incidents=self.incidents,
            silences=of_settings(self.settings),
            calls=self.calls,
            notes=self.notes,
        )


def _for_people() -> Callable[[Finding], bytes]:
    from rich.console import Console

    from kubewhy.cli.told import renderer

    return renderer(Console())


def _redact() -> Callable[[str], str]:
    from explainer.masking import redacted

    return redacted


def _calls(settings: ExplainSettings, notes: Notes) -> "Calls | None":
    if not settings.backends:
        return None
    # What asks models is large: nobody without one waits for it.
    from kubewhy.runtime.calls import Calls
    from kubewhy.runtime.models import explainer

    return Calls(explainer(settings, lambda: datetime.now(UTC), os.environ, notes=notes), settings.at_once)
