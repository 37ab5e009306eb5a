"""A lane that ends between any two steps and is taken up again: nothing is lost, and only the last given twice."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from explainer.digests import is_digest
from kubewhy.contracts import Sink
from kubewhy.errors import Rejected, RetryLater
from kubewhy.events import decode
from kubewhy.records import Finding, encode
from kubewhy.runtime.fleet.assignors import chosen
from kubewhy.runtime.fleet.lanes import READ, Lane
from kubewhy.runtime.fleet.remembered import Place, Remembered, placed
from kubewhy.runtime.outbox import DEAD, OUTBOX, QUEUED
from kubewhy.settings import Settings
from kubewhy.topics import DEAD_LETTERS
from tests.hurry import hurried
from tests.test_delivery import Far, finding, now, raising

PARTITIONS = 2
PLAIN = [{"type": "stdout", "name": "far"}]
ROUTED = {"routes": [{"matchers": ['namespace="shop"'], "severity": "critical", "sinks": ["far"]}]}


class Killed(BaseException):
    """Nobody outlives it."""


class Log:
    """The rows that are on Kafka, and how many more writes there are until the end."""

    def __init__(self, lives: int = 10**9) -> None:
        self.rows: dict[str, bytes] = {}
        self.left = lives
        self.away = 0  # so many writes are not taken in time

    def keep(self, rows: Mapping[str, bytes | None]) -> None:
        if self.away:
            self.away -= 1
            raise RetryLater("away", 1.0)
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.left -= 1
        if not self.left:
            raise Killed


class Topic:
    """What stands on the partitions, and what was committed."""

    def __init__(self, findings: list[Finding]) -> None:
        self.stands = [(number % PARTITIONS, number // PARTITIONS, each) for number, each in enumerate(findings)]
        self.committed = dict.fromkeys(range(PARTITIONS), 0)

    def at(self, place: Place) -> bytes:
        [found] = [each for part, offset, each in self.stands if (part, offset) == place[:2]]
        return encode(msgspec.structs.replace(found, digest=place.digest))


def taken_up(topic: Topic, log: Log, sink: Sink, settings: Settings) -> Lane:
    """The lane as whoever reads the rows finds it."""
    places = placed(log.rows)
    whole = log.rows | {key: topic.at(place) for key, place in places.items()}
    begin = {part: max(topic.committed[part], int(log.rows.get(f"{READ}{part}", b"0"))) for part in topic.committed}
    return Lane("far", sink, settings, Remembered(log.keep, whole, places), begin, lambda line, counts: None)


async def live(topic: Topic, log: Log, sink: Sink, settings: Settings, *, commits: bool) -> None:
    """Until all has been read and settled, or the end."""
    lane = taken_up(topic, log, sink, settings)
    begin = dict(lane.begins)
    lane.start()
    try:
        for part, offset, each in topic.stands:
            if offset < begin[part]:
                continue
            lane.feed(part, offset, each)
            await done(lane.post)
            await done(partial(lane.tick, now()))
            await asyncio.sleep(0.1)
            lane.check()
            if commits:
                topic.committed = lane.offsets()
        while lane.counts().waiting:
            await asyncio.sleep(1)
            await done(partial(lane.tick, now()))
            lane.check()
        topic.committed = lane.offsets()
    finally:
        await lane.rest()


async def done(write: Any) -> None:
    while True:
        try:
            write()
        except RetryLater:
            await asyncio.sleep(1)
        else:
            return


def history() -> list[Finding]:
    """Of several incidents at a time, each from its opening to its end; the severity of some changes on the way."""
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    findings = list[Finding]()
    for revision in (1, 2, 3):
        for number in range(4):
            rank = 2 if number % 2 == 0 and revision < 3 else 1
            each = finding(f"i{number}", revision, rank, at=at + timedelta(seconds=len(findings)))
            [failure] = each.incident.failures
            failure = msgspec.structs.replace(failure, severity=each.incident.severity)
            each = msgspec.structs.replace(each, incident=msgspec.structs.replace(each.incident, failures=(failure,)))
            over = revision == 3
            findings.append(msgspec.structs.replace(each, transition="resolved") if over else each)
    return findings


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("more", [{}, ROUTED])
@hurried
async def test_a_lane_that_is_killed_at_any_write_loses_nothing_and_repeats_only_the_last(
    more: dict[str, Any], commits: bool
) -> None:
    findings = history()
    settings = Settings.model_validate({"sinks": PLAIN, **more})
    whole = Far()
    await live(Topic(findings), Log(), whole, settings, commits=True)
    assert whole.told
    for lives in range(1, 60):
        topic, log, told, deaths = Topic(findings), Log(lives), list[str](), 0
        while True:
            far = Far()
            try:
                await live(topic, log, far, settings, commits=commits)
            except Killed:
                deaths += 1
                log.left = 10**9
                told += [f"{each}!" for each in far.told]
                continue
            told += far.told
            break
        plain = [each.rstrip("!") for each in told]
        assert sorted(set(plain)) == sorted(whole.told), lives
        assert len(plain) <= len(whole.told) + deaths, "only what was given last comes again"
        assert topic.committed == {part: len(findings) // PARTITIONS for part in range(PARTITIONS)}
        assert not [key for key in log.rows if not key.startswith((READ, QUEUED))], "nothing is left over"
        if not deaths:
            break
    else:
        raise AssertionError("there are more writes than this")


@hurried
async def test_a_digest_that_waits_survives_though_it_stands_on_no_topic() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    findings = [finding(f"i{number}", at=at) for number in range(30)]
    settings = Settings.model_validate({"sinks": [{**PLAIN[0], "digest": True}]})
    topic, log = Topic(findings), Log()
    lane = taken_up(topic, log, Far(answer=raising(*[RetryLater("down")] * 99)), settings)
    for place in topic.stands:
        lane.feed(*place)
    lane.post()  # and it ends
    assert len([key for key in log.rows if key.startswith(OUTBOX)]) == 31
    assert sum(len(row) for key, row in log.rows.items() if key.startswith(OUTBOX)) < 10_000, "most only say where"
    far = Far()
    await live(topic, log, far, settings, commits=True)
    assert sorted({each.incident.id for each in far.findings if not is_digest(each.incident)}) == sorted(
        each.incident.id for each in findings
    )
    beneath = [each for each in far.findings if each.digest]
    [opened] = [each for each in far.findings if is_digest(each.incident) and each.transition == "opened"]
    assert {each.digest for each in beneath} == {opened.incident.id}
    assert len(beneath) == 10


@hurried
async def test_brokers_that_do_not_take_rows_cost_only_time() -> None:
    findings = history()
    settings, far, log = Settings.model_validate({"sinks": PLAIN}), Far(), Log()
    log.away = 7
    await live(Topic(findings), log, far, settings, commits=True)
    assert sorted(set(far.told)) == sorted(each.id for each in findings)


@hurried
async def test_what_is_committed_is_what_has_been_settled() -> None:
    findings = history()
    topic, log = Topic(findings), Log()
    lane = taken_up(
        topic, log, Far(answer=raising(*[RetryLater("down")] * 99)), Settings.model_validate({"sinks": PLAIN})
    )
    for part, offset, each in topic.stands:
        lane.feed(part, offset, each if offset else None)
    assert lane.offsets() == {0: 0, 1: 0}, "nothing is written yet"
    lane.post()
    assert lane.offsets() == {0: 1, 1: 1}, "what is first was for no one"


@hurried
async def test_what_is_refused_says_where_it_stands() -> None:
    findings = history()
    settings, log, topic = Settings.model_validate({"sinks": PLAIN}), Log(), Topic(findings)
    lane = taken_up(topic, log, Far(answer=raising(Rejected("too long"), Rejected("too long"))), settings)
    lane.start()
    for place in topic.stands[:1]:
        lane.feed(*place)
    lane.post()
    await asyncio.sleep(5)
    [(key, message)] = lane.dead("findings").items()
    assert key.startswith(DEAD)
    letter = decode(DEAD_LETTERS, message.value, message.headers)
    assert (letter.stage, letter.reason, letter.topic) == ("sink/far", "too long", "findings")
    assert (letter.partition, letter.offset, letter.value) == (0, 0, encode(findings[0]))
    lane.buried([key])
    assert lane.dead("findings") == {}
    await lane.rest()


def test_who_has_everything_keeps_it() -> None:
    assert chosen({"b": b"", "a": b"", "c": b"holds"}) == "c"
    assert chosen({"b": b"", "a": b""}) == "a"
    assert chosen({"b": b"holds", "a": b"holds"}) == "a"
