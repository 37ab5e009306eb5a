"""A fold over the partitions of a topic, with its rows in a Faust table. The only file that imports faust.

Faust has the group of workers and its assignments, with standbys, brings the table back from its changelog, and gives
the records; `member.py` has what is done with them. docs/decisions/0011-state-on-kafka.md says why.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from faust.types import TP
from mode.threads import WorkerThread

from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import SESSION_SECONDS, Kafka
from kubewhy.runtime.fleet.keeping import Arrived, Fold, Folded
from kubewhy.runtime.fleet.member import RESTORED, Member
from kubewhy.runtime.fleet.rows import Rows
from kubewhy.topics import FAILURES, INCIDENTS, MEBIBYTE

__all__ = ["GROUP", "RESTORED", "Arrived", "Fold", "Folded", "fold"]

log = logging.getLogger(__name__)
_FAUST = logging.getLogger("faust")  # or it would take ours, for what is of its own

GROUP = "explainer"
_AGAIN_SECONDS = 2.0


async def fold(kafka: Kafka, what: Fold, *, group: str = GROUP, standby: int = 0) -> None:
    """Until cancelled; whatever is through by then is committed. Raises ConfigError."""
    while True:
        await ready(kafka, FAILURES, INCIDENTS)
        async with kafka.producer() as producer:
            reason = await _member(kafka, what, producer, _app(kafka, group, standby)).run()
        log.warning("the explainer begins again, and nothing is lost: %s", reason)
        await asyncio.sleep(_AGAIN_SECONDS)


def _member(kafka: Kafka, what: Fold, producer: AIOKafkaProducer, app: Any) -> Member:
    raw = {"key_serializer": "raw", "value_serializer": "raw", "acks": False, "allow_empty": True}
    changelog = app.topic(kafka.name(INCIDENTS), key_type=bytes, value_type=bytes, maxsize=131_072, **raw)
    table = app.Table("incidents", key_type=bytes, value_type=bytes, changelog_topic=changelog)
    member = Member(kafka, what, producer, app, table)
    table.recovered = member.recovered
    app.agent(app.topic(kafka.name(FAILURES), **raw), name="fold")(member.feed)
    app.on_rebalance_complete.connect(member.hold)
    app.on_partitions_revoked.connect(member.revoked)
    app.consumer._thread.Worker = _Thread
    return member


class _Thread(WorkerThread):
    """That of the consumer. However it ends, as with an error where no broker is left, it is over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True

    def run(self) -> None:
        try:
            super().run()
        except BaseException as error:  # noqa: BLE001 - Python would print it
            log.debug("the consumer's thread ended (%s)", type(error).__name__)
            self.service.set_shutdown()


class _Table(faust.Table[bytes, bytes]):
    """Keeps the rows by partition, as far as marks conclude them."""

    logger = _FAUST
    recovered: Callable[[Mapping[int, Rows]], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[int, Rows] = {}
        self.came = 0  # records of the changelog

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """What went elsewhere is forgotten; what is new, is read from the first record on."""
        ours = {place for place in assigned if place.topic == self.changelog_topic_name}
        self._kept = {place.partition: self._kept.get(place.partition) or self._new(place) for place in ours}

    def _new(self, place: TP) -> Rows:
        app: Any = self.app
        app.tables.recovery.revoke(place)
        return Rows(place.partition)

    def persisted_offset(self, place: TP) -> int | None:
        """Up to where it needs not be read again."""
        kept = self._kept.get(place.partition)
        return kept.read if kept and kept.read >= 0 else None

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        for event in batch:
            told = event.message
            self.came += 1
            if told.partition in self._kept:
                self._kept[told.partition].take(told.offset, told.key, told.value)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        self.recovered(
            {place.partition: self._kept[place.partition] for place in active_tps if place.partition in self._kept}
        )


class _App(faust.App):
    logger = _FAUST

    def _create_directories(self) -> None:
        """It needs none."""


def _app(kafka: Kafka, group: str, standby: int) -> Any:
    # Any, for Faust's types leave out much of what it has.
    return _App(
        kafka.group(group),
        Table=_Table,
        broker=[f"kafka://{server}" for server in kafka.settings.servers],
        broker_client_id=kafka.options["client_id"],
        broker_credentials=_credentials(kafka.options),
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 5,
        broker_rebalance_timeout=30.0,
        consumer_max_fetch_size=2 * MEBIBYTE,
        stream_buffer_maxsize=4096,
        store="memory://",
        table_standby_replicas=standby,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )


def _credentials(options: Mapping[str, Any]) -> Any:
    protocol, context = options["security_protocol"], options.get("ssl_context")
    if provider := options.get("sasl_oauth_token_provider"):
        return faust.OAuthCredentials(oauth_cb=provider, ssl_context=context)
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None
