"""An AsyncAPI document of what is on Kafka, made from the topics and the records: `python -m kubewhy.asyncapi FILE`.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
https://github.com/asyncapi/bindings/blob/master/kafka/README.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kubewhy.brokers import BrokerSettings
from kubewhy.events import type_of
from kubewhy.records import (
    Answer,
    Claim,
    DeadLetter,
    Evidence,
    Finding,
    Heartbeat,
    Inventory,
    Report,
    SilenceChange,
    Tick,
)
from kubewhy.schemas import components
from kubewhy.topics import (
    CLAIMS,
    DEAD_LETTERS,
    EVIDENCE,
    FAILURES,
    FINDINGS,
    INCIDENTS,
    RESTATED,
    SILENCES,
    SINK_STATE,
    TOPICS,
    Topic,
)

_BINDING = "0.5.0"
_ROW = "row"  # stands for the bytes on topics that have no records

ROLES = {
    "collector": "Watches one cluster, and says how its objects are.",
    "analyzer": "Judges each piece of evidence. With `--with-analyzers` the collector does so itself.",
    "explainer": "Makes incidents of what fails, in the order in which time passes.",
    "sink": "Tells one sink of the settings what it is to know.",
    "command": "What people run now and then. `kubewhy dead-letters retry` also sends again what others had sent.",
}

SENT: tuple[tuple[str, Topic, tuple[type[msgspec.Struct], ...]], ...] = (
    ("collector", EVIDENCE, (Evidence,)),
    ("collector", RESTATED, (Evidence,)),
    ("collector", FAILURES, (Inventory, Heartbeat, Report)),
    ("collector", CLAIMS, (Claim,)),
    ("analyzer", FAILURES, (Report,)),
    ("analyzer", DEAD_LETTERS, (DeadLetter,)),
    ("explainer", FAILURES, (Tick, Answer, SilenceChange)),
    ("explainer", FINDINGS, (Finding,)),
    ("explainer", INCIDENTS, ()),
    ("explainer", DEAD_LETTERS, (DeadLetter,)),
    ("sink", SINK_STATE, ()),
    ("sink", DEAD_LETTERS, (DeadLetter,)),
    ("command", SILENCES, (SilenceChange,)),
)
RECEIVED: tuple[tuple[str, Topic], ...] = (
    ("collector", CLAIMS),
    ("analyzer", EVIDENCE),
    ("analyzer", RESTATED),
    ("explainer", FAILURES),
    ("explainer", SILENCES),
    ("explainer", INCIDENTS),
    ("sink", FINDINGS),
    ("sink", SINK_STATE),
    ("command", FINDINGS),
    ("command", SILENCES),
    ("command", DEAD_LETTERS),
)
_TRANSITIONS = ("opened", "updated", "explained", "resolved", "repeated")


def document() -> dict[str, Any]:
    """What is on Kafka, with the settings' defaults."""
    records = tuple(dict.fromkeys(record for topic in TOPICS for record in topic.records))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kubewhy",
            "version": "1",  # as the topics have it in their names
            "description": (
                "The topics of a fleet. Every record is a CloudEvent in binary mode. It says how something is, not "
                "how it changed: one that comes twice, or late, does no harm. Names, partitions and replicas are "
                "those of the default settings."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": name, "description": says} for name, says in ROLES.items()],
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "Those that `kafka.servers` in the settings names.",
            }
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": dict(_operations()),
        "components": {
            "messages": {_called(record): _message(record) for record in records} | {_ROW: _row()},
            "schemas": {
                name: _draft7(told) for name, told in components(records, "#/components/schemas/{name}").items()
            },
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    defaults = BrokerSettings(servers=("localhost:9092",))
    parts = f"it is partitioned {topic.partitioned}" if topic.spread else "there is one partition"
    ends = " A record without a value ends its key." if topic.compacted else ""
    return {
        "address": defaults.prefix + topic.name,
        "title": topic.name,
        "description": f"{topic.says} The key is {topic.key}; {parts}.{ends}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _names(topic.records)},
        "bindings": {
            "kafka": {
                "topic": defaults.prefix + topic.name,
                "partitions": defaults.partitions if topic.spread else 1,
                "replicas": defaults.replication,
                "topicConfiguration": {key: _value(key, value) for key, value in topic.config.items()},
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for role, topic, records in SENT:
        yield f"{role}-sends-{topic.name}", _operation("send", role, topic, records)
    for role, topic in RECEIVED:
        yield f"{role}-receives-{topic.name}", _operation("receive", role, topic, topic.records)


def _operation(action: str, role: str, topic: Topic, records: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "tags": [{"name": role}],
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in _names(records)],
    }


def _message(record: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": type_of(record),
        "title": record.__name__,
        "summary": " ".join((record.__doc__ or "").split("\n\n")[0].split()),
        "contentType": "application/json",
        "headers": _headers(record),
        "payload": {"$ref": f"#/components/schemas/{record.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": _BINDING}},
    }


def _headers(record: type[msgspec.Struct]) -> dict[str, Any]:
    kind, _, version = type_of(record).rpartition(".")
    types = [f"{kind}.{each}.{version}" for each in _TRANSITIONS] if record is Finding else [type_of(record)]
    told: dict[str, dict[str, Any]] = {
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"enum": types},
        "ce_source": {"pattern": "^/kubewhy(/clusters/.+)?$", "description": "The cluster, where it is of one."},
        "ce_id": {"minLength": 1, "description": "The same whenever the same is said."},
        "content-type": {"const": "application/json"},
    }
    return {
        "type": "object",
        "properties": {name: {"type": "string", **each} for name, each in told.items()},
        "required": list(told),
    }


def _row() -> dict[str, Any]:
    return {
        "name": _ROW,
        "title": "Row",
        "summary": "What a role keeps for itself, in a form of its own: for nobody else to read.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": _BINDING}},
    }


def _names(records: tuple[type[msgspec.Struct], ...]) -> list[str]:
    return [_called(record) for record in records] or [_ROW]


def _called(record: type[msgspec.Struct]) -> str:
    return type_of(record).split(".")[-2]


def _value(key: str, value: str) -> Any:
    if key == "cleanup.policy":
        return value.split(",")
    try:
        return int(value) if value.isdecimal() else float(value)
    except ValueError:
        return value


def _draft7(schema: Any) -> Any:
    """In the draft that AsyncAPI goes by, where the items of a tuple have another name."""
    if isinstance(schema, list):
        return [_draft7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _draft7(value) for key, value in schema.items()}
    if "prefixItems" in told:
        told |= {"items": told.pop("prefixItems"), "additionalItems": False}
    return told


class _Plain(yaml.SafeDumper):
    """Without references from one place to another, which few readers follow."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The document as YAML."""
    return yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
