"""What people choose of a message: whom it calls, where its buttons lead, and words in place of ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kubewhy.records import Finding, Severity
from sinks.settings import SlackSettings, SlackWebhookSettings, TemplateSettings
from sinks.slack.text import TEXT, prose, size
from sinks.wording import worded


def _title(finding: Finding) -> str:
    return finding.incident.title


def _nothing(finding: Finding) -> str:
    return ""


@dataclass(frozen=True)
class Look:
    """`mentions` is mark-up, by severity. `text` is mark-up too, and empty where ours stands."""

    mentions: Mapping[Severity, str] = field(default_factory=dict)
    buttons: Mapping[str, str] = field(default_factory=dict)
    title: Callable[[Finding], str] = _title
    text: Callable[[Finding], str] = _nothing

    @staticmethod
    def of(settings: SlackSettings | SlackWebhookSettings) -> "Look":
        """As the settings have it. Raises ConfigError for a template that is none."""
        calls = {severity: " ".join(map(_call, ids)) for severity, ids in settings.mention.items()}
        title, _ = worded(TemplateSettings(title=settings.templates.title), _title, _nothing)
        _, text = worded(TemplateSettings(text=settings.templates.text), _title, _nothing, _escaped)
        return Look(calls, settings.buttons, title, lambda finding: _whole(text(finding)))

    @property
    def silent(self) -> "Look":
        """The same without anybody called."""
        return replace(self, mentions={})


def _call(member: str) -> str:
    return f"<!subteam^{member}>" if member.startswith("S") else f"<@{member}>"


def _escaped(line: str) -> str:
    return prose(line, TEXT)


def _whole(text: str) -> str:
    """Half a text might end within an entity, or show half a link."""
    return text if size(text) < TEXT else ""
