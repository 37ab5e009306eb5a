"""Findings as lines on a terminal, as they come."""

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from explainer.digests import is_digest
from explainer.wording import alike
from kubewhy.cli import explained
from kubewhy.cli.text import COLOUR, age
from kubewhy.plain import clean
from kubewhy.records import Explanation, Finding, IncidentView, Told

SHOWN = 3


def renderer(console: Console) -> Callable[[Finding], bytes]:
    """What makes a finding into lines as wide and colourful as the console allows."""

    def render(finding: Finding) -> bytes:
        with console.capture() as captured:
            for line in lines(finding):
                console.print(line, soft_wrap=True, highlight=False)
        return captured.get().encode(console.encoding, "replace")

    return render


def lines(finding: Finding) -> list[Text]:
    """What happened, and beneath it, unless it is over, what is wrong. What a digest stands for has no lines. Pure."""
    if finding.digest:
        return []
    incident = finding.incident
    over = finding.transition == "resolved"
    head = Text()
    head.append(f"{finding.at:%H:%M:%S}  ", style="dim")
    head.append(f"{finding.transition.upper():<9} ", style="green" if over else "bold")
    head.append(f"{incident.severity.upper():<9} ", style="dim" if over else COLOUR[incident.severity])
    head.append(clean(incident.title), style="" if over else "bold")
    if over:
        lasted = age(incident.opened_at, incident.resolved_at or finding.at)
        head.append(f"  ({incident.resolution} after {lasted})", style="dim")
        return [head]
    if finding.transition == "explained" and finding.explanation:
        return [head, *_explained(finding.explanation)]
    # A digest names only a few, and says itself how many there are.
    named = alike(incident.failures)[: None if is_digest(incident) else SHOWN]
    shown = [Text(f"{'':10}{_words(each)}") for each in named]
    rest = len(incident.failures) - sum(map(len, named))
    more = [Text(f"{'':10}and {rest} more", style="dim")] if rest else []
    advice = _advice(finding) if finding.transition == "opened" else ()
    return [head, *shown, *more, *_changed(incident), *advice]


def _explained(explanation: Explanation) -> Iterator[Text]:
    """What a model says, and which."""
    said = explained.words(explanation, briefly=True)
    for line in (*said, *explained.commands(explanation), explained.source(explanation)):
        yield Text(" " * 10) + line


def _changed(incident: IncidentView) -> Iterator[Text]:
    """What was changed last, which may become known only after the incident was opened."""
    onset = min((told.since for told in incident.failures if told.since), default=incident.opened_at)
    for change in incident.changes[:1]:
        words = f"{clean(str(change.object))}: {clean(change.what)}"
        yield Text(f"{'':10}changed {age(change.at, onset)} before: {words}", style="yellow")


def _advice(finding: Finding) -> Iterator[Text]:
    """What to do, from the rule that names the incident."""
    incident = finding.incident
    for words in incident.words[:1]:
        if words.look:
            yield Text(f"{'':10}{clean(words.look)}", style="dim")
    # What is blamed is to be looked at itself; of others the last tells most, as a log does.
    blamed = any(told.cause == incident.root for told in incident.failures)
    for command in incident.commands[:1] if blamed else incident.commands[-1:]:
        yield Text(f"{'':10}{clean(command)}", style="cyan")


def _words(told: Sequence[Told]) -> str:
    first, more = told[0], len(told) - 1
    return f"{clean(str(first.object))}{f' and {more} more' if more else ''}: {clean(first.message)}"
