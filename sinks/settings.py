"""What each sort of sink has to be told: closed models, every default here."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class _Sink(BaseModel, extra="forbid", frozen=True):
    """`name` is how routes call it; with `silenced` it is an archive, and gets also what nobody is told.

    With `digest` it is told of many new incidents at once in one digest: the default of what people read in a channel.
    """

    name: str = Field(default="", max_length=63)
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


SinkSettings = Annotated[StdoutSettings, Field(discriminator="type")]
