"""Records of partitions through a fold: what comes of each is told, then kept, then done, and counts once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewhy.errors import ConfigError, Rejected
from kubewhy.events import Message, decode
from kubewhy.runtime.fleet.keeping import Arrived, Folded, Keeping, LostPlace
from kubewhy.runtime.fleet.rows import Mark, Rows
from kubewhy.topics import DEAD_LETTERS, FINDINGS, INCIDENTS


class Record(NamedTuple):
    """As a consumer has it."""

    offset: int
    value: bytes | None = b"a 1"
    partition: int = 0
    timestamp: int = 1000
    key: bytes = b"key"
    topic: str = "failures"
    headers: Sequence[tuple[str, bytes]] = ()


class Adding:
    """Adds numbers up by name, and tells each sum: `NAME NUMBER`."""

    def __init__(self) -> None:
        self.sums: dict[int, dict[str, int]] = {}
        self.fed: list[int] = []

    def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
        self.sums[partition] = {name: int(row) for name, row in rows}

    def end(self, partition: int) -> None:
        del self.sums[partition]

    def feed(self, record: Arrived) -> Folded:
        self.fed.append(record.offset)
        if record.value is None:
            raise Rejected("it is empty")
        name, number = record.value.decode().split()
        if number == "0":
            return Folded()
        sums = self.sums[record.partition]
        sums[name] = sums.get(name, 0) + int(number)
        row = None if name == "gone" else b"%d" % sums[name] if name != "large" else bytes(INCIDENTS.largest)
        return Folded([Message(FINDINGS, record.key, b"%d" % sums[name], [])], {name: row})

    def turn(self, partition: int) -> Sequence[Message]:
        return [Message(FINDINGS, b"turn", b"", [], partition=partition)]


class Kafka:
    """What is appended, in the order in which it is. Nothing arrives while `away`."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.messages: list[Message] = []
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.there = asyncio.Event()
        self.there.set()

    async def send(self, messages: Iterable[Message]) -> None:
        await self.there.wait()
        for message in messages:
            self.messages.append(message)
            self.log.append(f"told {message.value!r}")

    async def put(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        await asyncio.sleep(0)
        self.changelog += records
        self.log.append(f"kept {records}")
        return len(self.changelog) - 1

    def rows(self, partition: int = 0) -> Rows:
        rows = Rows(partition)
        for offset, (key, row) in enumerate(self.changelog):
            rows.take(offset, key, row)
        return rows


async def begun(kafka: Kafka, what: Adding, first: int = 0) -> Keeping:
    keeping = Keeping(what, kafka.send, kafka.put)
    keeping.begin(0, kafka.rows(), first)
    return keeping


async def test_what_comes_of_a_record_is_told_then_kept_then_done() -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    keeping.feed(Record(0, b"a 2"))
    assert keeping.done() == {0: 0}
    await keeping.drain(5)
    assert keeping.done() == {0: 1}
    assert kafka.log == ["told b'2'", "kept [(b'0/a', b'2'), (b'0/', b'1 1000')]"]


async def test_a_record_of_which_nothing_comes_is_done_at_once() -> None:
    keeping = await begun(Kafka(), Adding())
    keeping.feed(Record(0, b"a 0"))
    assert keeping.done() == {0: 1}


async def test_but_not_before_those_before_it() -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    keeping.feed(Record(0, b"a 2"))
    keeping.feed(Record(1, b"a 0"))
    assert keeping.done() == {0: 0}
    await keeping.drain(5)
    assert keeping.done() == {0: 2}


async def test_each_record_counts_once_whoever_takes_over() -> None:
    kafka, first, second = Kafka(), Adding(), Adding()
    keeping = await begun(kafka, first)
    for offset in range(3):
        keeping.feed(Record(offset, b"a 1"))
    await keeping.drain(5)
    # It died before it committed, so another begins with the first record.
    keeping = await begun(kafka, second)
    for offset in range(5):
        keeping.feed(Record(offset, b"a 1"))
    await keeping.drain(5)
    assert second.fed == [3, 4]
    assert kafka.rows().rows == {"a": b"5"}


async def test_a_repeat_is_passed_over() -> None:
    what = Adding()
    keeping = await begun(Kafka(), what)
    for offset in (0, 1, 0, 1, 2):
        keeping.feed(Record(offset))
    assert what.fed == [0, 1, 2]


async def test_a_gap_is_told() -> None:
    keeping = await begun(Kafka(), Adding(), first=7)
    keeping.feed(Record(7))
    with pytest.raises(LostPlace, match="record 9 of partition 0 came where 8 should have"):
        keeping.feed(Record(9))


async def test_what_is_not_ours_is_passed_over() -> None:
    what = Adding()
    keeping = await begun(Kafka(), what)
    keeping.feed(Record(0, partition=1))
    assert what.fed == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "it is empty"), (b"what", "the explainer raised ValueError: this is a bug in kubewhy")],
)
async def test_a_record_that_cannot_be_folded_is_set_aside(value: bytes | None, reason: str) -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    keeping.feed(Record(0, value))
    keeping.feed(Record(1, b"a 1"))
    await keeping.drain(5)
    letter = decode(DEAD_LETTERS, kafka.messages[0].value)
    assert (letter.stage, letter.reason, letter.offset, letter.value) == ("explainer", reason, 0, value)
    assert kafka.rows().rows == {"a": b"1"}
    assert keeping.done() == {0: 2}


async def test_a_row_that_is_too_large_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    keeping.feed(Record(0, b"large 1"))
    await keeping.drain(5)
    assert kafka.changelog == []
    assert [message.topic for message in kafka.messages] == [FINDINGS, DEAD_LETTERS]
    assert len(caplog.messages) == 1
    assert "what is to be kept of it is too large: large" in caplog.text


async def test_what_is_at_work_when_a_partition_goes_is_given_up_after_a_while() -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    kafka.there.clear()
    keeping.feed(Record(0, b"a 1"))
    await keeping.drain(0.01)
    assert keeping.partitions == []
    kafka.there.set()
    await asyncio.sleep(0)
    assert kafka.changelog == []


async def test_a_partition_that_nobody_else_had_meanwhile_goes_on() -> None:
    kafka, what = Kafka(), Adding()
    keeping = Keeping(what, kafka.send, kafka.put)
    rows = kafka.rows()
    keeping.begin(0, rows, 0)
    keeping.feed(Record(0, b"a 1"))
    await keeping.drain(5)
    before = what.sums[0]
    keeping.begin(0, rows, 1)
    assert what.sums[0] is before
    rows.take(9, b"0/a", b"7")
    rows.take(10, b"0/", b"5 1000")
    keeping.begin(0, rows, 1)
    assert what.sums[0] == {"a": 7}


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    kafka.there.clear()
    offset = 0
    while not keeping.full:
        keeping.feed(Record(offset, b"a 1"))
        offset += 1
    assert offset == 4000
    waiting = asyncio.create_task(keeping.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    kafka.there.set()
    await waiting
    await keeping.drain(5)
    assert kafka.rows().rows == {"a": b"4000"}


async def test_room_is_there_again_when_a_partition_goes_elsewhere() -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    kafka.there.clear()
    for offset in range(4000):
        keeping.feed(Record(offset, b"a 1"))
    waiting = asyncio.create_task(keeping.room())
    await asyncio.sleep(0)
    keeping.end(0)
    await asyncio.wait_for(waiting, 1)


async def test_rows_that_cannot_be_read_end_it() -> None:
    class Reading(Adding):
        def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
            raise ConfigError("they cannot be read")

    kafka = Kafka()
    with pytest.raises(ConfigError, match="they cannot be read"):
        await begun(kafka, Reading())


def after(*records: tuple[bytes, bytes | None]) -> Rows:
    rows = Rows(0)
    for offset, (key, row) in enumerate(records):
        rows.take(offset, key, row)
    return rows


def test_what_no_mark_concludes_does_not_count() -> None:
    rows = after((b"0/a", b"1"), (b"0/", b"1 5"), (b"0/a", b"2"), (b"0/b", b"1"))
    assert (rows.rows, rows.mark, rows.read) == ({"a": b"1"}, Mark(1, 5), 1)


def test_what_one_wrote_who_had_lost_the_partition_does_not_count() -> None:
    rows = after((b"0/a", b"1"), (b"0/", b"9 5"), (b"0/a", b"old"), (b"0/", b"7 4"), (b"0/b", None), (b"0/", b"10 6"))
    assert rows.rows == {"a": b"1"}
    assert rows.mark == Mark(10, 6)


def test_a_topic_that_was_made_anew_begins_with_its_first_record() -> None:
    rows = after((b"0/a", b"1"), (b"0/", b"9 5"))
    assert rows.mark.covers(3, 5)
    assert not rows.mark.covers(3, 6)
    rows.take(2, b"0/a", None)
    rows.take(3, b"0/", b"4 6")
    assert rows.rows == {}


async def test_what_does_not_count_is_written_again_as_it_should_be() -> None:
    kafka, what = Kafka(), Adding()
    kafka.changelog = [(b"0/a", b"1"), (b"0/", b"9 5"), (b"0/b", b"old"), (b"0/", b"7 4"), (b"0/a", b"torn")]
    keeping = await begun(kafka, what, first=8)
    assert what.sums[0] == {"a": 1}
    await keeping.drain(5)
    assert kafka.changelog[5:] == [(b"0/a", b"1"), (b"0/b", None), (b"0/", b"9 5")]
    assert keeping.done() == {0: 8}
    keeping = await begun(kafka, what, first=8)
    await keeping.drain(5)
    assert len(kafka.changelog) == 8


async def test_one_that_still_writes_what_it_has_lost_is_noticed() -> None:
    kafka = Kafka()
    keeping = await begun(kafka, Adding())
    keeping.feed(Record(0, b"a 1"))
    await keeping.drain(5)
    kafka.changelog += [(b"0/a", b"old"), (b"0/", b"0 1")]
    keeping.feed(Record(1, b"a 1"))
    await keeping.drain(5)
    with pytest.raises(LostPlace, match="another worker, which had lost partition 0, still wrote rows of it"):
        await keeping.failed
    assert keeping.done() == {}
    assert kafka.rows().rows == {"a": b"2"}


Log = list[tuple[int, tuple[bytes, bytes | None]]]
Writes = list[dict[str, bytes | None]]
ROWS = st.dictionaries(st.sampled_from("abc"), st.none() | st.binary(min_size=1, max_size=3), min_size=1)


@given(st.lists(ROWS), st.data())
def test_rows_are_what_was_written_however_often_they_are_read_again(writes: Writes, data: st.DataObject) -> None:
    writer, log = Rows(0), list[tuple[bytes, bytes | None]]()
    for number, write in enumerate(writes, 1):
        log += writer.records(write, Mark(number, number))
        assert writer.wrote(write, Mark(number, number), len(log) - 1)
    reader = Rows(0)
    for _ in range(3):
        for offset in range(reader.read + 1, data.draw(st.integers(0, len(log)))):
            reader.take(offset, *log[offset])
    for offset in range(reader.read + 1, len(log)):
        reader.take(offset, *log[offset])
    assert (reader.rows, reader.mark, reader.read) == (writer.rows, writer.mark, writer.read)


def read(log: Log) -> Rows:
    rows = Rows(0)
    for offset, record in log:
        rows.take(offset, *record)
    return rows


def compacted(log: Log) -> Log:
    last = {key: offset for offset, (key, _) in log}
    return [(offset, record) for offset, record in log if last[record[0]] == offset]


@given(st.lists(st.tuples(ROWS, st.sampled_from(["owner", "torn", "old", "takes over"]))))
def test_compaction_brings_nothing_back_that_does_not_count(history: list[tuple[dict[str, bytes], str]]) -> None:
    log: Log = []
    owner = Rows(0)

    def append(records: list[tuple[bytes, bytes | None]]) -> None:
        for record in records:
            log.append((len(log), record))

    for number, (write, what) in enumerate(history, 1):
        match what:
            case "owner":
                append(owner.records(write, Mark(number, number)))
                owner.wrote(write, Mark(number, number), len(log) - 1)
            case "torn":  # and with it, it dies
                append(owner.records(write, Mark(number, number))[:-1])
            case "old":
                append(owner.records(write, Mark(owner.mark.offset - 1, owner.mark.at)))
        if what != "owner":
            known = read(log)
            assert known.rows == owner.rows
            owner = known
            if amends := owner.amends():
                append(owner.records(amends, owner.mark))
                assert owner.wrote(amends, owner.mark, len(log) - 1)
    assert read(compacted(log)).rows == owner.rows


def test_a_turn_that_fails_takes_nothing_from_the_others() -> None:
    async def turns() -> Mapping[int, int]:
        class Failing(Adding):
            def turn(self, partition: int) -> Sequence[Message]:
                if partition == 0:
                    raise KeyError(partition)
                return super().turn(partition)

        kafka = Kafka()
        keeping = await begun(kafka, Failing())
        keeping.begin(1, Rows(1), 0)
        return {partition: len(keeping.turn()) for partition in keeping.partitions}

    assert asyncio.run(turns()) == {0: 1, 1: 1}
