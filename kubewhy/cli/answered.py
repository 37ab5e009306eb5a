"""What is known of one object, for people."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from analyzers.seen import ConditionSeen, ContainerSeen, EventSeen
from kubewhy.cli.answer import Answer, Held, Incident, Link, Near
from kubewhy.cli.report import Broken, Name
from kubewhy.cli.seen import Change
from kubewhy.cli.text import COLOUR, Scope, advise, age, put, where
from kubewhy.plain import clean

_RELATED = {
    "owns": "which it owns",
    "owned by": "which it belongs to",
    "depends on": "which it depends on",
    "blamed by": "which blames it",
}


def show(answer: Answer, console: Console, scope: Scope) -> None:
    """Prints it all: each incident it is in, or that it is well."""
    now = answer.observed_at
    place = where(answer.cluster.name or answer.cluster.id, scope)
    for number, incident in enumerate(answer.incidents):
        _show_incident(console, answer, incident, now, () if number else _evidence(answer, now))
        put(console, Text())
    if not answer.incidents:
        put(console, _well(answer, place))
        for held in answer.early:
            put(console, Text(_held(held, now)), 2)
        for near in answer.near:
            put(console, Text(_near(near)), 2)
    if answer.skipped:
        put(console, Text("Not looked at", style="yellow"))
        for each in answer.skipped:
            put(console, Text(f"{clean(each.resource)}: {clean(each.reason)}"), 2)
    if answer.incidents:
        put(console, Text(f"({place})", style="dim"))


def _well(answer: Answer, place: str) -> Text:
    name = label(answer.object)
    state = f"; {clean(answer.state)}" if answer.state else ""
    if answer.place == "unknown":
        return Text(
            f"{name} could not be judged, which is a bug in kubewhy: -v says more{state} ({place})", style="yellow"
        )
    if answer.near and not answer.checked:
        return Text(f"{name} is not judged itself{state} ({place})")
    rules = f"none of {len(answer.checked)} rules for its kind is broken{' for long' if answer.early else ''}"
    if answer.early or answer.near:
        return Text(f"{name} is not to blame so far: {rules}{state} ({place})")
    return Text(f"{name} is well: {rules}{state} ({place})", style="green")


def _held(held: Held, now: datetime) -> str:
    return f"{clean(held.failure.message).rstrip('.')}: counts in {age(now, held.counts_at)}, if it lasts"


def _near(near: Near) -> str:
    return f"{label(near.object)}, {_RELATED[near.how]}, is in an incident: {clean(near.title)}"


def label(name: Name) -> str:
    """As `Pod shop/web-0`."""
    return clean(f"{name.kind} {name.namespace}/{name.name}" if name.namespace else f"{name.kind} {name.name}")


def _show_incident(
    console: Console, answer: Answer, incident: Incident, now: datetime, evidence: Iterable[str]
) -> None:
    pending = incident.state == "pending"
    head = Text(
        "PENDING" if pending else incident.severity.upper(), style="dim" if pending else COLOUR[incident.severity]
    )
    head.append(f"  {clean(incident.title)}", style="" if pending else "bold")
    put(console, head)
    put(console, Text(_place(answer.object, incident, now)), 2)
    for failure in incident.failures:
        put(console, _failure(failure, incident.since, now), 4)
    for held in incident.pending:
        put(console, Text(_held(held, now)), 4)
    for link in incident.chain[1:]:
        put(console, Text(_link(link, incident)), 4)
    _section(console, "evidence", evidence)
    _section(console, "changed before", (_change(each, now) for each in incident.changes))
    _section(console, "also in it", _others(incident))
    advise(console, incident.why, incident.docs, incident.look, incident.next)


def _section(console: Console, title: str, lines: Iterable[str]) -> None:
    told = list(lines)
    if told:
        put(console, Text(f"{title}:"), 2)
    for line in told:
        put(console, Text(line), 4)


def _place(name: Name, incident: Incident, now: datetime) -> str:
    since = f"for {age(incident.since, now)}" if incident.since else "since when is unknown"
    place = "the root" if incident.place == "root" else f"a symptom of {label(incident.root)}"
    counts = f"; counts in {age(now, incident.counts_at)}, if it lasts" if incident.counts_at else ""
    return f"{label(name)} is {place}, {since}{counts}"


def _failure(failure: Broken, since: datetime | None, now: datetime) -> Text:
    told = Text(clean(failure.message))
    if failure.since and failure.since != since:
        told.append(f" ({age(failure.since, now)})", style="dim")
    return told


def _link(link: Link, incident: Incident) -> str:
    root = ", the root" if link.object == incident.root else ""
    says = f": {clean(link.message)}" if link.message else ""
    return f"{link.how} {label(link.object)}{root}{says}"


def _evidence(answer: Answer, now: datetime) -> Iterator[str]:
    if answer.found is False:
        yield "there is no such object"
    if answer.state:
        yield clean(answer.state)
    alike: dict[tuple[str, ...], list[ConditionSeen]] = {}
    for told in answer.evidence.conditions:
        if not told.good:
            alike.setdefault((told.status, told.reason, told.message, str(told.since)), []).append(told)
    for each in alike.values():
        yield _conditions(each, now)
    for container in answer.evidence.containers:
        if not container.ready or container.exit not in (None, 0):
            yield _container(container, now)
    warnings = [each for each in answer.evidence.events if each.type == "Warning"]
    for event in warnings or answer.evidence.events:
        yield _event(event, now)


def _conditions(alike: Sequence[ConditionSeen], now: datetime) -> str:
    told, names = alike[0], ", ".join(clean(each.type) for each in alike)
    verb = "conditions {} are" if len(alike) > 1 else "condition {} is"
    since = f" for {age(told.since, now)}" if told.since else ""
    why = ": ".join(clean(each) for each in (told.reason, told.message) if each)
    return f"{verb.format(names)} {clean(told.status)}{since}{f': {why}' if why else ''}"


def _container(container: ContainerSeen, now: datetime) -> str:
    told = f"{container.sort} {clean(container.name)}: {container.state}"
    told += f" ({clean(container.reason)})" if container.reason else ""
    told += "" if container.ready or container.state != "running" else ", not ready"
    if container.exit is not None:
        when = f" {age(container.ended_at, now)} ago" if container.ended_at else ""
        told += f"; ended{when} with {container.exit_words}"
    return f"{told}; restarts: {container.restarts}" if container.restarts else told


def _event(event: EventSeen, now: datetime) -> str:
    when = f"{age(event.at, now)} ago" if event.at else "at an unknown time"
    times = f", {event.count} times" if event.count > 1 else ""
    return f"event {clean(event.reason)} ({when}{times}): {clean(event.message)}"


def _change(change: Change, now: datetime) -> str:
    return f"{label(change.object)}, {age(change.at, now)} ago: {clean(change.what)}"


def _others(incident: Incident) -> Iterator[str]:
    for other in incident.others:
        yield f"{label(other.object)}: {clean(other.message)}"
    more = incident.other_count - len(incident.others)
    if more:
        yield f"and {more} more"
