"""kubewhy why: one object of a cluster or a recording, what is wrong with it, and where that comes from."""

import asyncio
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem
from msgspec.structs import replace
from rich.console import Console

from analyzers import enabled
from collectors.credentials import connect
from collectors.requests import Cluster
from collectors.store import kinds_read
from kubewhy.cli import answered
from kubewhy.cli.answering import Asked, answer
from kubewhy.cli.options import (
    check_namespaces,
    cluster_options,
    complete_kinds,
    from_option,
    judged,
    kinds,
    no_hold_option,
)
from kubewhy.cli.report import Skipped
from kubewhy.cli.text import Scope
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube import GROUPS
from kubewhy.kube.core import PersistentVolume
from kubewhy.kube.meta import Resource
from kubewhy.kube.storage import StorageClass
from kubewhy.records import Ref
from kubewhy.runtime.oneshot import Look, judge, look, look_at_recording
from sinks.stdout import printable

# Nothing judges these, but what fails may come from them.
BLAMED = (
    Resource("ConfigMap", "configmaps"),
    Resource("Namespace", "namespaces", namespaced=False),
    PersistentVolume.resource,
    Resource("PriorityClass", "priorityclasses", group="scheduling.k8s.io", namespaced=False),
    Resource("ResourceQuota", "resourcequotas"),
    Resource("RuntimeClass", "runtimeclasses", group="node.k8s.io", namespaced=False),
    Resource("Secret", "secrets"),
    Resource("ServiceAccount", "serviceaccounts"),
    StorageClass.resource,
)
_NAMED = 3


def object_named(words: Sequence[str]) -> tuple[Resource, str]:
    """The kind and the name meant by `pod/web-0` or `pod web-0`. Raises BadParameter for what is neither."""
    word, slash, name = words[0].partition("/")
    known = {resource.kind: resource for resource in (*judged(), *BLAMED)}
    found = kinds([word], known.values())
    names = [name] if slash else []
    names += words[1:]
    if len(found) != 1 or len(names) > 1:
        raise click.BadParameter("give one object, as KIND/NAME or KIND NAME")
    if not names or not names[0]:
        raise click.BadParameter(f"which {found[0]}? Give its name too, as {word}/NAME")
    if "/" in names[0]:
        raise click.BadParameter(f"{names[0]!r} is no name of a {found[0]}: its namespace goes with -n")
    return known[found[0]], names[0]


def _complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The kind alone: a name would have to be asked for."""
    return [] if context.params.get(parameter.name or "") else complete_kinds(context, parameter, begun)


class _AsCalled(click.Command):
    """Its examples are of the command that was called, which may be `kubectl why`."""

    def get_help(self, ctx: click.Context) -> str:
        return super().get_help(ctx).replace("kubewhy why", ctx.command_path)


@click.command("why", cls=_AsCalled)
@cluster_options
@click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    callback=lambda context, parameter, name: name and check_namespaces([name])[0],
    help="The object's namespace.  [default: the context's own; of a recording any]",
)
@from_option
@no_hold_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument(
    "named",
    metavar="KIND/NAME",
    nargs=-1,
    required=True,
    shell_complete=_complete,
    callback=lambda context, parameter, words: words if context.resilient_parsing else object_named(words),
)
def command(
    kubeconfig: Path | None,
    context: str | None,
    namespace: str | None,
    recording: Path | None,
    no_hold: bool,
    output: str,
    named: tuple[Resource, str],
) -> None:
    """Tell of one object what is wrong with it, where that comes from, and what to look at next.

    KIND is one of kubectl's names for it: pod/web-0, po/web-0 and pod web-0 are the same. Of an incident that the
    object is in: its place there, the way to the root, the evidence, and what changed before. Exit status: 0 it was
    told, 1 it could not be, 2 wrong usage.

    \b
    kubewhy why pod/web-0 -n shop
    kubewhy why deploy web -o json
    kubewhy why node/node-1
    """
    resource, name = named
    analyzers = enabled()
    skipped: list[Skipped] = []
    if recording:
        seen = look_at_recording(recording, analyzers)
        asked = Asked.of(seen, judge(seen, analyzers), Scope("", ""), no_hold=no_hold)
        ref = _in_recording(asked, resource, name, namespace)
    else:
        chosen = str(kubeconfig) if kubeconfig else None
        asked, ref, skipped = asyncio.run(_look(chosen, context, analyzers, resource, name, namespace, no_hold))
    told = answer(asked, ref, analyzers, skipped)
    if not (told.found and told.checked) and not told.incidents and not told.near:
        raise _unknown(asked, ref, resource, judged=bool(told.checked))
    if output == "json":
        click.echo(printable(msgspec.json.encode(told)))
    else:
        answered.show(told, Console(highlight=False), asked.scope)


async def _look(
    kubeconfig: str | None,
    context: str | None,
    analyzers: Sequence[Analyzer[Any]],
    resource: Resource,
    name: str,
    namespace: str | None,
    no_hold: bool,
) -> tuple[Asked, Ref, list[Skipped]]:
    """The object's namespace; and all of them where its incident may reach into others."""
    async with await connect(kubeconfig, context) as cluster:
        space = namespace or cluster.namespace
        scope = Scope(context or cluster.name, "", pinned=bool(context))
        ref = Ref(resource.kind, name, space if resource.namespaced else None, resource.group)
        seen = await look(cluster, analyzers, (space,) if resource.namespaced else ())
        asked = Asked.of(seen, judge(seen, analyzers), scope, no_hold=no_hold)
        if not resource.namespaced or all(group.root.namespace for group in asked.of_object(ref)):
            return asked, ref, []
        wide, why = await _everywhere(cluster, analyzers, seen, space)
        if wide is None:
            return asked, ref, [Skipped("other namespaces", why)]
        return Asked.of(wide, judge(wide, analyzers), scope, no_hold=no_hold), ref, []


async def _everywhere(
    cluster: Cluster, analyzers: Sequence[Analyzer[Any]], seen: Look, space: str
) -> tuple[Look | None, str]:
    """A look at all namespaces; none, and why, where that shows less of the one than the look at it alone."""
    try:
        wide = await look(cluster, analyzers, all_namespaces=True)
    except ConfigError as error:
        return None, str(error)
    for kind in kinds_read(analyzers):
        if seen.store.known(kind.resource, space) and not wide.store.known(kind.resource, space):
            return None, dict(wide.store.refusals()).get(str(kind.resource), "not readable")
    return wide, ""


def _in_recording(asked: Asked, resource: Resource, name: str, namespace: str | None) -> Ref:
    """The object of that name, in whatever namespace it is, if it is in one alone."""
    if not resource.namespaced:
        return Ref(resource.kind, name, None, resource.group)
    if namespace:
        return Ref(resource.kind, name, namespace, resource.group)
    wanted = Ref(resource.kind, name, None, resource.group)
    known = {*asked.named(), *_read(asked.seen, resource)}
    spaces = sorted(each.namespace for each in known if each.namespace and replace(each, namespace=None) == wanted)
    if len(spaces) > 1:
        raise ConfigError(f"{resource.kind} {name} is in the namespaces {', '.join(spaces)}: choose one with -n")
    return Ref(resource.kind, name, spaces[0] if spaces else None, resource.group)


def _read(seen: Look, resource: Resource) -> Iterable[Ref]:
    """Every object of the kind that was read."""
    keys = seen.store.keys(resource.kind) if GROUPS.get(resource.kind) == resource.group else ()
    return (Ref(resource.kind, key.name, key.namespace, resource.group) for key in keys)


def _unknown(asked: Asked, ref: Ref, resource: Resource, *, judged: bool) -> ConfigError:
    """Why there is nothing to say of it."""
    seen = asked.seen
    where = f"namespace {ref.namespace}" if ref.namespace else f"cluster {seen.cluster_name}"
    if not judged:
        return ConfigError(f"{resource.plural} are not judged, and nothing that fails in {where} comes from {ref.name}")
    if not seen.store.known(resource, ref.namespace):
        refused = dict(seen.store.refusals())
        why = refused.get(f"{resource} in {ref.namespace}") or refused.get(str(resource), "it was not read")
        return ConfigError(f"{ref} cannot be looked at: {why}")
    there = sorted({each.name for each in _read(seen, resource) if ref.namespace in (None, each.namespace)})
    near = [each for each in there if each.startswith(ref.name)] or get_close_matches(ref.name, there, n=_NAMED)
    if near:
        return ConfigError(f"there is no {ref}; did you mean {' or '.join(near[:_NAMED])}?")
    more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
    others = f"only {', '.join(there[:_NAMED])}{more}" if there else "and no other either"
    return ConfigError(f"there is no {ref.kind} {ref.name} in {where}, {others}")
