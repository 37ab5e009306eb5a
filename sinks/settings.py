"""What each sort of sink has to be told: closed models, every default here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from kubewhy.buckets import BucketSettings
from kubewhy.keys import Key
from kubewhy.records import Severity
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


class _Slack(_Sink, frozen=True):
    """`mention` says whom to call at which severity, `buttons` what a message leads to: a label and an address each."""

    digest: bool = True
    mention: dict[Severity, tuple[Member, ...]] = {}
    buttons: dict[Label, Button] = Field(default={}, max_length=5)
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


SinkSettings = Annotated[
    StdoutSettings | FileSettings | S3Settings | SlackSettings | SlackWebhookSettings,
    Field(discriminator="type"),
]
