"""What each sort of sink has to be told: closed models, every default here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from kubewhy.buckets import BucketSettings


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


SinkSettings = Annotated[StdoutSettings | FileSettings | S3Settings, Field(discriminator="type")]
