"""What stands in the thread beneath an incident's message: its details, and that it is over. Pure."""

from collections.abc import Iterator

from kubewhy.glance import alike, is_digest
from kubewhy.plain import age
from kubewhy.records import Finding, IncidentView, Told
from sinks.slack.blocks import SECTION, Block, Message, code, mark, onset, section, status
from sinks.slack.text import lines, prose, size, verbatim

_ALL = 11_000  # characters of one message
_LINE, _EVIDENCE_LINE = 500, 1000
_OBJECTS, _RULES, _SORTS = 30, 5, 20
_LEFT_OUT = 200  # characters that say that something is left out


def details(finding: Finding) -> Message | None:
    """All that is known of an incident, or None where its message says it already."""
    incident = finding.incident
    if is_digest(incident):
        return None
    found = [*_failures(incident), *_reasons(finding), *_changes(incident), *_evidence(incident)]
    if not found:
        return None
    blocks, used = list[Block](), 0
    for at, each in enumerate(found):
        if used + size(each) > _ALL - _LEFT_OUT or at >= 45:
            blocks.append(section(f"_{len(found) - at} more parts are left out: there is no room for them._"))
            break
        blocks.append(section(each))
        used += size(each)
    return {"text": f"Details: {prose(incident.title, _LINE)}", "blocks": blocks}


def ended(finding: Finding) -> Message:
    """That it is over, for those who follow the thread: nobody is told when a message is edited."""
    return _line(f"{mark(finding.incident)} {status(finding)}", finding)


def worse(finding: Finding, call: str) -> Message:
    """That it has become worse, for those who are to be called from that severity on."""
    return _line(f"{call} {mark(finding.incident)} Now {finding.incident.severity}", finding)


def repeated(finding: Finding) -> Message:
    """That it still lasts."""
    return _line(f"{mark(finding.incident)} Still open after {age(onset(finding.incident), finding.at)}", finding)


def _line(markup: str, finding: Finding) -> Message:
    return {"text": f"{markup}: {prose(finding.incident.title, _LINE)}", "blocks": [section(markup)]}


def _failures(incident: IncidentView) -> Iterator[str]:
    """All objects, where the message names only the first of those that fail alike."""
    together = alike(incident.failures)
    if len(incident.failures) == len(together) <= _RULES:
        return
    told = [f"• {prose(each[0].message, _LINE)}\n      {_objects(each)}" for each in together[:_SORTS]]
    rest = sum(map(len, together[_SORTS:]))
    yield f"*All that fails*\n{lines([*told, *([f'and {rest} more'] if rest else [])], SECTION - 50)}"


def _objects(told: list[Told]) -> str:
    more = f" and {len(told) - _OBJECTS} more" if len(told) > _OBJECTS else ""
    return ", ".join(prose(str(each.object), _LINE) for each in told[:_OBJECTS]) + more


def _reasons(finding: Finding) -> Iterator[str]:
    explanation, words = finding.explanation, finding.incident.words
    if explanation and explanation.why:
        yield f"*Why it matters* (AI)\n{prose(explanation.why, SECTION // 2)}"
    # Without an explanation the first rule's words are in the message.
    told = [
        f"*{prose(each.title or each.rule, _LINE)}*\n{prose(f'{each.why} {each.look}', _LINE * 2)}"
        for each in (words if explanation else words[1:])[:_RULES]
        if (each.why or each.look).strip()
    ]
    if told:
        yield lines(told, SECTION)


def _changes(incident: IncidentView) -> Iterator[str]:
    told = [
        f"• {age(each.at, onset(incident))} before: {prose(f'{each.object}: {each.what}', _LINE)}"
        for each in incident.changes
    ]
    if len(told) > 1:
        yield f"*Changed before*\n{lines(told, SECTION - 50)}"


def _evidence(incident: IncidentView) -> Iterator[str]:
    for seen in incident.evidence:
        shown = [verbatim(line, _EVIDENCE_LINE) for line in seen.lines]
        name = f"*{prose(str(seen.object), _LINE)}*\n"
        if fitting := lines([line for line in shown if line.strip()], SECTION - size(name) - 10):
            yield name + code(fitting.split("\n"))
