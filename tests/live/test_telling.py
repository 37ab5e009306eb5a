"""Findings that a worker sent just before it died are not sent again by the next."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from infra.testbed.kafka import Broker
from kubewhy.brokers import BrokerSettings
from kubewhy.events import Message, message
from kubewhy.runtime.fleet.declaring import create
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.runtime.fleet.tailing import Tail, until_now
from kubewhy.runtime.fleet.telling import Telling
from kubewhy.topics import FINDINGS, TOPICS
from tests.live.delivering import story

pytestmark = pytest.mark.live


def told(incident: int) -> list[Message]:
    return [message(each) for each in story(incident, 3, datetime(2026, 3, 1, tzinfo=UTC))]


async def test_what_was_sent_after_the_last_mark_is_not_sent_again(broker: Broker) -> None:
    settings = BrokerSettings(servers=(broker.bootstrap,), prefix=f"{uuid4().hex}.", partitions=2, replication=1)
    kafka = Kafka(settings, {}, "test")
    await create(kafka, TOPICS)
    async with kafka.producer() as producer:
        publisher = Publisher(kafka, producer)
        first, second, third = told(1), told(2), told(3)
        await publisher.send(first)
        await asyncio.sleep(1.1)
        mark = int(time.time() * 1000)
        await publisher.send(second)
        place = kafka.partition(second[0])
        assert place is not None
        telling = Telling(kafka, publisher)
        telling.begin({place: mark})
        await telling.send([*second, *third])
        # Of a partition of which nothing was kept, all is new.
        other = Telling(kafka, publisher)
        other.begin({place: 0})
        await other.send(first)
    found = [dict(record.headers)["ce_id"] for record in await until_now(Tail(kafka, FINDINGS))]
    assert found == [dict(each.headers)["ce_id"] for each in [*first, *second, *third, *first]]
