"""The testbed's broker is a real one: it takes records and gives them back, however it was ended in between."""

from collections.abc import Iterator
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, for_code

from infra.testbed.errors import TestbedError
from infra.testbed.kafka import Broker, kafka
from infra.testbed.listeners import Login

pytestmark = pytest.mark.live


Options = dict[str, Any]

WAYS = ("plain", "sasl-plain", "scram", "sasl-ssl-plain", "sasl-ssl-scram", "ssl", "mutual-tls")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with kafka(tmp_path_factory.mktemp("guarded"), secured=True) as started:
        yield started


def sasl(address: str, login: Login, mechanism: str = "PLAIN", trusted: SSLContext | None = None) -> Options:
    return {
        "bootstrap_servers": address,
        "security_protocol": "SASL_SSL" if trusted else "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": login.name,
        "sasl_plain_password": login.password,
        "ssl_context": trusted,
    }


def ways(broker: Broker) -> dict[str, Options]:
    """What a client is to be told, for each way in."""
    secured = broker.secured
    trusted = create_default_context(cafile=secured.ca_file)
    known = create_default_context(cafile=secured.ca_file)
    known.load_cert_chain(secured.client_pem)
    tls: Options = {"security_protocol": "SSL"}
    options = (
        {"bootstrap_servers": broker.bootstrap},
        sasl(secured.sasl_plaintext, secured.plain),
        sasl(secured.sasl_plaintext, secured.scram, "SCRAM-SHA-512"),
        sasl(secured.sasl_ssl, secured.plain, "PLAIN", trusted),
        sasl(secured.sasl_ssl, secured.scram, "SCRAM-SHA-512", trusted),
        {**tls, "bootstrap_servers": secured.ssl, "ssl_context": trusted},
        {**tls, "bootstrap_servers": secured.mutual_tls, "ssl_context": known},
    )
    return dict(zip(WAYS, options, strict=True))


async def put(value: bytes, **options: Any) -> str:
    """One record, in a topic of its own."""
    topic = f"topic-{uuid4().hex}"
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    for _, code, *_ in answer.topic_errors:
        if code:
            raise for_code(code)
    async with AIOKafkaProducer(**options, acks="all") as producer:
        await producer.send_and_wait(topic, value)
    return topic


async def first(topic: str, **options: Any) -> bytes | None:
    consumer = AIOKafkaConsumer(topic, **options, group_id=f"of-{topic}", auto_offset_reset="earliest")
    async with consumer:
        value: bytes | None = (await consumer.getone()).value
        return value


async def test_what_is_produced_is_consumed(broker: Broker) -> None:
    topic = await put(b"here", bootstrap_servers=broker.bootstrap)
    assert await first(topic, bootstrap_servers=broker.bootstrap) == b"here"


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_in_takes_and_gives(way: str, guarded: Broker) -> None:
    options = ways(guarded)[way]
    topic = await put(b"here", **options)
    assert await first(topic, **options) == b"here"


async def test_a_wrong_password_is_refused(guarded: Broker) -> None:
    secured = guarded.secured
    options = ways(guarded)["sasl-ssl-plain"] | {"sasl_plain_password": "wrong"}
    with pytest.raises(KafkaError):
        await put(b"", **options)
    scram = sasl(secured.sasl_plaintext, Login(secured.scram.name), "SCRAM-SHA-512")
    with pytest.raises(KafkaError):
        await put(b"", **scram)


async def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(guarded: Broker) -> None:
    options = ways(guarded)["ssl"] | {"bootstrap_servers": guarded.secured.mutual_tls}
    with pytest.raises(KafkaError):
        await put(b"", **options)


async def test_a_user_without_rights_may_do_nothing(guarded: Broker) -> None:
    with pytest.raises(TopicAuthorizationFailedError):
        await put(b"", **sasl(guarded.secured.sasl_plaintext, guarded.secured.stranger))


async def test_records_and_users_survive_a_kill(tmp_path: Path) -> None:
    with kafka(tmp_path, secured=True) as broker:
        options = ways(broker)["scram"]
        topic = await put(b"kept", **options)
        broker.kill()
        assert not broker.running
        broker.start()
        assert broker.running
        assert await first(topic, **options) == b"kept"


def test_settings_can_be_overridden_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match=r"log\.cleaner\.threads"), kafka(tmp_path, log_cleaner_threads="many"):
        pass
