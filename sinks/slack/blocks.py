"""A finding as a Slack message: header, fields, what is wrong, cause and fix, commands, and a bar in its colour. Pure.

Block Kit's limits (https://docs.slack.dev/reference/block-kit/blocks): 150 characters a header, 3000 a text, 10 fields
of 2000, 50 blocks; and about 12 000 characters in all, beyond which Slack refuses a message. What each part may take
here adds up to less.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

from kubewhy.glance import alike, cluster_of, ending, is_digest
from kubewhy.plain import age, clean
from kubewhy.records import Explanation, Finding, IncidentView, Severity, Told
from sinks.slack.look import Look
from sinks.slack.text import TEXT, lines, prose, size, unformatted, verbatim

Block = dict[str, Any]
Message = dict[str, Any]

HEADER = 150
FIELD = 300
SECTION = TEXT
BUTTON, ADDRESS = 75, 500  # Slack takes addresses of up to 3000, but they count towards the whole
_FALLBACK = 500
_LINE = 400
_WHAT, _CAUSE, _STEP, _COMMANDS = 2000, 900, 400, 1500
_SHOWN, _STEPS, _BUTTONS = 5, 5, 5

_MARKS = {Severity.CRITICAL: "\U0001f534", Severity.WARNING: "\U0001f7e1", Severity.INFO: "\U0001f535"}
_COLOURS = {Severity.CRITICAL: "#d6244f", Severity.WARNING: "#e8a723", Severity.INFO: "#2b8fd6"}
_RESOLVED_MARK, _RESOLVED_COLOUR = "\u2705", "#2eb67d"


def message(finding: Finding, look: Look) -> Message:
    """All there is to see of an incident in its channel."""
    incident = finding.incident
    call = look.mentions.get(incident.severity, "") if is_open(incident) else ""
    ahead = [section(call)] if call else []
    text = look.text(finding)
    body = [section(text)] if text else _body(finding)
    return {
        "text": f"{call} {_fallback(finding, look)}".strip(),
        "blocks": [*ahead, _header(finding, look)],
        "attachments": [
            {"color": colour(incident), "blocks": [*body, _context(finding), *_actions(incident, look)]},
        ],
    }


def compact(finding: Finding, look: Look) -> Message:
    """The same in a few lines, for where nothing can be changed afterwards."""
    incident = finding.incident
    call = look.mentions.get(incident.severity, "") if is_open(incident) else ""
    title = f"{call} {mark(incident)} *{prose(look.title(finding), _LINE)}*".strip()
    told = [f"{status(finding)} · {_object(incident)} in cluster {prose(cluster_of(incident), 100)}"]
    if is_open(incident):
        told.append(what(incident, 3, _WHAT))
    body = section(look.text(finding) or "\n".join(told))
    return {
        "text": f"{call} {_fallback(finding, look)}".strip(),
        "blocks": [section(title)],
        "attachments": [{"color": colour(incident), "blocks": [body, *_actions(incident, look)]}],
    }


def is_open(incident: IncidentView) -> bool:
    """Whether it still lasts."""
    return incident.state != "resolved"


def mark(incident: IncidentView) -> str:
    """How bad it is, at a glance."""
    return _MARKS[incident.severity] if is_open(incident) else _RESOLVED_MARK


def colour(incident: IncidentView) -> str:
    """The same, as the bar beside the message."""
    return _COLOURS[incident.severity] if is_open(incident) else _RESOLVED_COLOUR


def status(finding: Finding) -> str:
    """Open, or resolved after how long and why."""
    incident = finding.incident
    if is_open(incident):
        return "Open"
    lasted = age(onset(incident), incident.resolved_at or finding.at)
    why = ending(incident)
    return f"Resolved after {lasted} ({prose(why, 100)})"


def onset(incident: IncidentView) -> datetime:
    """When it began, which may be long before anybody looked."""
    return min((told.since for told in incident.failures if told.since), default=incident.opened_at)


def what(incident: IncidentView, shown: int, limit: int) -> str:
    """What is broken, a line for all that read alike."""
    if is_digest(incident):
        summary, *named = incident.failures
        each = [f"{_MARKS[told.severity]} {prose(told.message, _LINE)}" for told in named]
        return lines([prose(summary.message, _LINE), *each], limit)
    together = alike(incident.failures)
    told = [f"• {_together(each)}" for each in together[:shown]]
    rest = len(incident.failures) - sum(map(len, together[:shown]))
    return lines([*told, *([f"and {rest} more"] if rest else [])], limit) or "Nothing more is known."


def section(markup: str) -> Block:
    """Text in which mark-up is heeded, but nothing is made a link by its looks."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": markup, "verbatim": True}}


def code(each: Sequence[str]) -> str:
    """Lines as they are, all of which are safe within backticks."""
    return "```\n" + "\n".join(each) + "\n```"


def date(at: datetime) -> str:
    """A moment, which Slack shows in the reader's own time zone."""
    told = at.astimezone(UTC)
    return f"<!date^{int(told.timestamp())}^{{date_short_pretty}} {{time}}|{told:%Y-%m-%d %H:%M} UTC>"


def _body(finding: Finding) -> list[Block]:
    return [
        {"type": "section", "fields": [_field(name, told) for name, told in _fields(finding)]},
        section(what(finding.incident, _SHOWN, _WHAT)),
        *_cause(finding),
        *_commands(finding),
    ]


def _header(finding: Finding, look: Look) -> Block:
    incident = finding.incident
    text = f"{mark(incident)} {unformatted(look.title(finding), HEADER - size(mark(incident)) - 1)}"
    return {"type": "header", "text": {"type": "plain_text", "text": text, "emoji": False}}


def _fallback(finding: Finding, look: Look) -> str:
    """What notifications and screen readers say."""
    incident = finding.incident
    said = str(incident.severity).capitalize() if is_open(incident) else status(finding)
    return f"{said}: {prose(look.title(finding), _FALLBACK)} (cluster {prose(cluster_of(incident), 100)})"


def _fields(finding: Finding) -> list[tuple[str, str]]:
    incident = finding.incident
    root, digest = incident.root, is_digest(incident)
    noun = "incident" if digest else "object"
    told = [
        ("Status", f"{status(finding)}, {incident.severity}" if is_open(incident) else status(finding)),
        ("Cluster", prose(cluster_of(incident), FIELD)),
        ("Namespace", prose(root.namespace or "", FIELD)),
        ("Object", "" if digest else prose(f"{root.kind} {root.name}", FIELD)),
        ("Since", date(onset(incident))),
        ("Count", f"{incident.member_count} {noun}{'' if incident.member_count == 1 else 's'}"),
    ]
    return [(name, value) for name, value in told if value]


def _field(name: str, told: str) -> Block:
    return {"type": "mrkdwn", "text": f"*{name}*\n{told}", "verbatim": True}


def _cause(finding: Finding) -> list[Block]:
    incident = finding.incident
    if finding.explanation:
        return [section(_explained(finding.explanation, is_open(incident))), *_changed(incident)]
    told = []
    words = next(iter(incident.words), None)
    if words and words.why:
        told.append(f"*Why it matters*\n{prose(words.why, _CAUSE)}")
    if words and words.look and is_open(incident):
        told.append(f"*What to do*\n{prose(words.look, _CAUSE)}")
    return [*([section("\n".join(told))] if told else []), *_changed(incident)]


def _explained(explanation: Explanation, lasts: bool) -> str:
    whose = f"by {prose(explanation.model, 100)}, confidence {prose(explanation.confidence, 20)}"
    told = [f"*Likely cause* (AI, {whose})", prose(explanation.cause, _CAUSE)]
    steps = [f"{number}. {prose(step, _STEP)}" for number, step in enumerate(explanation.fix, 1)]
    if steps and lasts:
        told += ["*What to do*", lines(steps[:_STEPS], SECTION // 2)]
    return "\n".join(told)


def _changed(incident: IncidentView) -> list[Block]:
    return [
        section(
            f"*Changed {age(change.at, onset(incident))} before*\n{prose(f'{change.object}: {change.what}', _LINE)}"
        )
        for change in incident.changes[:1]
    ]


def _commands(finding: Finding) -> list[Block]:
    """Only whole ones, for half a command may do something else."""
    if not is_open(finding.incident):
        return []
    found = (finding.explanation.verify if finding.explanation else ()) or finding.incident.commands
    left, kept = _COMMANDS, list[str]()
    for each in (verbatim(command, SECTION) for command in found):
        if size(each) < left:
            kept.append(each)
            left -= size(each) + 1
    return [section(code(kept))] if kept else []


def _context(finding: Finding) -> Block:
    incident, explanation = finding.incident, finding.explanation
    told = [f"incident `{verbatim(incident.id, 100)}`"]
    if words := next(iter(incident.words), None):
        told.append(f"rule {_rule(words.rule, words.docs)}")
    if explanation:
        used = explanation.input_tokens + explanation.output_tokens
        told.append(f"{prose(explanation.backend, 100)}, {'from memory' if explanation.cached else f'{used} tokens'}")
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(told), "verbatim": True}]}


def _rule(rule: str, docs: str) -> str:
    label = prose(rule, 100) or "rule"
    if re.fullmatch(r"https?://[!#-;=?-_a-{}~]+", docs) and len(docs) <= FIELD:
        return f"<{docs.replace('&', '&amp;').replace('@', '%40')}|{label}>"
    return label


def _actions(incident: IncidentView, look: Look) -> list[Block]:
    words = next(iter(incident.words), None)
    values = {
        "cluster": cluster_of(incident),
        "namespace": incident.root.namespace or "",
        "kind": incident.root.kind,
        "name": incident.root.name,
        "incident": incident.id,
        "rule": words.rule if words else "",
    }
    quoted = {name: quote(clean(value), safe="") for name, value in values.items()}
    found = ((label, address.format_map(quoted)) for label, address in look.buttons.items())
    fitting = ((label, address) for label, address in found if size(address) <= ADDRESS)
    buttons = [
        {"type": "button", "action_id": f"link-{at}", "text": {"type": "plain_text", "text": label}, "url": address}
        for at, (label, address) in enumerate(islice(fitting, _BUTTONS))
    ]
    return [{"type": "actions", "elements": buttons}] if buttons else []


def _object(incident: IncidentView) -> str:
    return prose(str(incident.root), FIELD)


def _together(told: list[Told]) -> str:
    more = len(told) - 1
    first = f"{told[0].object}{f' and {more} more' if more else ''}"
    return prose(f"{first}: {told[0].message}", _LINE)
