"""Records as CloudEvents on Kafka, in binary mode: the record's JSON is the value, all about it stands in headers.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Mapping, Sequence
from functools import cache, reduce
from hashlib import blake2b
from operator import or_
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from kubewhy.errors import Rejected
from kubewhy.records import Claim, DeadLetter, Evidence, Finding, Report, SilenceChange, encode
from kubewhy.topics import CLAIMS, DEAD_LETTERS, EVIDENCE, FAILURES, FINDINGS, RESTATED, SILENCES, Topic, object_key

Headers = Sequence[tuple[str, bytes]]

ALONE = "kubewhy-only"  # the header of a finding that is for the sink of that name alone: it says nothing new

_TYPE = "dev.kubewhy."
_VERSION = "v1"
_LONGEST = 300  # characters of a reason
FLEET = "fleet"  # stands for all clusters at once


class Message(NamedTuple):
    """A record as it is sent. What belongs to one cluster goes to one partition, where a topic has it so."""

    topic: Topic
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]
    cluster: str = ""
    partition: int | None = None  # None: by the cluster, or by the key


def message(record: msgspec.Struct, *, cluster: str = "", topic: Topic | None = None) -> Message:
    """The record for its topic, or another one. `cluster` is whose partition it goes to, where it does not say so."""
    place, key = _goes(record)
    cluster = cluster or getattr(record, "cluster", "")
    value = encode(record)
    if isinstance(record, Finding):
        name, cluster, known = f"finding.{record.transition}", record.incident.cluster, record.id
    else:
        # The same is said under the same id, and all else under another.
        name, known = _name(type(record)), blake2b(value, digest_size=16).hexdigest()
    return Message(topic or place, key or cluster.encode(), value, _headers(name, cluster, known), cluster)


def decode(topic: Topic, value: bytes | None, headers: Headers | Mapping[str, bytes] = ()) -> Any:
    """The record of a message on that topic. Raises Rejected, with why, for what is none."""
    if value is None:
        raise Rejected("it is empty")
    told = dict(headers).get("ce_type")
    if told is not None and not (told.startswith(_TYPE.encode()) and told.endswith(b"." + _VERSION.encode())):
        raise Rejected(f"it is a {told.decode(errors='replace')[:100]}, which this kubewhy does not know")
    try:
        return _decoder(topic).decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A key that is not known is told whole, however long it is.
        raise Rejected(f"it is no record of {topic.name}: {str(error)[:_LONGEST]}") from None


def type_of(record: type[msgspec.Struct]) -> str:
    """The CloudEvents type; a finding's has its transition before the version."""
    return f"{_TYPE}{_name(record)}.{_VERSION}"


@cache
def _name(record: type[msgspec.Struct]) -> str:
    return str(record.__struct_config__.tag or record.__name__.lower())


@cache
def _decoder(topic: Topic) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(reduce(or_, topic.records))


@cache
def _source(cluster: str) -> bytes:
    return f"/kubewhy/clusters/{quote(cluster, safe='')}".encode() if cluster else b"/kubewhy"


def _headers(name: str, cluster: str, known: str) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", f"{_TYPE}{name}.{_VERSION}".encode()),
        ("ce_source", _source(cluster)),
        ("ce_id", known.encode()),
        ("content-type", b"application/json"),
    ]


def _goes(record: msgspec.Struct) -> tuple[Topic, bytes]:
    """Where to, and under which key; empty: the cluster's."""
    match record:
        case Evidence(cluster=cluster, ref=ref, restated=restated):
            return RESTATED if restated else EVIDENCE, object_key(cluster, ref).encode()
        case Report(cluster=cluster, ref=ref):
            return FAILURES, object_key(cluster, ref).encode()
        case Finding():
            return FINDINGS, record.incident.id.encode()
        case DeadLetter(key=key):
            return DEAD_LETTERS, key or b""
        case Claim():
            return CLAIMS, b""
        case SilenceChange(id=known):
            return SILENCES, known.encode()
    return FAILURES, b""
