"""The testbed's broker is a real one: it takes records and gives them back, however it was ended in between."""

from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.testbed.kafka import Broker, kafka

pytestmark = pytest.mark.live


async def put(bootstrap: str, value: bytes) -> str:
    """One record, in a topic of its own."""
    topic = f"topic-{uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value)
    return topic


async def first(bootstrap: str, topic: str) -> bytes | None:
    group = f"of-{topic}"
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest"
    ) as consumer:
        value: bytes | None = (await consumer.getone()).value
        return value


async def test_what_is_produced_is_consumed(broker: Broker) -> None:
    topic = await put(broker.bootstrap, b"here")
    assert await first(broker.bootstrap, topic) == b"here"


async def test_records_survive_a_kill_at_the_same_address(tmp_path: Path) -> None:
    with kafka(tmp_path) as broker:
        bootstrap = broker.bootstrap
        topic = await put(bootstrap, b"kept")
        broker.kill()
        assert not broker.running
        broker.start()
        assert broker.running
        assert broker.bootstrap == bootstrap
        assert await first(bootstrap, topic) == b"kept"
