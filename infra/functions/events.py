"""What AWS Lambda hands to a function from Kafka, and what it wants to hear in return. Pure.

https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html
https://docs.aws.amazon.com/lambda/latest/dg/with-kafka.html
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from kubewhy.errors import ConfigError

Byte = Annotated[int, msgspec.Meta(ge=-128, le=255)]  # Java's, which go from -128 to 127, or plain ones


class Record(msgspec.Struct, frozen=True):
    """A record as a consumer would have it. The key and the value come in base64."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    said: list[dict[str, list[Byte] | None]] = msgspec.field(name="headers", default_factory=list)

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """In their order; a name may come twice."""
        return [
            (name, bytes(byte & 0xFF for byte in value or ())) for each in self.said for name, value in each.items()
        ]


Batch = Mapping[str, list[Record]]


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    event_source: Literal["aws:kafka", "SelfManagedKafka"]
    records: dict[str, list[Record]]


def read(event: Any) -> Batch:
    """The records, by what AWS calls their partition: the topic, a dash, and its number. Raises ConfigError."""
    try:
        return msgspec.convert(event, _Event).records
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"this is no event from Kafka ({error}): connect the function to topics of Kafka, and to nothing else"
        ) from None


def answer(batch: Batch, unsent: Iterable[Record]) -> dict[str, Any]:
    """What has to come again: of each partition all from the first unsent one on.

    AWS says both that it tries the named records again and that it goes on from them; all of them named mean the same
    either way. https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html has the form; older copies
    of that page say "topic-partition" in place of "partition", its examples and AWS's own library do not.
    """
    first: dict[tuple[str, int], int] = {}
    for record in unsent:
        place = record.topic, record.partition
        first[place] = min(record.offset, first.get(place, record.offset))
    return {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": partition, "offset": record.offset}}
            for partition, records in batch.items()
            for record in records
            if record.offset >= first.get((record.topic, record.partition), record.offset + 1)
        ]
    }
