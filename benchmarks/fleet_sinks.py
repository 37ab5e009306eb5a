"""Workers of sinks: how many findings a second they bring from Kafka to their far sides, on loopback."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from benchmarks.cluster import Bench
from benchmarks.fleet import PARTITIONS, filled, worked
from benchmarks.table import Row
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import kafka
from kubewhy.events import Message, message
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import FINDINGS, TOPICS
from sinks.samples import OPENED
from tests.live.watched import far_sides
from tests.services.moto import KEYS, Store, moto

_COUNTS = {"webhook": 10_000, "s3": 100_000}
_CLUSTERS = 20


def fleet_sinks(bench: Bench) -> Iterator[Row]:
    """One worker each. What they are told of stands on the topic before they start."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        broker, store = stack.enter_context(kafka(Path(folder))), Store.made(stack.enter_context(moto()))
        _, hook = stack.enter_context(far_sides())
        os.environ |= KEYS
        bucket = store.settings().model_dump(mode="json", exclude_unset=True)
        sinks = [{"type": "webhook", "url": hook.url, "format": "cloudevents"}, {"type": "s3", **bucket}]
        for sink, count in _COUNTS.items():
            place = Path(folder) / sink
            place.mkdir()
            fleet = Fleet(place, broker, {"sinks": sinks}, prefix=f"{sink}.", partitions=PARTITIONS)
            known = brokers(load(fleet.config), {}, "bench")
            asyncio.run(create(known, TOPICS))
            asyncio.run(filled(known, [_opened(number) for number in range(count)], count))
            told = worked(fleet, "sink", f"sink.{sink}", FINDINGS, count, 1, 0, sink)
            yield Row(f"worker sink, to {sink}", f"{told:,.0f} findings a second")


def _opened(number: int) -> Message:
    incident = replace(OPENED.incident, id=f"{number:016x}", cluster=f"c{number % _CLUSTERS}")
    return message(replace(OPENED, id=f"{number:032x}", transition="opened", incident=incident))
