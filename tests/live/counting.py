"""A worker for tests: counts changes of objects, and writes down what it does as it does it.

    python -m tests.live.counting SERVERS PREFIX PARTITIONS FILE STANDBY

What it was fed goes to FILE.fed as FED: partition, offset and seconds; what else happens, as lines of JSON to FILE.
"""

import asyncio
import json
import logging
import os
import signal
import struct
import sys
import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from kubewhy.brokers import BrokerSettings
from kubewhy.events import Message
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.keeping import Arrived, Folded
from kubewhy.runtime.fleet.tables import fold
from kubewhy.topics import FAILURES, FINDINGS

FED = struct.Struct(">IId")
END = b"end"  # after this no tick is appended
TICK = b"tick"


def changed(row: bytes | None, told: bytes) -> bytes | None:
    """The row after what is told of its object; None where it says so already. Twice is not the same as once."""
    count, chain, state = row.split(b" ", 2) if row else (b"0", b"", b"")
    if state == told:
        return None
    chain = blake2b(chain + told, digest_size=8).hexdigest().encode()
    return b"%d %s %s" % (int(count) + 1, chain, told)


def finding(key: bytes, row: bytes) -> bytes:
    return b"%s %s" % (key, row.rsplit(b" ", 1)[0])


class Counting:
    """Keeps a row for each object, and tells each change of one."""

    def __init__(self, fed: int, note: "Note") -> None:
        self._fed, self._note = fed, note
        self._places: dict[int, dict[str, bytes]] = {}

    def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
        self._places[partition] = dict(rows)
        self._note(begin=partition, rows=len(self._places[partition]))

    def end(self, partition: int) -> None:
        del self._places[partition]
        self._note(end=partition)

    def feed(self, record: Arrived) -> Folded:
        os.write(self._fed, FED.pack(record.partition, record.offset, time.time()))
        if record.key == TICK:
            return Folded()
        assert record.value is not None
        place, key = self._places[record.partition], record.key.decode()
        row = changed(place.get(key), record.value)
        if row is None:
            return Folded()
        place[key] = row
        told = finding(record.key, row)
        message = Message(FINDINGS, record.key, told, [("ce_id", told)], partition=record.partition)
        return Folded([message], {key: row})

    def turn(self, partition: int) -> Sequence[Message]:
        ended = END.decode() in self._places[partition]
        return () if ended else [Message(FAILURES, TICK, b"", [], partition=partition)]


class Note:
    """Lines of JSON in a file, each written at once."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __call__(self, **told: object) -> None:
        os.write(self._file, f"{json.dumps({'at': time.time(), **told})}\n".encode())


async def main(servers: str, prefix: str, partitions: str, path: str, standby: str) -> None:
    note = Note(path)
    note(start=os.getpid())
    kafka = Kafka(
        BrokerSettings(servers=(servers,), prefix=prefix, partitions=int(partitions), replication=1), {}, "counting"
    )
    what = Counting(os.open(f"{path}.fed", os.O_CREAT | os.O_APPEND | os.O_WRONLY), note)
    work = asyncio.create_task(fold(kafka, what, standby=int(standby)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    await asyncio.gather(work, return_exceptions=True)
    note(stop=os.getpid(), error="" if work.cancelled() else str(work.exception()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG if os.environ.get("VERBOSE") else logging.WARNING)
    if not os.environ.get("VERBOSE"):
        for name in ("aiokafka", "faust", "mode"):  # as the command line has it
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    asyncio.run(main(*sys.argv[1:]))
