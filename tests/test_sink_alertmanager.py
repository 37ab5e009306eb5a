"""Alertmanager's API: what it is told, that it is told again in time, and that one of several is enough."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter, ValidationError

from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, Severity
from sinks import alertmanager
from sinks.alertmanager import AlertmanagerSink
from sinks.alerts import Alert
from sinks.samples import OPENED
from sinks.settings import AlertmanagerSettings
from tests.delivered import Memory, letters
from tests.models.far import Reply
from tests.services.receiver import Receiver, receiving

SETTINGS: TypeAdapter[AlertmanagerSettings] = TypeAdapter(AlertmanagerSettings)
OVER = replace(
    OPENED,
    id="2" * 32,
    transition="resolved",
    at=OPENED.at + timedelta(minutes=2),
    revision=3,
    incident=replace(
        OPENED.incident, state="resolved", resolved_at=OPENED.at + timedelta(minutes=2), resolution="recovered"
    ),
)


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = OPENED.at

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def made(*urls: str, clock: Clock | None = None, **more: Any) -> AsyncIterator[AlertmanagerSink]:
    settings = SETTINGS.validate_python({"type": "alertmanager", "urls": urls} | more)
    sink = alertmanager.made(settings, {}, clock or Clock())
    try:
        yield sink
    finally:
        await sink.close()


def ends(receiver: Receiver) -> list[list[datetime]]:
    """When the alerts of each post end."""
    return [[datetime.fromisoformat(alert["endsAt"]) for alert in asked.json] for asked in receiver.asked]


def other(number: int) -> Finding:
    """An incident of its own."""
    return replace(OPENED, id=f"{number:032x}", incident=replace(OPENED.incident, id=f"{number:016x}"))


async def test_an_open_incident_is_an_alert_that_outlasts_us_a_while() -> None:
    async with receiving() as receiver, made(receiver.url) as sink:
        await sink.send(letters([OPENED]), Memory())
    (asked,) = receiver.asked
    assert asked.path == "/api/v2/alerts"
    (alert,) = asked.json
    assert alert["labels"]["alertname"] == "pod-config-missing"
    assert alert["startsAt"] == "2026-01-01T11:59:30Z"
    assert alert["endsAt"] == "2026-01-01T12:15:00Z"
    assert alert["generatorURL"].startswith("https://kubernetes.io/")


async def test_it_is_told_again_each_minute_until_it_has_ended_for_a_while() -> None:
    clock, memo = Clock(), Memory()
    async with receiving() as receiver, made(receiver.url, clock=clock) as sink:
        await sink.send(letters([OPENED]), memo)
        await sink.spare(memo)
        clock.now += timedelta(seconds=59)
        await sink.spare(memo)
        assert len(receiver.asked) == 2
        clock.now += timedelta(seconds=1)
        await sink.spare(memo)
        assert ends(receiver)[-1] == [clock.now + timedelta(minutes=15)]
        clock.now += timedelta(minutes=1)
        await sink.send(letters([OVER], 2), memo)
        await sink.spare(memo)
        assert ends(receiver)[-2:] == [[OVER.at], [OVER.at]]
        clock.now += timedelta(minutes=16)
        await sink.spare(memo)
        assert len(receiver.asked) == 5
    assert not list(memo.items())


async def test_what_is_open_is_told_again_after_a_restart() -> None:
    memo = Memory()
    async with receiving() as receiver:
        async with made(receiver.url) as sink:
            await sink.send(letters([OPENED]), memo)
        async with made(receiver.url) as sink:
            await sink.spare(memo)
    first, again = receiver.asked
    assert first.body == again.body


async def test_what_becomes_worse_is_another_alert_that_goes_on_alone() -> None:
    memo = Memory()
    mild = replace(OPENED, revision=1, incident=replace(OPENED.incident, severity=Severity.WARNING))
    async with receiving() as receiver, made(receiver.url) as sink:
        await sink.send(letters([mild]), memo)
        await sink.send(letters([OPENED], 2), memo)
    told = [(each["labels"]["severity"], each["endsAt"]) for each in receiver.asked[-1].json]
    assert told == [("warning", "2026-01-01T12:00:00Z"), ("critical", "2026-01-01T12:15:00Z")]


async def test_a_clock_that_is_behind_makes_no_alert_that_ends_before_it_starts() -> None:
    clock = Clock()
    clock.now -= timedelta(hours=1)
    memo = Memory()
    async with receiving() as receiver, made(receiver.url, clock=clock) as sink:
        await sink.send(letters([OPENED]), memo)
        await sink.send(letters([OVER], 2), memo)
    for asked in receiver.asked:
        (alert,) = asked.json
        assert alert["startsAt"] == "2026-01-01T11:00:00Z" <= alert["endsAt"]
    assert receiver.asked[-1].json[0]["endsAt"] == "2026-01-01T11:00:00Z"


async def test_many_come_in_parts() -> None:
    memo = Memory()
    async with receiving() as receiver, made(receiver.url) as sink:
        for begin in range(0, 600, 100):
            await sink.send(letters([other(number) for number in range(begin, begin + 100)]), memo)
        receiver.asked.clear()
        await sink.spare(memo)
    assert [len(asked.json) for asked in receiver.asked] == [500, 100]


async def test_one_of_several_is_enough_and_the_other_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, memo = Clock(), Memory()
    async with receiving() as one, receiving() as two, made(one.url, two.url, clock=clock) as sink:
        two.then(Reply(500, b""), Reply(500, b""))
        await sink.send(letters([OPENED]), memo)
        await sink.send(letters([OVER], 2), memo)
        await sink.spare(memo)
    assert [len(asked.json) for asked in two.asked] == [1, 1, 1]
    assert two.asked[-1].json[0]["endsAt"] == one.asked[-1].json[0]["endsAt"]
    (record,) = caplog.records
    assert record.getMessage() == f"one of several Alertmanagers hears nothing: {two.url} fails (500)"


@pytest.mark.parametrize(
    ("status", "error"), [(500, RetryLater), (401, ConfigError), (404, ConfigError), (400, Rejected)]
)
async def test_where_none_takes_it_the_refusal_counts(status: int, error: type[Exception]) -> None:
    memo = Memory()
    async with receiving(fine=Reply(status, b"")) as one, made(one.url) as sink:
        with pytest.raises(error):
            await sink.send(letters([OPENED]), memo)
        with pytest.raises(error):
            await sink.spare(memo)
        one.fine = Reply(200, b"")
        await sink.spare(memo)
    assert len(one.asked) == 3


async def test_what_would_be_posted_is_shown() -> None:
    async with receiving() as receiver, made(receiver.url) as sink:
        await sink.send(letters([OPENED]), Memory())
        assert json.loads(sink.preview(OPENED)) == receiver.asked[0].json


async def test_with_nothing_open_nothing_is_sent() -> None:
    async with receiving() as receiver, made(receiver.url) as sink:
        assert not await sink.spare(Memory())
    assert not receiver.asked


def test_a_fingerprint_is_that_of_prometheus() -> None:
    # From prometheus/common's model/labelset_test.go and the FNV-1a reference: no labels give the offset basis.
    none = Alert({}, {}, datetime.now(UTC))
    assert none.fingerprint == "cbf29ce484222325"
    assert replace(none, labels={"a": "b"}).fingerprint != replace(none, labels={"ab": ""}).fingerprint


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"urls": []}, "at least 1 item"),
        ({"urls": ["http://am:9093/?a=b"]}, "must have neither"),
        ({"urls": ["http://me:secret@am:9093"]}, "must not hold a user or password"),
        ({"lasts_minutes": 1}, "greater than or equal to 3"),
        ({"labels": {"alertname": "x"}}, "alertname is set by kubewhy itself"),
        ({"labels": {"a-b": "x"}}, "is no name of a label"),
    ],
)
def test_wrong_settings_are_told(told: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SETTINGS.validate_python({"type": "alertmanager", "urls": ["http://am:9093"]} | told)
