"""What one look at a cluster found, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.text import Text

from explainer.commands import commands as next_commands
from explainer.correlation import Group, leading
from kubewhy.cli import explained
from kubewhy.cli.report import Verdict, by_object, judge
from kubewhy.plain import age as age
from kubewhy.plain import clean
from kubewhy.records import Explanation, Failure, Ref, Severity
from kubewhy.runtime.oneshot import Analysis

SHOWN = 5

COLOUR = {Severity.CRITICAL: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold blue"}


@dataclass(frozen=True)
class Scope:
    """Where we looked. `pinned` repeats the context in each command, for it is not the one kubectl would take."""

    context: str
    where: str = "all namespaces"
    pinned: bool = False


def show(
    analysis: Analysis,
    console: Console,
    scope: Scope,
    *,
    no_hold: bool = False,
    explanations: Mapping[Ref, Explanation] = {},
) -> None:
    """Prints it all: incidents, what is pending, what was skipped, and one line that sums up.

    `explanations` are what a model says, by the roots of incidents.
    """
    verdict = judge(analysis, no_hold)
    for group in verdict.groups:
        _show_incident(console, group, analysis.observed_at, scope)
        if group.root in explanations:
            show_explanation(console, explanations[group.root])
        put(console, Text())
    if verdict.pending:
        _show_pending(console, verdict.pending, analysis.observed_at)
    if analysis.skipped:
        put(console, Text("Not looked at", style="yellow"))
        for resource, reason in sorted(analysis.skipped):
            put(console, Text(f"{clean(resource)}: {clean(reason)}"), 2)
        put(console, Text())
    put(console, _summary(analysis, verdict, scope))


def _show_incident(console: Console, group: Group, now: datetime, scope: Scope) -> None:
    head = Text(group.severity.upper(), style=COLOUR[group.severity])
    head.append(f"  {clean(group.title)}", style="bold")
    put(console, head)
    since = f"for {age(group.since, now)}" if group.since else "since when is unknown"
    put(console, Text(f"root: {label(group.root)}, {since}"), 2)
    members = by_object(group)
    for ref, failures in list(members.items())[:SHOWN]:
        indent = 2 if ref == group.root else 4
        for failure in failures:
            put(console, _evidence(ref, failure, group, now), indent)
    if len(members) > SHOWN:
        put(console, Text(f"and {len(members) - SHOWN} more"), 4)

    _, lead = leading(group.root, group.members)
    docs = list(dict.fromkeys(failure.docs for _, failure in group.members if failure.docs))[:2]
    advise(console, lead.why, docs, lead.look, commands(group, scope))


def show_explanation(console: Console, explanation: Explanation) -> None:
    """A model's words, told from the rules' own."""
    head = Text("explained: ").append_text(explained.source(explanation))
    put(console, head, 2)
    for line in explained.words(explanation):
        put(console, line, 4)
    for line in explained.commands(explanation):
        put(console, line, 4, whole=True)


def advise(console: Console, why: str, docs: Sequence[str], look: str, to_run: Sequence[str]) -> None:
    """Why it matters, where to read of it, and what to do next."""
    if why:
        put(console, Text(f"why it matters: {clean(why)}"), 2)
    for link in docs:
        put(console, Text(f"docs: {clean(link)}"), 2, whole=True)
    if look or to_run:
        put(console, Text(f"next: {clean(look)}"), 2)
    for command in to_run:
        put(console, Text(command, style="cyan"), 4, whole=True)


def _evidence(ref: Ref, failure: Failure, group: Group, now: datetime) -> Text:
    told = Text(label(ref))
    if failure.container:
        told.append(f" [{clean(failure.container)}]")
    told.append(f": {clean(failure.message)}")
    if failure.since and failure.since != group.since:
        told.append(f" ({age(failure.since, now)})", style="dim")
    return told


def _show_pending(console: Console, groups: list[Group], now: datetime) -> None:
    put(console, Text("Not yet counted: within the time it may take", style="dim"))
    for group in groups:
        members = list(by_object(group).items())
        for ref, failures in members[:SHOWN]:
            for failure in failures:
                told = _evidence(ref, failure, group, now)
                put(console, Text(told.plain, style="dim"), 2)
        if len(members) > SHOWN:
            put(console, Text(f"and {len(members) - SHOWN} more", style="dim"), 2)
    put(console, Text())


def _summary(analysis: Analysis, verdict: Verdict, scope: Scope) -> Text:
    place = where(analysis.cluster_name or analysis.cluster_id, scope)
    waiting = sum(len(group.members) for group in verdict.pending)
    aside = f", {waiting} not yet counted" if waiting else ""
    if not verdict.groups:
        return Text(f"Nothing is broken among {_count(analysis.objects, 'object')}{aside} ({place}).", style="green")
    failures = sum(len(group.members) for group in verdict.groups)
    found = f"{_count(len(verdict.groups), 'incident')}, {_count(failures, 'failure')}"
    return Text(f"{found} among {_count(analysis.objects, 'object')}{aside} ({place}).")


def where(cluster: str, scope: Scope) -> str:
    """The place that was looked at."""
    place = f"cluster {clean(cluster)}"
    place += f", context {clean(scope.context)}" if scope.context else ""
    return f"{place}, {clean(scope.where)}" if scope.where else place


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def commands(group: Group, scope: Scope) -> list[str]:
    """What to run next."""
    return list(next_commands(group.root, group.members, scope.context if scope.pinned else ""))


def label(ref: Ref) -> str:
    """An object's name, as a terminal may show it."""
    return clean(str(ref))


def put(console: Console, text: Text, indent: int = 0, *, whole: bool = False) -> None:
    """A line. It wraps on a terminal only, and never where it is to be copied."""
    lines = [text] if whole or not console.is_terminal else text.wrap(console, max(20, console.width - indent))
    for line in lines or [text]:
        line.rstrip()
        console.print(Text(" " * indent) + line, soft_wrap=True, highlight=False)
