"""A fold over the partitions of a topic, with what it remembers in a Faust table. The only file that imports faust."""

import asyncio
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import faust

from kubewhy.events import Message
from kubewhy.runtime.kafka import Kafka
from kubewhy.runtime.publishing import Publisher, dead
from kubewhy.topics import FAILURES, INCIDENTS

log = logging.getLogger(__name__)

_STAGE = "explainer"


class Arrived(NamedTuple):
    """A record of the topic, and when the broker had it."""

    partition: int
    offset: int
    at: datetime
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Folded(NamedTuple):
    """What a record comes to. The messages have arrived before the rows are kept; None deletes one."""

    messages: Sequence[Message] = ()
    rows: Mapping[str, bytes | None] = {}


class Fold(Protocol):
    """What is run here: it goes from record to record, and remembers nothing but its rows."""

    def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
        """It is ours from now on, as those rows say; that replaces what there was of it before."""
        ...

    def end(self, partition: int) -> None:
        """It went elsewhere."""
        ...

    def feed(self, record: Arrived) -> Folded: ...

    def turn(self, partition: int) -> Sequence[Message]:
        """Once a second for each partition that is ours: what is to be sent, ticks among it."""
        ...


async def fold(
    kafka: Kafka, what: Fold, *, folder: Path | None = None, group: str = "explainer", standby: int = 0
) -> None:
    """Until cancelled. Raises ConfigError."""
    await kafka.reached()
    with tempfile.TemporaryDirectory() as scratch:
        app = faust.App(
            kafka.group(group),
            broker=[f"kafka://{server}" for server in kafka.settings.servers],
            store="memory://",
            datadir=str(folder or scratch),
            key_serializer="raw",
            value_serializer="raw",
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            broker_session_timeout=10.0,
            broker_heartbeat_interval=2.0,
            broker_commit_interval=1.0,
            stream_buffer_maxsize=4096,
            table_standby_replicas=standby,
            producer_compression_type="lz4",
        )
        reports = app.topic(kafka.name(FAILURES), key_serializer="raw", value_serializer="raw", allow_empty=True)
        changelog = app.topic(
            kafka.name(INCIDENTS),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            acks=False,
            maxsize=131_072,
            allow_empty=True,
        )
        table = app.Table("incidents", key_type=bytes, value_type=bytes, changelog_topic=changelog)
        ours: set[int] = set()

        async def recovered() -> None:
            now = {tp.partition for tp in app.assignor.assigned_actives() if tp.topic == kafka.name(FAILURES)}
            for partition in ours - now:
                what.end(partition)
            for partition in now - ours:
                mark = f"{partition}/".encode()
                what.begin(
                    partition, [(key[len(mark) :].decode(), row) for key, row in table.items() if key.startswith(mark)]
                )
            ours.clear()
            ours.update(now)

        table.on_recover(recovered)

        async def hold(*_: Any, **__: Any) -> None:
            app.consumer.stop_flow()
            app.flow_control.suspend()

        app.on_rebalance_complete.connect(hold)

        async with kafka.producer() as producer:
            publisher = Publisher(kafka, producer)

            async def run(stream: Any) -> None:
                async for event in stream.events():
                    told = event.message
                    try:
                        at = datetime.fromtimestamp(told.timestamp, UTC)
                        folded = what.feed(
                            Arrived(told.partition, told.offset, at, told.key, told.value, told.headers or ())
                        )
                    except Exception as error:  # noqa: BLE001 - one record must not end the others
                        log.warning("a record cannot be folded: %s", type(error).__name__)
                        folded = Folded([dead(_STAGE, "a bug in kubewhy", _Origin(told))])
                    if folded.messages:
                        await publisher.send(folded.messages)
                    for key, row in folded.rows.items():
                        whole = f"{told.partition}/{key}".encode()
                        if row is None:
                            table.pop(whole, None)
                        else:
                            table[whole] = row

            app.agent(reports, name="fold")(run)
            await app.start()
            try:
                while True:
                    await asyncio.sleep(1)
                    for partition in sorted(ours):
                        await publisher.send(what.turn(partition))
            finally:
                await app.stop()


class _Origin:
    """As a consumer's record has it."""

    def __init__(self, told: Any) -> None:
        self.topic, self.partition, self.offset = told.topic, told.partition, told.offset
        self.timestamp = int(told.timestamp * 1000)
        self.key, self.value, self.headers = told.key, told.value, told.headers or ()
