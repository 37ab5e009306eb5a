"""JSON Schemas of what kubewhy writes, made from the records: `python -m kubewhy.schemas FOLDER`."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, Raw
from msgspec.structs import FieldInfo, fields

from kubewhy.cli.answer import Answer
from kubewhy.cli.report import Document
from kubewhy.records import Answer as ModelAnswer
from kubewhy.records import Claim, DeadLetter, Evidence, Finding, Heartbeat, Inventory, Report, SilenceChange

DRAFT = "https://json-schema.org/draft/2020-12/schema"

# File name to record. `analysis` is what `kubewhy analyze -o json` prints, `answer` what `kubewhy why` does, and
# `finding` is a line of `kubewhy run`.
DOCUMENTS: dict[str, type[msgspec.Struct]] = {
    "analysis": Document,
    "answer": Answer,
    "evidence": Evidence,
    "report": Report,
    "inventory": Inventory,
    "heartbeat": Heartbeat,
    "finding": Finding,
    "silence": SilenceChange,
    "model-answer": ModelAnswer,
    "claim": Claim,
    "dead-letter": DeadLetter,
}


def schema(record: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of one record, with all it refers to."""
    definitions = components([record], "#/$defs/{name}")
    return {"$schema": DRAFT, "$ref": f"#/$defs/{record.__name__}", "$defs": definitions}


def components(records: Iterable[type[msgspec.Struct]], reference: str) -> dict[str, Any]:
    """The schemas of records and of all they refer to, by name. `reference` is how one refers to `{name}`."""
    chosen = list(records)
    _, found = msgspec.json.schema_components(map(_plain, chosen), ref_template=reference)
    titled = {record.__name__: {"title": record.__name__, **found[record.__name__]} for record in chosen}
    return dict(sorted({**found, **titled}.items()))


def _plain(record: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The record with its raw JSON as any JSON: msgspec cannot write a Raw default into a schema."""
    told = fields(record)
    if not any(isinstance(field.default, Raw) for field in told):
        return record
    config = record.__struct_config__
    twin = msgspec.defstruct(
        record.__name__,
        [_field(each) for each in told],
        tag=config.tag,
        tag_field=config.tag_field,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=config.forbid_unknown_fields,
    )
    twin.__doc__ = record.__doc__
    return twin


def _field(told: FieldInfo) -> Any:
    if isinstance(told.default, Raw):
        return (told.name, Any, msgspec.json.decode(told.default))
    if told.default is not NODEFAULT:
        return (told.name, told.type, told.default)
    if told.default_factory is not NODEFAULT:
        return (told.name, told.type, msgspec.field(default_factory=told.default_factory))
    return (told.name, told.type)


def render() -> dict[str, str]:
    """File name to text, for every document."""
    return {
        f"{name}.json": json.dumps(schema(record), indent=2, sort_keys=True) + "\n"
        for name, record in DOCUMENTS.items()
    }


def main(folder: Path) -> None:
    """Writes every schema to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
