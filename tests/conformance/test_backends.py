"""What every backend passes, against a far side that speaks its vendor's format to its vendor's library."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from explainer.backends import make
from kubewhy.contracts import Backend, Completion, Prompt
from kubewhy.errors import ConfigError, Rejected, RetryLater
from tests.models import VENDORS
from tests.models.far import (
    INPUT_TOKENS,
    MODEL,
    OUTPUT_TOKENS,
    PROMPT,
    RETRY_AFTER,
    SECRET,
    Ending,
    Far,
    Reply,
    Trouble,
    Vendor,
    compressed,
    endless,
    half,
    serving,
    silent,
)
from tests.models.tls import Authority

each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
# A service of one's own says nothing of how its answers end.
ENDING = [vendor for vendor in VENDORS if vendor.name != "rest"]

MEANINGS: dict[Trouble, tuple[type[Exception], str]] = {
    Trouble.UNKNOWN_MODEL: (ConfigError, f"there is no model {MODEL} at .*check `model`"),
    Trouble.WRONG_KEY: (ConfigError, "is not accepted .*check or renew it"),
    Trouble.EXPIRED: (ConfigError, "has expired .*renew it"),
    Trouble.WRONG_REGION: (ConfigError, "choose another model or region|check .*`region`"),
    Trouble.SPENT: (ConfigError, "used up .*raise it"),
    Trouble.THROTTLED: (RetryLater, "asked too often"),
    Trouble.OVERLOADED: (RetryLater, "the far side fails"),
    Trouble.FILTERED: (Rejected, "the content filter refuses this prompt"),
    Trouble.TOO_LONG: (Rejected, "longer than model .* can read"),
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing is taken from whoever runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def made(vendor: Vendor, url: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> AsyncIterator[Backend]:
    for name, value in vendor.environ().items():
        monkeypatch.setenv(name, value)
    backend = make(vendor.settings(url, **more), vendor.environ())
    try:
        yield backend
    finally:
        await backend.close()


async def complain(
    far: Far, monkeypatch: pytest.MonkeyPatch, error: type[Exception], *, url: str = "", **more: Any
) -> Any:
    """The error it ends with: one line that names the backend, and holds neither key nor prompt."""
    async with made(far.vendor, url or far.url, monkeypatch, **more) as backend:
        with pytest.raises(error) as told:
            await backend.complete(PROMPT)
    text = str(told.value)
    assert text.startswith(f"backend {far.vendor.name}: ")
    assert SECRET not in text
    assert PROMPT.user not in text
    assert text.isprintable()
    assert type(told.value) is error
    assert told.value.__cause__ is None
    return told.value


@each_vendor
async def test_a_good_answer_comes_with_its_model_and_its_tokens(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Far(vendor)) as far, made(vendor, far.url, monkeypatch) as backend:
        told = await backend.complete(PROMPT)
    counted = (0, 0) if vendor.name == "rest" else (INPUT_TOKENS, OUTPUT_TOKENS)
    assert told == Completion(far.text, MODEL, *counted)
    assert backend.name == vendor.name
    (asked,) = far.asked
    for part in (PROMPT.system, PROMPT.user):
        assert part in asked.body.decode()
    assert (vendor.schema(asked) == PROMPT.schema) is backend.structured


@each_vendor
async def test_a_prompt_without_a_schema_asks_for_none(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far, made(vendor, far.url, monkeypatch, max_tokens=77) as backend:
        await backend.complete(Prompt(PROMPT.system, PROMPT.user))
        assert vendor.schema(far.asked[0]) is None
    assert re.search(rb"\b77\b", far.asked[0].body), "what the settings say of tokens comes before the prompt's"


@pytest.mark.parametrize(
    ("vendor", "trouble"),
    [(vendor, trouble) for vendor in VENDORS for trouble in Trouble if vendor.refusal(trouble)],
    ids=lambda each: each if isinstance(each, str) else each.name,
)
async def test_a_refusal_means_what_it_says(vendor: Vendor, trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    error, words = MEANINGS[trouble]
    async with serving(Far(vendor)) as far:
        far.then(vendor.refusal(trouble))
        told = await complain(far, monkeypatch, error)
    assert re.search(words, str(told))
    assert len(far.asked) == 1, "trying again is the runtime's"
    if trouble is Trouble.THROTTLED:
        assert told.after == RETRY_AFTER


@pytest.mark.parametrize("vendor", ENDING, ids=lambda vendor: vendor.name)
@pytest.mark.parametrize(("ending", "words"), [(Ending.CUT, "cut short"), (Ending.FILTERED, "content filter")])
async def test_an_answer_that_does_not_come_to_its_end_is_rejected(
    vendor: Vendor, ending: Ending, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Far(vendor)) as far:
        far.answering = lambda asked: vendor.answer(asked, "half an ans", ending)
        assert words in str(await complain(far, monkeypatch, Rejected))


@each_vendor
async def test_a_reply_without_end_is_rejected(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        far.then(endless)
        assert "does not end" in str(await complain(far, monkeypatch, Rejected))


@each_vendor
async def test_half_a_body_is_tried_again_later(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        async with made(vendor, far.url, monkeypatch) as backend:
            await backend.complete(PROMPT)
        far.then(half(vendor.answer(far.asked[0], far.text)))
        assert "broke before" in str(await complain(far, monkeypatch, RetryLater))


@each_vendor
@pytest.mark.parametrize(
    "garbage",
    [
        Reply(200, b"<html>Welcome</html>", {"content-type": "text/html"}),
        Reply(200, b'{"choices": [', {"content-type": "application/json"}),
        Reply(200, b"\xff\xfe\x00", {"content-type": "application/json"}),
        Reply(200, b""),
        Reply(204, b""),
        Reply.of({}),
        Reply.of([]),
        Reply.of(None),
        Reply.of({"choices": [], "output": 7, "content": [], "candidates": [], "response": 1, "chatResponse": {}}),
        Reply.of({"choices": "x", "output": {}, "content": 3, "candidates": 5, "response": "", "chatResponse": 5}),
    ],
    ids=lambda reply: f"{reply.status} {reply.body[:12]!r}",
)
async def test_garbage_is_tried_again_later(vendor: Vendor, garbage: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        far.then(garbage)
        assert "is `url` right" in str(await complain(far, monkeypatch, RetryLater))


@each_vendor
async def test_an_error_page_of_something_between_is_tried_again_later(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Far(vendor)) as far:
        far.then(Reply(502, b"<html>Bad Gateway</html>", {"content-type": "text/html"}))
        assert "the far side fails (502)" in str(await complain(far, monkeypatch, RetryLater))


@each_vendor
async def test_what_is_compressed_unasked_is_not_unpacked(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        far.then(compressed)
        await complain(far, monkeypatch, RetryLater)


@each_vendor
async def test_no_answer_in_time_is_tried_again_later(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        far.then(silent)
        told = await complain(far, monkeypatch, RetryLater, timeout_seconds=0.3)
    assert "no answer within 0.3 seconds" in str(told) or "does not answer in time" in str(told)


@each_vendor
async def test_a_closed_port_is_tried_again_later(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert "cannot be reached" in str(await complain(Far(vendor), monkeypatch, RetryLater, url=url))


@each_vendor
async def test_a_redirect_is_not_followed(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as elsewhere, serving(Far(vendor)) as far:
        far.then(Reply(307, b"", {"location": f"{elsewhere.url}/v1/chat/completions"}))
        assert "redirects elsewhere" in str(await complain(far, monkeypatch, ConfigError))
        assert not elsewhere.asked


@each_vendor
async def test_a_certificate_nobody_vouches_for_is_told(
    vendor: Vendor, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Far(vendor), authority.context) as far:
        told = await complain(far, monkeypatch, ConfigError)
        assert "not to be trusted" in str(told)
        assert "ca_file" in str(told)
        async with made(vendor, far.url, monkeypatch, ca_file=authority.file) as backend:
            assert (await backend.complete(PROMPT)).text == far.text


@each_vendor
async def test_an_address_that_does_not_speak_tls_is_told(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        url = far.url.replace("http:", "https:")
        assert "does not speak TLS" in str(await complain(far, monkeypatch, ConfigError, url=url))


@each_vendor
async def test_a_file_that_holds_no_certificates_is_told(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in vendor.environ().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^backend {vendor.name}: .*ca_file|name a PEM file"):
        make(vendor.settings("http://127.0.0.1:1", ca_file="/nowhere.pem"), vendor.environ())


@each_vendor
async def test_a_proxy_out_of_reach_is_named(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@127.0.0.1:{closed.getsockname()[1]}")
        told = await complain(Far(vendor), monkeypatch, RetryLater, url="http://far.example")
    assert "proxy" in str(told)


@each_vendor
async def test_a_proxy_that_asks_for_a_password_is_told(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as proxy:
        proxy.then(*[Reply(407, b"", {"proxy-authenticate": "Basic"})] * 3)
        monkeypatch.setenv("http_proxy", proxy.url)
        told = await complain(proxy, monkeypatch, ConfigError, url="http://far.example")
    assert "the proxy asks for a password" in str(told)


@each_vendor
async def test_a_tunnel_that_asks_for_a_password_is_told(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT far.example:443")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        told = await complain(Far(vendor), monkeypatch, ConfigError, url="https://far.example")
    assert "the proxy asks for a password" in str(told)


@each_vendor
async def test_a_proxy_leads_to_the_far_side_unless_told_not_to(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Far(vendor)) as proxy, serving(Far(vendor, text='{"cause": "near"}')) as far:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with made(vendor, "http://far.example", monkeypatch) as backend:
            assert (await backend.complete(PROMPT)).text == proxy.text
        assert proxy.asked[0].headers["Host"] == "far.example"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with made(vendor, far.url, monkeypatch) as backend:
            assert (await backend.complete(PROMPT)).text == far.text


@each_vendor
async def test_what_is_closed_leaves_no_connection(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far:
        async with made(vendor, far.url, monkeypatch) as backend:
            await backend.complete(PROMPT)
            assert connections(far), "it is kept for the next prompt"
        assert not connections(far)


def connections(far: Far) -> list[Any]:
    """Ours to the far side."""
    port = int(far.url.rpartition(":")[2])
    every = psutil.Process().net_connections("tcp4")
    return [each for each in every if each.raddr and each.raddr.port == port and each.status == psutil.CONN_ESTABLISHED]


@pytest.mark.parametrize(
    "vendor", [vendor for vendor in VENDORS if "PLANTED" in vendor.environ()], ids=lambda vendor: vendor.name
)
def test_a_missing_key_is_told_with_its_place(vendor: Vendor) -> None:
    with pytest.raises(ConfigError, match=rf"^backend {vendor.name}: environment variable PLANTED is empty or not"):
        make(vendor.settings("http://127.0.0.1:1"), {})


@each_vendor
async def test_nothing_is_told_of_the_machine(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(vendor)) as far, made(vendor, far.url, monkeypatch) as backend:
        await backend.complete(PROMPT)
    for name, value in far.asked[0].headers.items():
        assert not re.search("stainless|client-info|api-client", name.lower())
        assert not re.search("linux|python|openai/|anthropic/|boto3", value.lower()), f"{name}: {value}"
