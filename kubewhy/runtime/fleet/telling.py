"""What a fold tells, sent once: a worker that died may have sent findings and not yet said so in its rows."""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition

from kubewhy.events import Message
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.publishing import Publisher
from kubewhy.topics import FINDINGS


class Telling:
    """Sends messages. Findings that are on their topic already since a partition's last mark are passed over.

    A fold comes to the same findings with the same ids, and those of a partition go to the partition of that number.
    """

    def __init__(self, kafka: Kafka, publisher: Publisher) -> None:
        self._kafka, self._publisher = kafka, publisher
        self._since: dict[int, int] = {}
        self._told: dict[int, set[bytes]] = {}

    def begin(self, since: Mapping[int, int]) -> None:
        """These partitions are ours, and what came of them was kept up to then, in milliseconds; 0: none of it."""
        self._since = dict(since)
        self._told = {}

    async def send(self, messages: Iterable[Message]) -> None:
        """Returns once all have arrived."""
        await self._publisher.send([each for each in messages if not await self._is_told(each)])

    async def _is_told(self, message: Message) -> bool:
        if message.topic is not FINDINGS or message.value is None:
            return False
        place = self._kafka.partition(message)
        if place is None:
            return False
        if since := self._since.pop(place, 0):
            self._told[place] = await self._ids(place, since)
        return dict(message.headers)["ce_id"] in self._told.get(place, ())

    async def _ids(self, number: int, since: int) -> set[bytes]:
        """Of all findings that were appended since then."""
        place, found = TopicPartition(self._kafka.name(FINDINGS), number), set[bytes]()
        consumer = self._kafka.consumer()
        consumer.assign([place])
        async with consumer:
            begin = (await consumer.offsets_for_times({place: since}))[place]
            end = (await consumer.end_offsets([place]))[place]
            if begin is None:
                return found
            consumer.seek(place, begin.offset)
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(place, timeout_ms=500)).values():
                    found |= {value for record in records for key, value in record.headers if key == "ce_id"}
        return found
