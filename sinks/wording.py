"""A finding in a few plain lines, for people. What comes from the cluster or a model is still to be escaped."""

from collections.abc import Callable, Iterator

from kubewhy.glance import alike, cluster_of, ending, is_digest
from kubewhy.plain import age, clean
from kubewhy.records import Finding, IncidentView
from sinks.settings import TemplateSettings

Word = Callable[[Finding], str]
_LINE = 300  # characters


def worded(
    templates: TemplateSettings, title: Word, text: Word, escape: Callable[[str], str] = str
) -> tuple[Word, Word]:
    """Title and text as the settings have them, else ours. Raises ConfigError for a template that is none."""
    return _worded("title", templates.title, title, escape), _worded("text", templates.text, text, escape)


def _worded(key: str, source: str | None, ours: Word, escape: Callable[[str], str]) -> Word:
    if source is None:
        return ours
    from sinks.templates import Template

    template = Template(f"templates.{key}", source, escape)
    return lambda finding: template.render(finding, ours(finding))


def headline(finding: Finding) -> str:
    """What it is, where, and how bad; or that it is over."""
    incident = finding.incident
    how = "RESOLVED" if finding.transition == "resolved" else incident.severity.upper()
    return f"{how} {line(incident.title)} (cluster {line(cluster_of(incident))})"


def lines(finding: Finding, shown: int = 3) -> list[str]:
    """What is wrong, so many failures of it at most; what was changed before; and what a model or the rule says."""
    incident = finding.incident
    if finding.transition == "resolved":
        return [f"after {age(incident.opened_at, incident.resolved_at or finding.at)}: {ending(incident)}"]
    return [*_failures(incident, shown), *_changed(incident), *_advice(finding)]


def line(text: str) -> str:
    """One line, not too long."""
    text = " ".join(clean(text).split())
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"


def rule(incident: IncidentView) -> str:
    """The one that names the incident."""
    words, failures = incident.words, incident.failures
    return words[0].rule if words else failures[0].rule if failures else "kubewhy"


def docs(incident: IncidentView) -> str:
    """Where to read of it, if anywhere."""
    return next((words.docs for words in incident.words if words.docs), "")


def _failures(incident: IncidentView, shown: int) -> Iterator[str]:
    together = alike(incident.failures)
    # A digest names only a few, and says itself how many there are.
    named = together if is_digest(incident) else together[:shown]
    for each in named:
        more = f" and {len(each) - 1} more" if len(each) > 1 else ""
        yield line(f"{each[0].object}{more}: {each[0].message}")
    rest = len(incident.failures) - sum(map(len, named))
    if rest:
        yield f"and {rest} more"


def _changed(incident: IncidentView) -> Iterator[str]:
    onset = min((told.since for told in incident.failures if told.since), default=incident.opened_at)
    for change in incident.changes[:1]:
        yield line(f"changed {age(change.at, onset)} before: {change.object}: {change.what}")


def _advice(finding: Finding) -> Iterator[str]:
    if told := finding.explanation:
        yield line(f"{told.cause} (says {told.model} by {told.backend}, confidence {told.confidence})")
        yield from (line(f"{number}. {step}") for number, step in enumerate(told.fix, 1))
        return
    for words in finding.incident.words[:1]:
        if words.look:
            yield line(words.look)
