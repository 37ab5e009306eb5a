"""The services that apprise knows: what people get to read, when, and what refusals come to."""

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from kubewhy.cli.logs import _QUIET
from kubewhy.contracts import Previews, Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.keys import Key
from kubewhy.records import Finding, Severity
from sinks import make
from sinks.notify import harmless
from sinks.samples import OPENED
from sinks.settings import NotifySettings
from tests.delivered import Memory, letters
from tests.models.far import Reply
from tests.services.receiver import Receiver, receiving
from tests.services.smtp import mail
from tests.views import DEPLOYMENT, told, view

TOKEN = "planted0123456789abcdefghij"
FIRST = replace(OPENED, transition="opened", revision=1, explanation=None)
OVER = replace(
    OPENED,
    id="2" * 32,
    transition="resolved",
    at=OPENED.at + timedelta(minutes=5),
    revision=9,
    incident=replace(
        OPENED.incident, state="resolved", resolved_at=OPENED.at + timedelta(minutes=5), resolution="recovered"
    ),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken from whoever runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Said(logging.Handler):
    """What reaches whoever shows logs."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def said() -> Iterator[Said]:
    """pytest's own hears also what nobody is shown."""
    handler = Said()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def made(url: str, **more: Any) -> Sink:
    settings = NotifySettings.model_validate({"type": "notify", "url_key": Key(env="PLANTED")} | more)
    return make(settings, {"PLANTED": url})


@asynccontextmanager
async def mattermost() -> AsyncIterator[tuple[Receiver, str]]:
    """A receiver, and its address for apprise."""
    async with receiving() as receiver:
        yield receiver, f"mmost://{receiver.url.removeprefix('http://')}/{TOKEN}"


async def send(sink: Sink, *findings: Finding, memo: Memory | None = None) -> None:
    kept = memo or Memory()
    for letter in letters(findings):
        await sink.send([letter], kept)


async def test_people_read_that_it_is_broken_and_that_it_is_over() -> None:
    async with receiving() as receiver:
        await send(made(receiver.url.replace("http", "json")), FIRST, OPENED, OVER)
    opened, over = [asked.json for asked in receiver.asked]
    assert (opened["title"], opened["type"]) == ("CRITICAL Secret shop/password is missing (cluster sample)", "failure")
    assert opened["message"].splitlines() == [
        "Pod shop/web-6d4cf56db6-x2x5k: Secret shop/password does not exist",
        "changed 60s before: Secret shop/password: written",
        "Create it, or mend the reference.",
    ]
    assert (over["title"], over["type"]) == ("RESOLVED Secret shop/password is missing (cluster sample)", "success")
    assert over["message"] == "after 5m: recovered"


async def test_mattermost_is_told_in_its_format_without_pictures_of_others() -> None:
    async with mattermost() as (receiver, url):
        await send(made(url), FIRST)
    (asked,) = receiver.asked
    assert asked.path == f"/hooks/{TOKEN}"
    assert asked.json["username"] == "kubewhy"
    assert "icon_url" not in asked.json
    assert "Secret shop/password does not exist" in asked.json["text"]


async def test_mail_is_plain_text_with_a_subject() -> None:
    async with mail() as there:
        url = f"mailto://me:pass@127.0.0.1:{there.port}/?smtp=127.0.0.1&mode=insecure&to=team@example.com&from=me@example.com"
        await send(
            made(url), replace(FIRST, incident=view(told(DEPLOYMENT, message="it <b>crashes</b>"), title="a\nb: c"))
        )
    (letter,) = there.letters
    assert letter["subject"] == "WARNING a b: c (cluster c)"
    assert letter["to"] == "team@example.com"
    body = letter.get_body(("plain",))
    assert body is not None
    assert harmless("it <b>crashes</b>") in body.get_content()


@pytest.mark.parametrize(
    "hostile",
    [
        "@everyone", "<!channel>", "x@here", "@**all**", "<@U123>", "<https://evil|x>", "[x](https://evil)", "@room",
        "![x](https://evil)", "<b>", "&lt;b&gt;", "&#60;b&#62;", "hello @someone", "<users/all>", "@ALL",
    ],
)  # fmt: skip
async def test_text_of_others_mentions_nobody_and_links_nowhere(hostile: str) -> None:
    async with mattermost() as (receiver, url):
        await send(made(url), replace(FIRST, incident=view(told(DEPLOYMENT, message=hostile), title=hostile)))
    text = receiver.asked[0].json["text"]
    assert not re.search(r"@\w|@\*|<|>|\]\(|&#?\w+;", text)
    assert text.count("\u200b") == 2 * harmless(hostile).count("\u200b")


def test_what_harms_nobody_stays_as_it_is() -> None:
    for text in ("image app@sha256:0123", "a & b", "x [1] (2)", "me@example.com", "a_b *c* `d`"):
        assert harmless(text) == text


async def test_only_news_are_told() -> None:
    memo = Memory()
    mild = replace(FIRST, incident=replace(FIRST.incident, severity=Severity.WARNING))
    worse = replace(OPENED, transition="updated", revision=5)
    again = replace(OPENED, transition="repeated", revision=6)
    within = replace(FIRST, digest="d" * 16, incident=replace(FIRST.incident, id="d" * 16))
    async with mattermost() as (receiver, url):
        sink = made(url)
        await send(sink, mild, replace(mild, transition="updated", revision=3), worse, again, within, memo=memo)
        await send(sink, mild, again, memo=memo)
        await send(sink, OVER, replace(OVER, incident=replace(OVER.incident, id="never told")), memo=memo)
        await send(sink, OVER, memo=memo)
    heads = [asked.json["text"].split()[0] for asked in receiver.asked]
    assert heads == ["WARNING", "CRITICAL", "CRITICAL", "RESOLVED"]
    assert not list(memo.items())


async def test_what_was_told_is_not_told_again_after_a_restart() -> None:
    memo = Memory()
    async with mattermost() as (receiver, url):
        await send(made(url), FIRST, memo=memo)
        await send(made(url), FIRST, memo=memo)
    assert len(receiver.asked) == 1


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (
            401,
            ConfigError,
            r"Mattermost does not accept what environment variable PLANTED gives \(401\): check or renew",
        ),
        (403, ConfigError, r"does not accept"),
        (404, ConfigError, r"knows no such place \(404\): check what environment variable PLANTED gives"),
        (400, Rejected, r"refuses it \(400\)"),
        (413, Rejected, r"refuses it \(413\)"),
        (429, RetryLater, r"does not take it \(429\)"),
        (500, RetryLater, r"does not take it \(500\); is the address right, and does it run\?"),
    ],
)
async def test_a_refusal_says_what_is_wrong_and_holds_no_address(
    status: int, error: type[Exception], words: str, said: Said
) -> None:
    async with mattermost() as (receiver, url):
        receiver.then(Reply(status, TOKEN.encode()))
        sink = made(url)
        with pytest.raises(error, match=words) as raised:
            await send(sink, FIRST)
        assert type(raised.value) is error
        assert TOKEN not in str(raised.value)
        await send(sink, FIRST)
    assert len(receiver.asked) == 2
    assert not [each for each in said.records if each.name.startswith("apprise")]


async def test_nobody_there_is_told_as_that() -> None:
    async with mattermost() as (_, url):
        pass
    with pytest.raises(RetryLater, match="Mattermost does not take it; is the address right"):
        await send(made(url), FIRST)


async def test_what_hangs_is_given_up_and_waited_for_by_nobody_else() -> None:
    free, memo = asyncio.Event(), Memory()

    async def slow(request: web.Request) -> web.StreamResponse:
        await free.wait()
        return web.Response()

    async with mattermost() as (receiver, url):
        receiver.then(slow)
        sink = made(url, timeout_seconds=0.3)
        sink._service.socket_read_timeout = 60  # type: ignore[attr-defined]
        with pytest.raises(RetryLater, match=r"Mattermost does not answer within 0.3 seconds"):
            await send(sink, FIRST, memo=memo)
        threads = threading.active_count()
        with pytest.raises(RetryLater, match="does not answer"):
            await send(sink, FIRST, memo=memo)
        other = replace(FIRST, id="9" * 32, incident=replace(FIRST.incident, id="9" * 16))
        with pytest.raises(RetryLater, match="has not yet taken the message before"):
            await send(sink, other, memo=memo)
        assert threading.active_count() == threads
        free.set()
        await sink._sending[1]  # type: ignore[attr-defined]
        await send(sink, FIRST, other, memo=memo)
    assert len(receiver.asked) == 2


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://planted", "gives is no address that apprise can use"),
        ("discord://planted", "gives is no address that apprise can use"),
        ("planted", "gives is no address that apprise can use"),
        ("json://planted, json://other", "holds several addresses: give each a sink of its own"),
    ],
)
def test_an_address_that_is_none_is_told_at_the_start(url: str, words: str, said: Said) -> None:
    with pytest.raises(ConfigError, match=f"^sink notify: .*environment variable PLANTED {words}") as raised:
        made(url)
    assert "planted" not in str(raised.value)
    assert not [each for each in said.records if each.name.startswith("apprise")]


async def test_texts_may_be_templates_and_values_in_them_are_harmless() -> None:
    finding = replace(FIRST, incident=view(told(DEPLOYMENT), title="@everyone"))
    async with receiving() as receiver:
        templates = {"title": "{{ incident.title }}", "text": "{{ incident.cluster }}!"}
        await send(made(receiver.url.replace("http", "json"), templates=templates), finding)
    assert receiver.asked[0].json["title"] == "@\u200beveryone"
    assert receiver.asked[0].json["message"] == "c!"


def test_what_would_be_told_is_shown() -> None:
    sink = made("json://127.0.0.1")
    assert isinstance(sink, Previews)
    assert sink.preview(OVER).splitlines() == [
        "RESOLVED Secret shop/password is missing (cluster sample)",
        "  after 5m: recovered",
    ]
    assert not sink.preview(OPENED)


async def test_no_log_has_the_address(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with mattermost() as (receiver, url):
        receiver.then(Reply(500, b""))
        with pytest.raises(RetryLater):
            await send(made(url), FIRST)
    # The command line lets nobody see what these say; the last is the receiver.
    quiet = (*_QUIET, "aiohttp.access")
    heard = [each for each in said.records if each.name.split(".")[0] not in quiet and each.name not in quiet]
    assert not [each for each in heard if TOKEN in each.getMessage()]
