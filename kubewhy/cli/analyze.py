"""kubewhy analyze: one look at a cluster or a recording."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from analyzers import enabled
from collectors.credentials import connect
from kubewhy.cli import text
from kubewhy.cli.models import Asking, asking_options, explained, settings_of
from kubewhy.cli.options import (
    cluster_options,
    from_option,
    kind_option,
    logs_option,
    no_hold_option,
    scope_options,
    selector_option,
    wait_option,
)
from kubewhy.cli.report import met, report
from kubewhy.cli.waiting import Progress, told
from kubewhy.contracts import Analyzer
from kubewhy.kube.meta import LabelSelector
from kubewhy.records import Explanation, Ref, Severity
from kubewhy.runtime.oneshot import Analysis, analyze, analyze_recording
from kubewhy.runtime.settling import Ending, Waited, settle
from sinks.stdout import printable

FOUND = 3


@click.command("analyze")
@cluster_options
@scope_options
@from_option
@kind_option
@selector_option
@no_hold_option
@wait_option
@logs_option
@click.option("--explain", is_flag=True, help="Have a model explain each incident: see `kubewhy backends`.")
@asking_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--fail-on",
    type=click.Choice([severity.value for severity in Severity]),
    help="Exit with 3 when an incident is that bad or worse; with --wait, heed none that is less.",
)
def command(
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    recording: Path | None,
    kinds: tuple[str, ...],
    selector: LabelSelector | None,
    no_hold: bool,
    wait: float | None,
    logs: bool,
    explain: bool,
    asking: Asking,
    output: str,
    fail_on: str | None,
) -> int:
    """Tell once what is broken, why, and what to do.

    Incidents come first, the worst at the top, with what they bring down beneath them. What has not lasted long
    enough to count is listed apart. Exit status: 0 it ran, 1 it could not, 2 wrong usage, 3 --fail-on was met.

    With --wait, as after a deployment, this is told once every rollout, job and pod in scope has come to its end and
    no failure is left that may yet count (status 0), or as soon as one counts (1, or 3 with --fail-on), or when the
    time is over (1). With -n, what is in no namespace is not waited for, and does not end the waiting.

    \b
    kubewhy analyze                           the whole cluster
    kubewhy analyze -n shop -l app=web        one namespace, one application
    kubewhy analyze -f deploy --fail-on critical -o json
    kubewhy analyze -n shop --wait 5m         after `kubectl apply`, in a pipeline
    kubewhy analyze --explain --language German
    """
    if logs and not explain:
        raise click.UsageError("--logs goes with --explain: a model reads them, and no rule does")
    if not explain and not asking.is_default:
        raise click.UsageError("--backend, --language, --no-cache and --no-mask go with --explain")
    # Before anything is read: a name that is wrong is told at once.
    backend = settings_of(asking) if explain else None
    analyzers = [analyzer for analyzer in enabled() if not kinds or analyzer.name in kinds]
    waited: Waited | None = None
    if recording:
        analysis = analyze_recording(recording, analyzers, namespaces, selector=selector)
    else:
        chosen = str(kubeconfig) if kubeconfig else None
        looking = _Looking(chosen, context, analyzers, namespaces, all_namespaces, selector, logs)
        if wait is None:
            analysis = asyncio.run(looking.once())
        else:
            waited = asyncio.run(looking.until_settled(wait, Severity(fail_on) if fail_on else None))
            analysis = waited.analysis
    explanations: dict[Ref, Explanation] = {}
    if backend:
        from kubewhy.runtime.asking import questions

        explanations = asyncio.run(explained(questions(analysis, no_hold=no_hold), asking, backend))
    document = report(analysis, no_hold, explanations)
    if output == "json":
        click.echo(printable(msgspec.json.encode(document)))
    else:
        named = "" if recording else context or analysis.cluster_name
        scope = text.Scope(named, _where(analysis), pinned=bool(context))
        text.show(analysis, Console(highlight=False), scope, no_hold=no_hold, explanations=explanations)
    if waited:
        click.echo(told(waited, document, wait or 0.0), err=True)
        return 0 if waited.ending is Ending.SETTLED else FOUND if fail_on and waited.ending is Ending.FIRED else 1
    return FOUND if fail_on and met(document, fail_on) else 0


@dataclass(frozen=True)
class _Looking:
    """Where to look, and for what."""

    kubeconfig: str | None
    context: str | None
    analyzers: Sequence[Analyzer[Any]]
    namespaces: tuple[str, ...]
    all_namespaces: bool
    selector: LabelSelector | None
    logs: bool

    async def once(self) -> Analysis:
        async with await connect(self.kubeconfig, self.context) as cluster:
            return await analyze(
                cluster,
                self.analyzers,
                self.namespaces,
                all_namespaces=self.all_namespaces,
                selector=self.selector,
                logs=self.logs,
            )

    async def until_settled(self, seconds: float, level: Severity | None) -> Waited:
        async with await connect(self.kubeconfig, self.context) as cluster:
            with Progress() as progress:
                return await settle(
                    cluster,
                    self.analyzers,
                    self.namespaces,
                    seconds=seconds,
                    level=level,
                    all_namespaces=self.all_namespaces,
                    selector=self.selector,
                    logs=self.logs,
                    on_progress=progress.show,
                )


def _where(analysis: Analysis) -> str:
    if not analysis.namespaces:
        return "all namespaces"
    return ("namespace " if len(analysis.namespaces) == 1 else "namespaces ") + ", ".join(analysis.namespaces)
