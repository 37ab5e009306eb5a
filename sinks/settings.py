"""What each sort of sink has to be told: closed models, every default here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from kubewhy.buckets import BucketSettings
from kubewhy.keys import Key
from kubewhy.records import Severity
from sinks.addresses import Address, BaseAddress, HeaderName, HeaderValue, LabelName
from sinks.slack.ids import Base, Button, Channel, Label, Member


class _Sink(BaseModel, extra="forbid", frozen=True):
    """`name` is how routes call it; with `silenced` it is an archive, and gets also what nobody is told.

    With `digest` it is told of many new incidents at once in one digest: the default of what people read in a channel.
    """

    name: str = Field(default="", max_length=63, pattern=r"^[^\x00-\x1f]*$")
    silenced: bool = False
    digest: bool = False

    @property
    def called(self) -> str:
        """Its name, or its type where it has none."""
        told: str = self.name or getattr(self, "type", "")
        return told


class StdoutSettings(_Sink, frozen=True):
    """Standard output: lines for people on a terminal, else one JSON object a line."""

    type: Literal["stdout"]


class FileSettings(_Sink, frozen=True):
    """A file to which each finding is appended, as one line of JSON."""

    type: Literal["file"]
    path: Path


class S3Settings(_Sink, BucketSettings, frozen=True):
    """An archive of every transition on S3, or on what speaks as it does."""

    type: Literal["s3"]
    silenced: bool = True


class TemplateSettings(BaseModel, extra="forbid", frozen=True):
    """Texts in place of ours: docs/templates.md."""

    title: str | None = None
    text: str | None = None


class _Slack(_Sink, frozen=True):
    """`mention` says whom to call at which severity, `buttons` what a message leads to: a label and an address each."""

    digest: bool = True
    mention: dict[Severity, tuple[Member, ...]] = {}
    buttons: dict[Label, Button] = Field(default={}, max_length=5)
    templates: TemplateSettings = TemplateSettings()
    ca_file: Path | None = None  # in place of the authorities that this machine trusts
    timeout_seconds: float = Field(default=30.0, gt=0, le=300)


class SlackSettings(_Slack, frozen=True):
    """A Slack app with a bot token: one message an incident, which is kept up to date."""

    type: Literal["slack"]
    channel: Channel
    token: Key = Key(env="SLACK_BOT_TOKEN")
    url: Base = "https://slack.com/api/"


class SlackWebhookSettings(_Slack, frozen=True):
    """A Slack incoming webhook, which can only add: a message when an incident opens, and one when it is over."""

    type: Literal["slack-webhook"]
    url_key: Key = Key(env="SLACK_WEBHOOK_URL")


class BasicSettings(BaseModel, extra="forbid", frozen=True):
    """A user, and where the password is."""

    user: str = Field(min_length=1, max_length=255, pattern=r"^[^:\x00-\x1f]+$")
    password: Key


class CertificateSettings(BaseModel, extra="forbid", frozen=True):
    """What we are known by, in PEM files. Without a key file, the first holds the key too."""

    file: Path
    key_file: Path | None = None


class HttpSettings(_Sink, frozen=True):
    """Proxies are found as curl finds them: HTTPS_PROXY, NO_PROXY. In `headers`, a secret is told by its place."""

    bearer: Key | None = None
    basic: BasicSettings | None = None
    headers: dict[HeaderName, HeaderValue] = {}
    certificate: CertificateSettings | None = None
    ca_file: Path | None = None  # in place of the authorities that this machine trusts
    timeout_seconds: float = Field(default=10.0, gt=0, le=300)

    @model_validator(mode="after")
    def _one_who(self) -> "HttpSettings":
        known = {name.lower(): told for name, told in self.headers.items()}
        told = [self.bearer is not None, self.basic is not None, "authorization" in known]
        if sum(told) > 1:
            raise ValueError("give one of `bearer`, `basic` and the header Authorization")
        for name in ("authorization", "proxy-authorization", "x-api-key"):
            if isinstance(known.get(name), str):
                raise ValueError(f"headers.{name}: tell where the secret is, not the secret: {{env: NAME}}")
        return self


class WebhookSettings(HttpSettings, frozen=True):
    """An address to which each finding is posted. It may itself be a secret: `url_key` tells where it is."""

    type: Literal["webhook"]
    url: Address | None = None
    url_key: Key | None = None
    format: Literal["alertmanager", "cloudevents"] = "alertmanager"
    signing_key: Key | None = None
    labels: dict[LabelName, str] = {}
    templates: TemplateSettings = TemplateSettings()

    @model_validator(mode="after")
    def _agree(self) -> "WebhookSettings":
        if (self.url is None) == (self.url_key is None):
            raise ValueError("give `url` or `url_key`, where the address is")
        if self.format == "cloudevents" and (self.labels or self.templates != TemplateSettings()):
            raise ValueError(
                "`labels` and `templates` are for `format: alertmanager`; the other sends the whole finding"
            )
        return self


class AlertmanagerSettings(HttpSettings, frozen=True):
    """Alertmanager's API: `urls` are those of one cluster. An alert lasts for `lasts_minutes` without us."""

    type: Literal["alertmanager"]
    urls: tuple[BaseAddress, ...] = Field(min_length=1)
    lasts_minutes: float = Field(default=15.0, ge=3, le=1440)
    labels: dict[LabelName, str] = {}
    templates: TemplateSettings = TemplateSettings()


class NotifySettings(_Sink, frozen=True):
    """A service that apprise knows. Its address is a secret: `url_key` tells where it is."""

    type: Literal["notify"]
    url_key: Key
    digest: bool = True
    timeout_seconds: float = Field(default=30.0, gt=0, le=300)
    templates: TemplateSettings = TemplateSettings()


class PagerDutySettings(HttpSettings, frozen=True):
    """PagerDuty's Events API v2. `url` is for the European region, or whoever speaks the same."""

    type: Literal["pagerduty"]
    routing_key: Key
    url: BaseAddress = "https://events.pagerduty.com"
    digest: bool = True
    templates: TemplateSettings = TemplateSettings()


class OpsgenieSettings(HttpSettings, frozen=True):
    """Opsgenie's alerts, which Jira Service Management takes as well at its own `url`."""

    type: Literal["opsgenie"]
    api_key: Key
    url: BaseAddress = "https://api.opsgenie.com"
    digest: bool = True
    templates: TemplateSettings = TemplateSettings()


SinkSettings = Annotated[
    StdoutSettings
    | FileSettings
    | S3Settings
    | SlackSettings
    | SlackWebhookSettings
    | WebhookSettings
    | AlertmanagerSettings
    | NotifySettings
    | PagerDutySettings
    | OpsgenieSettings,
    Field(discriminator="type"),
]
