"""The webhook: what receivers get, what they can check, and what their refusals come to."""

import hashlib
import hmac
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter, ValidationError

from kubewhy.contracts import Letter, Previews, Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, Severity
from sinks import make
from sinks.samples import OPENED, RESOLVED
from sinks.settings import SinkSettings
from tests.delivered import Memory, letters
from tests.models.far import Reply, compressed, endless, half, silent
from tests.models.tls import Authority
from tests.services.receiver import receiving
from tests.services.v4 import V4
from tests.views import DEPLOYMENT, told, view

SETTINGS: TypeAdapter[SinkSettings] = TypeAdapter(SinkSettings)
SECRET = "planted-0123456789"
ENVIRON = {"PLANTED": SECRET}
OVER = replace(
    OPENED,
    id="2" * 32,
    transition="resolved",
    revision=3,
    incident=replace(OPENED.incident, state="resolved", resolved_at=OPENED.at, resolution="recovered"),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken from whoever runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def sink(url: str, environ: Mapping[str, str] = ENVIRON, **more: Any) -> Sink:
    where = {"url": f"{url}/hook?token={SECRET}"} if url else {}
    return make(SETTINGS.validate_python({"type": "webhook"} | where | more), environ)


@asynccontextmanager
async def closing(made: Sink) -> AsyncIterator[Sink]:
    try:
        yield made
    finally:
        await made.close()


async def send(url: str, *findings: Finding, memo: Memory | None = None, **more: Any) -> None:
    async with closing(sink(url, **more)) as made:
        for letter in letters(findings):
            await made.send([letter], memo or Memory())


async def test_a_stock_receiver_reads_what_opens_and_what_resolves() -> None:
    memo = Memory()
    async with receiving() as receiver:
        await send(receiver.url, OPENED, OVER, memo=memo, name="hook", labels={"team": "payments"})
    opened, over = [V4.model_validate(asked.json) for asked in receiver.asked]
    assert (opened.status, opened.receiver, over.status) == ("firing", "hook", "resolved")
    (alert,), (ended,) = opened.alerts, over.alerts
    assert alert.labels == {
        "alertname": "pod-config-missing",
        "severity": "critical",
        "cluster": "sample",
        "namespace": "shop",
        "kind": "Secret",
        "name": "password",
        "incident": "0" * 16,
        "team": "payments",
    }
    assert alert.annotations["summary"] == "Secret shop/password is missing"
    assert "Secret shop/password does not exist" in alert.annotations["description"]
    assert (alert.startsAt, alert.endsAt.year) == (OPENED.incident.opened_at, 1)
    assert (ended.startsAt, ended.endsAt) == (OPENED.incident.opened_at, OPENED.at)
    assert (ended.labels, ended.fingerprint, over.groupKey) == (alert.labels, alert.fingerprint, opened.groupKey)


async def test_labels_stay_the_same_whatever_becomes_of_the_incident() -> None:
    first = replace(OPENED, transition="opened", revision=1)
    other = replace(OPENED.incident, title="Deployment shop/web is down", root=DEPLOYMENT, severity=Severity.WARNING)
    async with receiving() as receiver:
        await send(receiver.url, first, replace(OPENED, incident=other), memo=Memory())
    before, after = [V4.model_validate(asked.json).alerts for asked in receiver.asked]
    assert [each.labels for each in after] == [each.labels for each in before]
    assert after[0].annotations["summary"] == "Deployment shop/web is down"


async def test_what_becomes_worse_is_another_alert_and_ends_the_one_before() -> None:
    mild = replace(OPENED, revision=1, incident=replace(OPENED.incident, severity=Severity.WARNING))
    async with receiving() as receiver:
        await send(receiver.url, mild, OPENED, OVER, memo=Memory())
    _, worse, over = [V4.model_validate(asked.json) for asked in receiver.asked]
    assert [(each.status, each.labels["severity"]) for each in worse.alerts] == [
        ("resolved", "warning"),
        ("firing", "critical"),
    ]
    assert worse.status == "firing"
    assert "severity" not in worse.commonLabels
    assert over.status == "resolved"
    assert over.alerts[-1].labels["severity"] == "critical"


async def test_a_cloud_event_holds_the_finding() -> None:
    async with receiving() as receiver:
        await send(receiver.url, OPENED, format="cloudevents")
    (asked,) = receiver.asked
    assert asked.headers["Content-Type"] == "application/cloudevents+json"
    event = asked.json
    assert (event["specversion"], event["id"], event["type"], event["source"], event["subject"]) == (
        "1.0",
        OPENED.id,
        "dev.kubewhy.finding.explained.v1",
        "/kubewhy/clusters/sample",
        "0" * 16,
    )
    assert event["data"]["incident"]["title"] == OPENED.incident.title
    assert event["data"]["explanation"]["cause"] == "The Secret was removed."


@pytest.mark.parametrize("kind", ["alertmanager", "cloudevents"])
async def test_the_same_finding_comes_with_the_same_bytes_key_and_signature(kind: str) -> None:
    memo = Memory()
    more: dict[str, Any] = {"format": kind, "signing_key": {"env": "PLANTED"}}
    async with receiving() as receiver:
        await send(receiver.url, OPENED, memo=memo, **more)
        await send(receiver.url, OPENED, memo=memo, **more)
    first, again = receiver.asked
    assert first.body == again.body
    for name in ("Idempotency-Key", "X-Kubewhy-Timestamp", "X-Kubewhy-Signature"):
        assert first.headers[name] == again.headers[name]
    assert first.headers["Idempotency-Key"] == OPENED.id
    told = f"{first.headers['X-Kubewhy-Timestamp']}.".encode() + first.body
    digest = hmac.new(SECRET.encode(), told, hashlib.sha256).hexdigest()
    assert first.headers["X-Kubewhy-Signature"] == f"v1={digest}"


async def test_what_was_overtaken_is_not_told_again() -> None:
    memo = Memory()
    async with receiving() as receiver:
        await send(receiver.url, OPENED, OVER, memo=memo)
        await send(receiver.url, OPENED, memo=memo)
    assert len(receiver.asked) == 2


async def test_what_ended_long_ago_is_forgotten() -> None:
    memo = Memory()
    at = RESOLVED.at.replace(year=2027)
    later = replace(RESOLVED, at=at, incident=replace(RESOLVED.incident, resolved_at=at))
    async with receiving() as receiver:
        await send(receiver.url, OVER, later, memo=memo)
    assert [key for key, _ in memo.items()] == [f"alerts/{RESOLVED.incident.id}"]


async def test_headers_and_credentials_are_those_of_the_settings() -> None:
    async with receiving() as receiver:
        await send(
            receiver.url, OPENED, bearer={"env": "PLANTED"}, headers={"X-Team": "shop", "X-Key": {"env": "PLANTED"}}
        )
        await send(receiver.url, OPENED, basic={"user": "me", "password": {"env": "PLANTED"}})
    first, second = receiver.asked
    assert first.headers["Authorization"] == f"Bearer {SECRET}"
    assert (first.headers["X-Team"], first.headers["X-Key"]) == ("shop", SECRET)
    assert second.headers["Authorization"].startswith("Basic ")
    assert first.path == f"/hook?token={SECRET}"


async def test_no_log_has_the_address_or_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiving() as receiver:
        receiver.then(Reply(200, b"ok"), silent)
        await send(receiver.url, OPENED, bearer={"env": "PLANTED"})
        with pytest.raises(RetryLater):
            await send(receiver.url, OPENED, timeout_seconds=0.2)
    ours = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    assert not [line for line in ours if SECRET in line]


async def test_the_address_itself_may_be_a_secret(tmp_path: Path) -> None:
    async with receiving() as receiver:
        environ = {"HOOK": f"{receiver.url}/{SECRET}"}
        receiver.then(Reply(404, b""))
        async with closing(sink("", environ, url_key={"env": "HOOK"})) as made:
            with pytest.raises(ConfigError, match="check the path in environment variable HOOK") as error:
                await made.send(letters([OPENED]), Memory())
    assert SECRET not in str(error.value)
    with pytest.raises(ConfigError, match=r"^sink webhook: what .* HOOK gives") as none:
        sink("", {"HOOK": f"ftp://{SECRET}"}, url_key={"env": "HOOK"})
    assert SECRET not in str(none.value)


ELSEWHERE = {"location": f"https://other.example/{SECRET}?x={SECRET}"}
REFUSALS = [
    (Reply(401, b""), ConfigError, r"wants to know who posts \(401\): add `bearer`, `basic` or a header"),
    (Reply(404, b""), ConfigError, r"nothing is there to post to at .* \(404\): check the path in `url`"),
    (Reply(410, b""), ConfigError, r"nothing is there to post to at .* \(410\)"),
    (Reply(407, b""), ConfigError, "the proxy asks for a password"),
    (Reply(301, b"", ELSEWHERE), ConfigError, r"redirects to other.example \(301\): write the address it leads to"),
    (Reply(307, b"", {"location": "/else"}), ConfigError, r"redirects to another path of http://127.0.0.1:\d+ \(307\)"),
    (Reply(308, b"", {"location": "http://[x"}), ConfigError, r"redirects to elsewhere"),
    (Reply(408, b""), RetryLater, "wants it again"),
    (Reply(425, b""), RetryLater, "wants it again"),
    (Reply(429, b"", {"retry-after": "7"}), RetryLater, "too often"),
    (Reply(500, b""), RetryLater, r"fails \(500\)"),
    (Reply(503, b"", {"retry-after": "7"}), RetryLater, r"fails \(503\)"),
    (Reply(400, SECRET.encode()), Rejected, r"refuses it \(400\)"),
    (Reply(422, b""), Rejected, r"refuses it \(422\)"),
    (silent, RetryLater, "no answer within 0.5 seconds|does not answer in time"),
]


@pytest.mark.parametrize(("reply", "error", "words"), REFUSALS, ids=lambda each: str(getattr(each, "status", "")))
async def test_a_refusal_says_what_is_wrong_and_holds_no_secret(reply: Any, error: type[Exception], words: str) -> None:
    async with receiving() as receiver:
        receiver.then(reply)
        with pytest.raises(error, match=words) as raised:
            await send(receiver.url, OPENED, timeout_seconds=0.5 if reply is silent else 10)
    assert len(receiver.asked) == 1
    assert type(raised.value) is error
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert getattr(raised.value, "after", None) == (7 if "retry-after" in getattr(reply, "headers", {}) else None)


@pytest.mark.parametrize("status", [401, 403])
async def test_what_is_not_accepted_is_told_by_where_it_is(status: int) -> None:
    async with receiving() as receiver:
        receiver.then(Reply(status, b""))
        with pytest.raises(ConfigError, match="does not accept what environment variable PLANTED gives"):
            await send(receiver.url, OPENED, bearer={"env": "PLANTED"})


async def test_what_is_too_large_comes_once_more_and_smaller() -> None:
    many = replace(OPENED, incident=replace(OPENED.incident, failures=OPENED.incident.failures * 9))
    refused = Reply(413, b"")
    for kind in ("alertmanager", "cloudevents"):
        async with receiving() as receiver:
            receiver.then(refused)
            await send(receiver.url, many, format=kind)
            first, smaller = receiver.asked
            assert len(smaller.body) < len(first.body)
            assert b"does not exist" in smaller.body
            receiver.then(refused, refused)
            with pytest.raises(Rejected, match=r"takes no post so large .* even with one failure alone"):
                await send(receiver.url, many, format=kind)


@pytest.mark.parametrize(
    "reply", [endless, half(Reply(200, b"x" * 1000)), compressed], ids=["endless", "half", "packed"]
)
async def test_once_it_is_taken_no_reply_can_hold_it(reply: Any) -> None:
    async with receiving() as receiver:
        receiver.then(reply)
        await send(receiver.url, OPENED, timeout_seconds=0.5)
        await send(receiver.url, OVER)
    assert len(receiver.asked) == 2


async def test_a_closed_port_is_told_as_that() -> None:
    async with receiving() as receiver:
        pass
    with pytest.raises(RetryLater, match=r"^http://127.0.0.1:\d+ cannot be reached; is `url` right"):
        await send(receiver.url, OPENED)


async def test_a_certificate_has_to_be_known(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with receiving(authority.context) as receiver:
        with pytest.raises(ConfigError, match="is not to be trusted: name the file of its authority as `ca_file`"):
            await send(receiver.url, OPENED)
        await send(receiver.url, OPENED, ca_file=authority.file)


async def test_we_are_known_by_our_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.context.verify_mode = ssl.CERT_REQUIRED
    authority.context.load_verify_locations(authority.file)
    ours: dict[str, Any] = {"certificate": {"file": tmp_path / "server.pem"}, "ca_file": authority.file}
    async with receiving(authority.context) as receiver:
        with pytest.raises((ConfigError, RetryLater)):
            await send(receiver.url, OPENED, ca_file=authority.file)
        await send(receiver.url, OPENED, **ours)
    assert len(receiver.asked) == 1


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"url": "https://me:planted@host/"}, "must not hold a user or password: use `basic` or `bearer`.*`url_key`"),
        ({"url": "host/path"}, "is no address; write https://host/path"),
        ({"url": "ftp://host"}, "is no address"),
        ({"url": None}, "give `url` or `url_key`"),
        ({"headers": {"Host": "x"}}, "Host is set by kubewhy itself"),
        ({"headers": {"X-A": "a\r\nb"}}, "a header is one line"),
        ({"headers": {"Authorization": "Bearer planted"}}, "tell where the secret is, not the secret"),
        ({"bearer": "planted"}, "tell where the secret is, not the secret"),
        ({"bearer": {"env": "A"}, "basic": {"user": "a", "password": {"env": "A"}}}, "give one of `bearer`, `basic`"),
        ({"headers": {"X A": "b"}}, "is no name of a header"),
        ({"labels": {"severity": "x"}}, "severity is set by kubewhy itself"),
        ({"format": "cloudevents", "labels": {"a": "b"}}, "are for `format: alertmanager`"),
    ],
)
def test_wrong_settings_are_told(told: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SETTINGS.validate_python({"type": "webhook", "url": "https://host/"} | told)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"bearer": {"env": "NONE"}}, "environment variable NONE is empty or not there"),
        ({"ca_file": "/no/such/file"}, "/no/such/file: cannot be read as certificates"),
        ({"certificate": {"file": "/no/such/file"}}, "cannot be read .*: check `certificate`"),
        ({"certificate": {"file": __file__}}, "no certificate with the key that belongs to it: check `certificate`"),
        ({"templates": {"text": "{{ nothing }}"}}, "templates.text: line 1: 'nothing' is undefined"),
    ],
)
def test_what_is_missing_is_told_at_the_start(told: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^sink webhook: .*{words}"):
        sink("https://host", **told)


async def test_texts_may_be_templates() -> None:
    async with receiving() as receiver:
        await send(receiver.url, OPENED, templates={"title": "{{ incident.cluster }}!", "text": "{{ transition }}"})
    (asked,) = receiver.asked
    assert asked.json["alerts"][0]["annotations"]["summary"] == "sample!"
    assert asked.json["alerts"][0]["annotations"]["description"] == "explained"


async def test_hostile_text_is_one_plain_line_of_json() -> None:
    message = 'a"\\\x1b[31m\u202e</script>\n@everyone \ud83d'.encode("utf-8", "ignore").decode()
    finding = replace(OPENED, explanation=None, incident=view(told(DEPLOYMENT, message=message)))
    async with receiving() as receiver:
        await send(receiver.url, finding)
    description = V4.model_validate(json.loads(receiver.asked[0].body)).alerts[0].annotations["description"]
    assert description == 'Deployment shop/web: a"\\</script> @everyone'


@pytest.mark.parametrize("kind", ["alertmanager", "cloudevents"])
async def test_what_would_be_posted_is_shown(kind: str) -> None:
    finding = replace(OPENED, incident=replace(OPENED.incident, title="über\u202ea"))
    async with closing(sink("https://host", format=kind)) as made, receiving() as receiver:
        assert isinstance(made, Previews)
        shown = made.preview(finding)
        await send(receiver.url, finding, format=kind)
    assert json.loads(shown) == receiver.asked[0].json
    assert all(line.isprintable() for line in shown.splitlines())


async def test_one_letter_is_given_at_a_time() -> None:
    async with closing(sink("https://host")) as made:
        assert made.manner.at_most == 1
        assert not await made.spare(Memory())
        assert isinstance(letters([OPENED])[0], Letter)
