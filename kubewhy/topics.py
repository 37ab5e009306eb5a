"""The topics, what is on them, and how they are kept. The one place that declares them."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from kubewhy.records import (
    Answer,
    Claim,
    DeadLetter,
    Evidence,
    Finding,
    Heartbeat,
    Inventory,
    Ref,
    Report,
    SilenceChange,
    Tick,
)

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Topic:
    """A topic on Kafka. Its name there has the fleet's prefix before it.

    The newest record of each key is kept for ever where it is `compacted`, all others for so long as it says: by age
    at the least (`kept`), or, compacted, until they may be thrown out (`lag`).
    """

    name: str
    says: str
    key: str
    partitioned: str
    records: tuple[type[msgspec.Struct], ...]
    kept: timedelta | None = None
    compacted: bool = False
    lag: timedelta | None = None
    spread: bool = False  # over as many partitions as the settings say; else it has one
    largest: int = MEBIBYTE  # bytes of one batch
    rewritten: bool = False  # few rows, over and over; and read whole at each start, so that it has to stay short

    @property
    def config(self) -> dict[str, str]:
        """As Kafka's brokers call it: https://kafka.apache.org/documentation/#topicconfigs"""
        told = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            # Logic reads no clock: the broker's is the one there is.
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "producer",
            "max.message.bytes": str(self.largest),
        }
        if self.kept:
            told["retention.ms"] = _ms(self.kept)
        if self.lag:
            told["min.compaction.lag.ms"] = _ms(self.lag)
        if self.rewritten:
            # By default a gigabyte may grow, or a week pass, before anything of it is thrown out.
            told["segment.bytes"] = str(16 * MEBIBYTE)
            told["segment.ms"] = told["delete.retention.ms"] = _ms(timedelta(hours=1))
            told["min.cleanable.dirty.ratio"] = "0.1"
        return told


EVIDENCE = Topic(
    "evidence.v1",
    "How one object and what it depends on are at one moment, or that it is gone.",
    key="cluster/group/kind/namespace/name",
    partitioned="by the key",
    records=(Evidence,),
    kept=timedelta(hours=6),
    spread=True,
)
RESTATED = Topic(
    "restated.v1",
    "The same, where it is no news: said again in its turn, or at a collector's start. It waits for what has changed.",
    key="cluster/group/kind/namespace/name",
    partitioned="by the key",
    records=(Evidence,),
    kept=timedelta(hours=6),
    spread=True,
)
FAILURES = Topic(
    "failures.v1",
    "What the analyzers hold against each object, and what else the explainer of that cluster goes by.",
    key="as evidence, or the cluster",
    partitioned="by the cluster",
    records=(Report, Inventory, Heartbeat, Tick, Answer, SilenceChange),
    kept=timedelta(hours=24),
    spread=True,
)
FINDINGS = Topic(
    "findings.v1",
    "One transition of one incident, in words. The last one of each incident is how it stands.",
    key="the incident's id",
    partitioned="by the cluster",
    records=(Finding,),
    compacted=True,
    lag=timedelta(days=7),
    spread=True,
)
DEAD_LETTERS = Topic(
    "dead-letters.v1",
    "What no one could use, why, and where it came from.",
    key="as it came",
    partitioned="one",
    records=(DeadLetter,),
    kept=timedelta(days=14),
    largest=2 * MEBIBYTE,
)
CLAIMS = Topic(
    "claims.v1",
    "Which collector is the active one of a cluster. Where its claim stands is its term.",
    key="the cluster",
    partitioned="one",
    records=(Claim,),
    compacted=True,
)
SILENCES = Topic(
    "silences.v1",
    "What nobody wants to hear of for a while.",
    key="the silence's id",
    partitioned="one",
    records=(SilenceChange,),
    compacted=True,
)
SINK_STATE = Topic(
    "sink-state.v1",
    "What sinks remember: rows of bytes by key, and nothing where a row is no more.",
    key="the sink, then the row",
    partitioned="one",
    records=(),
    compacted=True,
    largest=2 * MEBIBYTE,
    rewritten=True,
)
INCIDENTS = Topic(
    "explainer-incidents-changelog",
    "What the explainer remembers: rows of bytes by key, and nothing where a row is no more.",
    key="the row",
    partitioned="as failures",
    records=(),
    compacted=True,
    spread=True,
    rewritten=True,
)

TOPICS = (EVIDENCE, RESTATED, FAILURES, FINDINGS, DEAD_LETTERS, CLAIMS, SILENCES, SINK_STATE, INCIDENTS)


def object_key(cluster: str, ref: Ref) -> str:
    """The key of all that is said of one object: cluster/group/kind/namespace/name."""
    return f"{cluster}/{ref.group}/{ref.kind}/{ref.namespace or ''}/{ref.name}"


def _ms(span: timedelta) -> str:
    return str(int(span / timedelta(milliseconds=1)))
