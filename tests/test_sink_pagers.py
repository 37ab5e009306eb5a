"""PagerDuty and Opsgenie: one page an incident, which ends with it, whatever comes twice."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter, ValidationError

from kubewhy.contracts import Previews, Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding
from sinks import make
from sinks.samples import OPENED
from sinks.settings import SinkSettings
from tests.delivered import Memory, letters
from tests.models.far import Reply
from tests.services.pagers import KEY, Opsgenie, Pager, PagerDuty, paging
from tests.views import DEPLOYMENT, told, view

SETTINGS: TypeAdapter[SinkSettings] = TypeAdapter(SinkSettings)
FIRST = replace(OPENED, transition="opened", revision=1, explanation=None)
OVER = replace(
    OPENED,
    id="2" * 32,
    transition="resolved",
    at=OPENED.at + timedelta(minutes=5),
    revision=9,
    incident=replace(OPENED.incident, state="resolved", resolved_at=OPENED.at, resolution="recovered"),
)
PAGERS = {"pagerduty": (PagerDuty, "routing_key"), "opsgenie": (Opsgenie, "api_key")}
each_pager = pytest.mark.parametrize("sort", PAGERS)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken from whoever runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def pager(sort: str) -> Pager:
    made: Pager = PAGERS[sort][0]()
    return made


def sink(sort: str, url: str, key: str = KEY, **more: Any) -> Sink:
    told = {"type": sort, "url": url, PAGERS[sort][1]: {"env": "PLANTED"}} | more
    return make(SETTINGS.validate_python(told), {"PLANTED": key})


async def send(made: Sink, *findings: Finding, memo: Memory | None = None) -> None:
    kept = memo or Memory()
    try:
        for letter in letters(findings):
            await made.send([letter], kept)
    finally:
        await made.close()


@each_pager
async def test_an_incident_pages_once_and_ends_its_page(sort: str) -> None:
    memo = Memory()
    async with paging(pager(sort)) as far:
        await send(sink(sort, far.url), FIRST, OPENED, memo=memo)
        (page,) = far.open.values()
        assert list(far.open) == [OPENED.incident.id]
        assert "Secret shop/password is missing" in str(page)
        assert "Secret shop/password does not exist" in str(page)
        await send(sink(sort, far.url), FIRST, OVER, memo=memo)
        assert not far.open
        assert far.over == [OPENED.incident.id]


async def test_a_page_of_pagerduty_says_how_bad_and_where() -> None:
    async with paging(PagerDuty()) as far:
        await send(sink("pagerduty", far.url), FIRST)
    page = far.open[OPENED.incident.id]
    assert (page["severity"], page["source"], page["component"], page["group"], page["class_"]) == (
        "critical",
        "sample",
        "Secret shop/password",
        "shop",
        "pod-config-missing",
    )


async def test_an_alert_of_opsgenie_says_how_bad_and_where() -> None:
    async with paging(Opsgenie()) as far:
        await send(sink("opsgenie", far.url), FIRST)
    page = far.open[OPENED.incident.id]
    assert (page["priority"], page["entity"]) == ("P1", "Secret shop/password")
    assert page["tags"] == ["sample", "pod-config-missing"]


@each_pager
async def test_hostile_and_long_text_keeps_within_the_limits(sort: str) -> None:
    long = told(DEPLOYMENT, message="\x1b[31m\u202e<!channel> " * 500)
    incident = view(*[long] * 300, title="t" * 5000, cluster="c" * 300)
    async with paging(pager(sort)) as far:
        await send(sink(sort, far.url), replace(FIRST, incident=incident))
        assert list(far.open) == ["i1"]
        assert str(far.open).isprintable()


@each_pager
async def test_a_wrong_key_is_told_by_where_it_is(sort: str) -> None:
    wrong = "wrong" + KEY[5:]
    async with paging(pager(sort)) as far:
        with pytest.raises(ConfigError, match=r"environment variable PLANTED.* \(40[01]\): check or renew it") as error:
            await send(sink(sort, far.url, wrong), FIRST)
    assert wrong not in str(error.value)
    assert not far.open


@each_pager
@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply(429, b"", {"retry-after": "30"}), RetryLater, "too often"),
        (Reply(500, b""), RetryLater, "fails"),
        (Reply(422, KEY.encode()), Rejected, "refuses it"),
        (Reply(302, b"", {"location": "https://other.example/x"}), ConfigError, "redirects to other.example"),
    ],
    ids=str,
)
async def test_a_refusal_says_what_is_wrong(sort: str, reply: Reply, error: type[Exception], words: str) -> None:
    memo = Memory()
    async with paging(pager(sort)) as far:
        far.then(reply)
        with pytest.raises(error, match=words) as raised:
            await send(sink(sort, far.url), FIRST, memo=memo)
        assert KEY not in str(raised.value)
        await send(sink(sort, far.url), FIRST, memo=memo)
        assert len(far.open) == 1


@each_pager
async def test_texts_may_be_templates(sort: str) -> None:
    async with paging(pager(sort)) as far:
        await send(sink(sort, far.url, templates={"title": "{{ incident.cluster }}!"}), FIRST)
        assert "sample!" in str(far.open)


@each_pager
async def test_what_would_be_told_is_shown_without_the_key(sort: str) -> None:
    made = sink(sort, "http://127.0.0.1:1")
    assert isinstance(made, Previews)
    shown = made.preview(replace(FIRST, incident=replace(FIRST.incident, title="\u202ea\x1b[31m")))
    assert "CRITICAL a" in shown
    assert KEY not in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert not made.preview(OPENED)
    await made.close()


@each_pager
def test_a_key_in_clear_is_refused(sort: str) -> None:
    with pytest.raises(ValidationError, match="tell where the secret is, not the secret"):
        SETTINGS.validate_python({"type": sort, PAGERS[sort][1]: "planted"})
