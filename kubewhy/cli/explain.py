"""kubewhy explain: one incident in a model's words; or what of it would leave for a model."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from analyzers import enabled
from collectors.credentials import connect
from explainer.wanting import Subject, Wanted
from kubewhy.cli.incidents import restored
from kubewhy.cli.models import Asking, asking_options, explained, explainer_of, settings_of
from kubewhy.cli.options import FilePath, cluster_options, from_option, logs_option, no_hold_option, scope_options
from kubewhy.cli.text import COLOUR, put, show_explanation
from kubewhy.cli.why import object_named
from kubewhy.errors import ConfigError
from kubewhy.plain import clean
from kubewhy.records import IncidentView, Ref
from kubewhy.runtime.asking import questions
from kubewhy.runtime.oneshot import Analysis, analyze, analyze_recording
from sinks.stdout import printable

PREVIEW = "preview"
_NAMED = 5


@click.command("explain")
@cluster_options
@scope_options
@from_option
@no_hold_option
@click.option(
    "--state",
    "state_file",
    type=FilePath(),
    metavar="FILE",
    help="Take incidents from what `kubewhy run --state FILE` keeps, in place of a cluster.",
)
@logs_option
@asking_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("words", metavar="[preview] [INCIDENT]", nargs=-1)
def command(
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    recording: Path | None,
    no_hold: bool,
    state_file: Path | None,
    logs: bool,
    asking: Asking,
    output: str,
    words: tuple[str, ...],
) -> int:
    """Have a model explain one incident, or show exactly what would leave for it.

    INCIDENT is an object in it, as KIND/NAME, or an id as JSON has it, or how one begins; it may be left out where
    there is one alone. With `preview` nothing is sent: it prints the whole prompt, of all incidents where none is
    named. Only the mark around the data is drawn anew each time. Exit status: 0 it was told, 1 it could not be, 2
    wrong usage.

    \b
    kubewhy explain preview deploy/web -n shop
    kubewhy explain deploy/web -n shop --backend ollama
    kubewhy explain 3f9b --state kubewhy.state
    """
    if state_file and (recording or kubeconfig or context or namespaces or all_namespaces or logs):
        raise click.UsageError("--state goes without a cluster, a recording, namespaces and --logs")
    preview, named = words[:1] == (PREVIEW,), words[1:] if words[:1] == (PREVIEW,) else words
    if len(named) > 1:
        raise click.UsageError("give one incident, as KIND/NAME or its id")
    backend = None if preview else settings_of(asking)
    if state_file:
        found = list(restored(state_file).questions())
    else:
        place = (str(kubeconfig) if kubeconfig else None, context, namespaces, all_namespaces, logs)
        analysis = analyze_recording(recording, enabled(), namespaces) if recording else asyncio.run(_look(*place))
        found = questions(analysis, no_hold=no_hold)
    wanted = _chosen(found, named[0] if named else "", several=preview)
    if preview:
        _preview([each.look() for each in wanted], asking, output)
        return 0
    told = asyncio.run(explained(wanted, asking, backend)) if backend else {}
    view = wanted[0].look().incident
    if view.root not in told:
        raise ConfigError(f"{clean(view.title)}: no model has explained it; `kubewhy why` has the rules' words")
    if output == "json":
        click.echo(printable(msgspec.json.encode({"incident": view, "explanation": told[view.root]})))
    else:
        console = Console(highlight=False)
        head = Text(view.severity.upper(), style=COLOUR[view.severity])
        put(console, head.append(f"  {clean(view.title)}", style="bold"))
        show_explanation(console, told[view.root])
    return 0


async def _look(
    kubeconfig: str | None, context: str | None, namespaces: tuple[str, ...], all_namespaces: bool, logs: bool
) -> Analysis:
    async with await connect(kubeconfig, context) as cluster:
        return await analyze(cluster, enabled(), namespaces, all_namespaces=all_namespaces, logs=logs)


def _chosen(found: Sequence[Wanted], named: str, *, several: bool) -> list[Wanted]:
    """The incident that is meant; without a name, the only one, or where `several` will do, all."""
    views = [each.look().incident for each in found]
    if not found:
        raise ConfigError("there is no incident: nothing that counts is broken (with --no-hold, also what may yet)")
    if not named:
        if len(found) > 1 and not several:
            raise ConfigError(f"there are {len(found)} incidents: name one of {_some(views)}")
        return list(found)
    if re.fullmatch("[0-9a-f]+", named):
        fits = [each for each in found if each.incident.startswith(named)]
    else:
        resource, name = object_named([named])
        fits = [
            each
            for each, view in zip(found, views, strict=True)
            if any((ref.kind, ref.name) == (resource.kind, name) for ref in _objects(view))
        ]
    if not fits:
        raise ConfigError(f"no incident is {named!r} or holds it: there are {_some(views)}")
    if len(fits) > 1:
        raise ConfigError(f"{len(fits)} incidents fit {named!r}: {_some([each.look().incident for each in fits])}")
    return fits


def _objects(view: IncidentView) -> set[Ref]:
    return {view.root, *(told.object for told in view.failures)}


def _some(views: Sequence[IncidentView]) -> str:
    told = [f"{clean(str(view.root))} ({view.id})" for view in views[:_NAMED]]
    more = len(views) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def _preview(subjects: Sequence[Subject], asking: Asking, output: str) -> None:
    explainer = explainer_of(asking, None)
    for subject in subjects:
        prompt = explainer.question(subject).prompt
        if output == "json":
            told = {"incident": subject.incident.id, "system": prompt.system, "user": prompt.user}
            click.echo(printable(msgspec.json.encode(told)))
        else:
            click.echo(f"{prompt.system}\n\n{prompt.user}\n")
