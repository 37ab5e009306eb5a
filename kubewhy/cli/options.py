"""Options that several commands share, and the checks of what is given to them."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from kubewhy.cli.logs import verbose
from kubewhy.kube.meta import LabelSelector, Requirement, Resource
from kubewhy.spelling import hint, is_namespace

Function = TypeVar("Function", bound=Callable[..., Any])


class FilePath(click.Path):
    """A path that is not empty: a variable without a value must not become the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """A time that ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


class Duration(click.ParamType):
    """How long: 90, 30s, 5m, 1h30m. In seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = f"{value}s" if _NUMBER.fullmatch(value) else value
        if not _DURATION.fullmatch(text):
            self.fail(f"{value!r} is no duration: write 30s, 5m, 1h or a number of seconds", param, ctx)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is too long", param, ctx)
        return seconds


_UNITS = {"h": 3600, "m": 60, "s": 1}
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_PART = re.compile(rf"({_NUMBER.pattern})([hms])", re.ASCII)
_DURATION = re.compile(rf"(?=.)(?:{_NUMBER.pattern}h)?(?:{_NUMBER.pattern}m)?(?:{_NUMBER.pattern}s)?", re.ASCII)

# kubectl's, of the kinds that are judged or blamed (`kubectl api-resources`).
SHORT_NAMES = {
    "ConfigMap": "cm",
    "CronJob": "cj",
    "DaemonSet": "ds",
    "Deployment": "deploy",
    "Namespace": "ns",
    "Node": "no",
    "PersistentVolume": "pv",
    "PersistentVolumeClaim": "pvc",
    "Pod": "po",
    "PriorityClass": "pc",
    "ReplicaSet": "rs",
    "ResourceQuota": "quota",
    "Service": "svc",
    "ServiceAccount": "sa",
    "StatefulSet": "sts",
    "StorageClass": "sc",
}


def cluster_options(function: Function) -> Function:
    """Adds `--kubeconfig` (kubeconfig: Path | None), `--context` (context: str | None) and `-v`."""
    function = verbose(function)  # type: ignore[assignment]
    function = click.option(
        "--context",
        metavar="NAME",
        callback=_not_both("recording", check=_not_empty),
        help="The kubeconfig's context to use.  [default: its current one]",
    )(function)
    return click.option(
        "--kubeconfig",
        type=FilePath(),
        metavar="FILE",
        callback=_not_both("recording"),
        help="The kubeconfig to use.  [default: $KUBECONFIG, else ~/.kube/config, else the pod's service account]",
    )(function)


def scope_options(function: Function) -> Function:
    """Adds `-n` (namespaces: tuple[str, ...]) and `-A` (all_namespaces: bool), of which only one may be given."""
    function = click.option(
        "-A",
        "--all-namespaces",
        is_flag=True,
        callback=_not_both("namespaces"),
        help="All namespaces, and an error where that is forbidden.  [default: all, else the context's own]",
    )(function)
    return click.option(
        "-n",
        "--namespace",
        "namespaces",
        multiple=True,
        metavar="NAME",
        callback=_not_both("all_namespaces", check=check_namespaces),
        help="Only this namespace; may be given several times.",
    )(function)


def from_option(function: Function) -> Function:
    """Adds `--from` (recording: Path | None)."""
    return click.option(
        "--from",
        "recording",
        type=FilePath(),
        metavar="FILE",
        callback=_not_both("kubeconfig", "context", "wait", "logs"),
        help="Read a recording made by `kubewhy record` in place of a cluster.",
    )(function)


def kind_option(function: Function) -> Function:
    """Adds `-f` (kinds: tuple[str, ...]); empty means all."""
    return click.option(
        "-f",
        "--filter",
        "kinds",
        multiple=True,
        metavar="KIND",
        shell_complete=complete_kinds,
        callback=lambda context, parameter, values: kinds(values),
        help="Only judge this kind, by kubectl's names (po, deploy, …); may be given several times.",
    )(function)


def wait_option(function: Function) -> Function:
    """Adds `--wait` (wait: float | None), in seconds."""
    return click.option(
        "--wait",
        type=Duration(),
        metavar="DURATION",
        callback=_not_both("recording", "no_hold"),
        help="Watch until everything has settled or something has failed for long enough: 30s, 5m, 1h at most.",
    )(function)


def no_hold_option(function: Function) -> Function:
    """Adds `--no-hold` (no_hold: bool)."""
    return click.option(
        "--no-hold",
        is_flag=True,
        callback=_not_both("wait"),
        help="Tell also what has not lasted long enough yet to count.",
    )(function)


def logs_option(function: Function) -> Function:
    """Adds `--logs` (logs: bool)."""
    return click.option(
        "--logs",
        is_flag=True,
        callback=_not_both("recording"),
        help="Also read the last log lines of containers that died, which needs what `kubewhy rbac --logs` prints.",
    )(function)


def selector_option(function: Function) -> Function:
    """Adds `-l` (selector: LabelSelector | None)."""
    return click.option(
        "-l",
        "--selector",
        metavar="SELECTOR",
        callback=lambda context, parameter, text: None if text is None else selector(text),
        help="Only tell of objects whose labels fit, in kubectl's words: app=web,tier!=db,'zone in (a,b)',!old.",
    )(function)


def _not_empty(name: str | None) -> str | None:
    if name == "":
        raise click.BadParameter("the name is empty")
    return name


def _not_both(*others: str, check: Callable[[Any], Any] = lambda value: value) -> Callable[..., Any]:
    """A callback that refuses the option beside one of the others."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        for other in context.command.params:
            if _given(value) and other.name in others and _given(context.params.get(other.name)):
                first, second = sorted([parameter.opts[-1], other.opts[-1]])
                raise click.UsageError(f"give either {first} or {second}, not both", context)
        return check(value)

    return callback


def _given(value: Any) -> bool:
    return value is not None and value is not False and value != ()


def check_namespaces(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once. Raises BadParameter for what no namespace can be called."""
    for name in names:
        if not is_namespace(name):
            raise click.BadParameter(f"{name!r} is no name of a namespace: a-z, 0-9 and -, at most 63 of them")
    return tuple(dict.fromkeys(names))


def kinds(values: Iterable[str], known: Iterable[Resource] | None = None) -> tuple[str, ...]:
    """The kinds meant by `pod`, `Pods`, `po` or `pod,deploy`, each once; `known` defaults to those that are judged."""
    known = judged() if known is None else tuple(known)
    names: dict[str, str] = {}
    for resource in known:
        names |= dict.fromkeys((resource.kind.lower(), resource.plural), resource.kind)
        if short := SHORT_NAMES.get(resource.kind):
            names[short] = resource.kind
    found: dict[str, None] = {}
    for word in (word.strip() for value in values for word in value.split(",")):
        # `deployments.apps` is how kubectl writes a kind with its group.
        kind = names.get(word.lower()) or names.get(word.lower().partition(".")[0])
        if kind is None:
            every = ", ".join(sorted(dict.fromkeys(names.values())))
            # A short name is near to almost everything.
            near = hint(word, (resource.kind.lower() for resource in known)) or hint(word, names)
            raise click.BadParameter(f"unknown kind {word!r}{near} (known: {every})")
        found[kind] = None
    return tuple(found)


def complete_kinds(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The kinds that a word may become."""
    names = sorted(resource.kind.lower() for resource in judged())
    return [CompletionItem(name) for name in names if name.startswith(begun.lower())]


def judged() -> tuple[Resource, ...]:
    """The kinds that some analyzer judges."""
    from analyzers import enabled

    return tuple(dict.fromkeys(analyzer.reads.resource for analyzer in enabled()))


# Keys are an optional DNS prefix and a name, values at most 63 characters
# (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set).
_KEY = r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})", re.ASCII)
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)", re.ASCII)
_PRESENCE = re.compile(rf"(!?)\s*({_KEY})", re.ASCII)


def selector(text: str) -> LabelSelector:
    """A label selector in kubectl's words. Raises BadParameter naming the part that is not one."""
    # Commas within parentheses part values, not requirements.
    parts = re.split(r",(?![^(]*\))", text)
    return LabelSelector(match_expressions=tuple(_requirement(part.strip()) for part in parts))


def _requirement(part: str) -> Requirement:
    if match := _EQUALITY.fullmatch(part):
        key, operator, value = match.groups()
        return Requirement(key=key, operator="NotIn" if operator == "!=" else "In", values=(value,))
    if match := _SET.fullmatch(part):
        key, operator, values = match.groups()
        within = tuple(value.strip() for value in values.split(","))
        return Requirement(key=key, operator="In" if operator == "in" else "NotIn", values=within)
    if match := _PRESENCE.fullmatch(part):
        absent, key = match.groups()
        return Requirement(key=key, operator="DoesNotExist" if absent else "Exists")
    raise click.BadParameter(f"{part!r} is no label selector; write key=value, key!=value, key in (a,b), key or !key")
