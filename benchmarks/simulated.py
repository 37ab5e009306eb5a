"""Clusters that are not there: one small cluster's objects, under as many ids as are wanted."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from analyzers import enabled
from analyzers.stage import AnalyzerStage
from benchmarks import shop
from collectors.gather import gather
from collectors.store import Store, kinds_read
from kubewhy.kube.core import Node, Pod
from kubewhy.kube.meta import Object
from kubewhy.records import Evidence, Report, Version

PODS = 500
BROKEN = 20  # of how many one is
_NODES = 10
_TROUBLES = ("crash", "pull", "oom", "config", "unready")


def evidence(pods: int = PODS, cluster: str = "one") -> list[Evidence]:
    """What a collector says of such a cluster at its start: its nodes, and pods of which one in twenty is broken."""
    judged = enabled()
    store, now = Store(judged, lambda key: None), datetime.now(UTC)
    for kind in kinds_read(judged):
        store.begin(kind.resource, None, now)
    for number in range(_NODES):
        store.put(Node.resource, _object(shop.node(), Node, f"node-{number:03}"), now)
    for number in range(pods):
        trouble = _TROUBLES[number // BROKEN % len(_TROUBLES)] if number % BROKEN == 0 else None
        store.put(Pod.resource, pod(number, trouble), now)
    for kind in kinds_read(judged):
        store.synced(kind.resource, None, now)
    keys = [*store.keys("Node"), *store.keys("Pod")]
    return [
        gather(store, key, cluster=cluster, version=Version(1, number), server="v1.35.4")
        for number, key in enumerate(keys, 1)
    ]


def pod(number: int, trouble: str | None = None) -> Pod:
    """One of them."""
    document = shop.pod(trouble)
    document["metadata"] |= {"namespace": f"space-{number % 20:02}", "uid": f"uid-{number}"}
    document["metadata"].pop("ownerReferences", None)
    document["spec"]["nodeName"] = f"node-{number % _NODES:03}"
    found: Pod = _object(document, Pod, f"web-{number:05}")
    return found


def _object(document: dict[str, Any], kind: type[Object], name: str) -> Any:
    document["metadata"]["name"] = name
    return msgspec.json.decode(json.dumps(document), type=kind)


def said_by(records: list[Evidence], cluster: str, term: int, seq: int) -> Iterator[Evidence]:
    """The same, as that cluster's collector says it."""
    for number, record in enumerate(records):
        yield replace(record, cluster=cluster, version=Version(term, seq + number))


def reports(records: list[Evidence]) -> list[Report]:
    """What analyzers make of them."""
    stage, now = AnalyzerStage(enabled()), datetime.now(UTC)
    return [report for record in records for report in stage.feed(record, now)]
