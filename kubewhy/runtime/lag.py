"""How far a consumer is behind."""

import asyncio
from typing import Any

_POSITION_SECONDS = 0.5


async def lags(consumer: Any) -> dict[str, list[int]]:
    """By topic, how many records are still to come in each of its partitions; what it was given is not among them.

    Asks the brokers once. Raises KafkaError where they do not answer.
    """
    places = list(consumer.assignment())
    ends = await consumer.end_offsets(places) if places else {}
    found: dict[str, list[int]] = {}
    for place, end in ends.items():
        try:
            # Where it begins in a partition that has just become its own is not known at once.
            async with asyncio.timeout(_POSITION_SECONDS / len(places)):
                position = await consumer.position(place)
        except TimeoutError:
            continue
        found.setdefault(place.topic, []).append(max(end - position, 0))
    return found
