"""The topics, and which record goes where under which key. The one place that declares them."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from kubewhy.records import Answer, Evidence, Finding, Heartbeat, Inventory, Ref, Report, SilenceChange, Tick


@dataclass(frozen=True)
class Topic:
    """A topic on Kafka, or its twin in memory."""

    name: str
    records: tuple[type[msgspec.Struct], ...]
    kept: timedelta | None  # None: compacted, the newest of each key is kept for ever


EVIDENCE = Topic("kubewhy.evidence.v1", (Evidence,), timedelta(hours=6))
FAILURES = Topic(
    "kubewhy.failures.v1", (Report, Inventory, Heartbeat, Tick, Answer, SilenceChange), timedelta(hours=24)
)
FINDINGS = Topic("kubewhy.findings.v1", (Finding,), None)

TOPICS = (EVIDENCE, FAILURES, FINDINGS)


def object_key(cluster: str, ref: Ref) -> str:
    """The key of all that is said of one object: cluster/group/kind/namespace/name."""
    return f"{cluster}/{ref.group}/{ref.kind}/{ref.namespace or ''}/{ref.name}"
