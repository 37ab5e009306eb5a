"""How Kafka's brokers are spoken to: the clients, made from the settings, and what goes wrong on the way, in a line."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.partitioner import murmur2

from kubewhy.brokers import BrokerSettings, SaslSettings, TlsSettings
from kubewhy.errors import ConfigError, RetryLater
from kubewhy.events import Message
from kubewhy.keys import read
from kubewhy.runtime.fleet.reaching import connected, short
from kubewhy.runtime.telemetry.notes import Notes
from kubewhy.topics import MEBIBYTE, TOPICS, Topic

log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[Mapping[str, list[int]]]]  # by topic, of each partition that is ours

BROKERS = "kafka"  # the check of whether they answer
JOINING = "it is joining its group"
SESSION_SECONDS = 10.0
_BETWEEN = (1.0, 2.0, 4.0, 8.0)  # seconds between two tries to reach the brokers, the last one for ever
_UNUSABLE = "kafka.tls.{}: cannot use {} ({}): name files in PEM that can be read, and a key without a password"


class Kafka:
    """The Kafka of these settings. Raises ConfigError where a secret, a file or a library they name is missing."""

    def __init__(self, settings: BrokerSettings, environ: Mapping[str, str], client: str) -> None:
        self.settings = settings
        self.notes = Notes()
        self.looks: list[Look] = []  # of all consumers that live: how far they are behind
        self.options: dict[str, Any] = {
            "bootstrap_servers": list(settings.servers),
            "client_id": client,
            **security(settings, environ),
        }

    def name(self, topic: Topic) -> str:
        """The topic, as this Kafka calls it."""
        return self.settings.prefix + topic.name

    def topic(self, name: str) -> Topic:
        """The topic of that name here. Raises KeyError for one of others."""
        return {self.name(topic): topic for topic in TOPICS}[name]

    def group(self, role: str) -> str:
        """The consumer group of that role."""
        return self.settings.prefix + role

    def partitions(self, topic: Topic) -> int:
        """How many it is to have."""
        return self.settings.partitions if topic.spread else 1

    def partition(self, message: Message) -> int | None:
        """Where a message goes; None: by its key."""
        if message.partition is not None:
            return message.partition
        if not message.topic.spread:
            return 0
        if message.topic.partitioned == "by the key":
            return None
        return partition_of(message.cluster, self.settings.partitions)

    def producer(self) -> AIOKafkaProducer:
        """Loses nothing and repeats nothing, as long as it lives."""
        return _Producer(
            self,
            **self.options,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=5,
            max_batch_size=MEBIBYTE // 4,
            max_request_size=2 * MEBIBYTE,
        )

    def consumer(
        self,
        *topics: Topic,
        group: str | None = None,
        session: float = SESSION_SECONDS,
        assignor: type[AbstractPartitionAssignor] = StickyPartitionAssignor,
    ) -> AIOKafkaConsumer:
        """Begins with the oldest where nothing was committed, and commits only what it is told to."""
        return _Consumer(
            self,
            *map(self.name, topics),
            **self.options,
            group_id=self.group(group) if group else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(session * 1000),
            heartbeat_interval_ms=int(session * 1000 / 4),
            # A worker that waits for a sink may be long about it, and still is there.
            max_poll_interval_ms=3_600_000,
            rebalance_timeout_ms=30_000,
            partition_assignment_strategy=(assignor,),
            max_partition_fetch_bytes=2 * MEBIBYTE,
            fetch_max_wait_ms=200,
        )

    def came(self, batch: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """These records were consumed."""
        for place, records in batch.items():
            self.notes.consumed(place.topic, len(records))

    def admin(self) -> AIOKafkaAdminClient:
        """Makes topics and looks at them."""
        return AIOKafkaAdminClient(**self.options, request_timeout_ms=30_000)

    async def reached(self) -> None:
        """Returns once a broker answers, however long that takes; says in the log that it does not.

        Raises ConfigError for what waiting cannot mend.
        """
        said = ""
        tries = 0
        while reason := await self.trouble():
            if reason != said:
                log.warning("kafka: %s; trying again until it answers", reason)
                said = reason
                self.notes.said(BROKERS, reason)
            await asyncio.sleep(_BETWEEN[min(tries, len(_BETWEEN) - 1)])
            tries += 1
        if said:
            log.warning("kafka: %s answers", self.settings.called)
        self.notes.said(BROKERS, "")

    async def trouble(self) -> str:
        """Why no broker answers, or nothing where one does. Raises ConfigError for what waiting cannot mend."""
        try:
            async with self.connected():
                return ""
        except RetryLater as error:
            return str(error)

    def connected(self) -> AbstractAsyncContextManager[AIOKafkaConnection]:
        """With a broker, to ask it something. Raises RetryLater or ConfigError where none lets us in."""
        return connected(self.options)


class _Producer(AIOKafkaProducer):  # type: ignore[misc]
    """One that waits at its start until the brokers are there."""

    def __init__(self, kafka: Kafka, **options: Any) -> None:
        self._kafka = kafka
        super().__init__(**options)

    async def start(self) -> None:
        await _begun(self._kafka, super().start)


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    """One that waits at its start until the brokers are there."""

    def __init__(self, kafka: Kafka, *topics: str, **options: Any) -> None:
        self._kafka = kafka
        super().__init__(*topics, **options)

    async def start(self) -> None:
        await _begun(self._kafka, super().start)


async def _begun(kafka: Kafka, start: Callable[[], Awaitable[None]]) -> None:
    # They may go away between any two calls.
    while True:
        await kafka.reached()
        try:
            await start()
        except KafkaConnectionError:
            await asyncio.sleep(_BETWEEN[0])
        else:
            return


@lru_cache(10_000)  # of all that belongs to few clusters, each record asks
def partition_of(cluster: str, partitions: int) -> int:
    """Where all goes that belongs to one cluster: as Kafka's own clients place a key."""
    return place_of(cluster.encode(), partitions)


def place_of(key: bytes, partitions: int) -> int:
    """The partition of a key."""
    place: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return place


def security(settings: BrokerSettings, environ: Mapping[str, str]) -> dict[str, Any]:
    """What a client needs to be let in."""
    told: dict[str, Any] = {
        "security_protocol": ("SASL_" if settings.sasl else "") + ("SSL" if settings.tls else "PLAINTEXT")
    }
    if settings.tls:
        told["ssl_context"] = _context(settings.tls)
    if settings.sasl:
        told |= _sasl(settings.sasl, environ, settings.tls is not None)
    return told


def _context(settings: TlsSettings) -> ssl.SSLContext:
    authority, ours, key = (
        path and path.expanduser() for path in (settings.ca_file, settings.cert_file, settings.key_file)
    )
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(_UNUSABLE.format("ca_file", authority, short(error))) from None
    if ours:
        try:
            # With a password, or OpenSSL would ask for one on the terminal.
            context.load_cert_chain(ours, key, password="")
        except OSError as error:
            files = " and ".join(str(each) for each in (ours, key) if each)
            raise ConfigError(_UNUSABLE.format("cert_file", files, short(error))) from None
    return context


def _sasl(settings: SaslSettings, environ: Mapping[str, str], encrypted: bool) -> dict[str, Any]:
    if settings.mechanism == "AWS_MSK_IAM":
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": _iam(settings.region or "")}
    assert settings.password
    if settings.mechanism == "PLAIN" and not encrypted:
        log.warning("kafka: the password goes over the network in the clear; turn on kafka.tls if the brokers have it")
    try:
        password = read(settings.password, environ)
    except ConfigError as error:
        raise ConfigError(f"kafka.sasl.password: {error}") from None
    return {
        "sasl_mechanism": settings.mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": password.get_secret_value(),
    }


def _iam(region: str) -> AbstractTokenProvider:
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ImportError:
        raise ConfigError(
            "kafka.sasl: AWS_MSK_IAM needs a package that is not there: pip install 'kubewhy[msk]'"
        ) from None

    class Token(AbstractTokenProvider):  # type: ignore[misc]
        async def token(self) -> str:
            # It asks for credentials over the network now and then.
            try:
                token, _ = await asyncio.to_thread(MSKAuthTokenProvider.generate_auth_token, region)
            except Exception as error:  # noqa: BLE001 - whatever AWS's library comes across
                # The one sort that clients try again.
                raise KafkaError(f"AWS gives no token: {short(error)}") from None
            return str(token)

    return Token()


async def forever(attempt: Callable[[], Awaitable[None]], what: str) -> None:
    """Tries until it works; says once that it does not, and once that it does again."""
    failing = False
    for tries in range(10**9):
        try:
            await attempt()
        except KafkaError as error:
            if not failing and tries > 1:
                failing = True
                log.warning("kafka: %s fails (%s); trying again, and nothing is lost", what, short(error))
            await asyncio.sleep(_BETWEEN[min(tries, len(_BETWEEN) - 1)])
        else:
            if failing:
                log.warning("kafka: %s works again", what)
            return
