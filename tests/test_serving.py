"""Whoever looks after a process gets an answer: also while it hangs, and whatever else is asked of it meanwhile."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import pytest
from pydantic import ValidationError

from kubewhy.errors import ConfigError
from kubewhy.faults import first
from kubewhy.listening import MetricsSettings
from kubewhy.runtime.telemetry.families import Metrics
from kubewhy.runtime.telemetry.health import HUNG_SECONDS, Health
from kubewhy.runtime.telemetry.metrics import ExplainerMetrics, KafkaMetrics
from kubewhy.runtime.telemetry.serving import serving
from kubewhy.settings import Settings

HERE = MetricsSettings(listen="127.0.0.1:0")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def send(port: int, told: bytes) -> Reply:
    """What is answered, until the far side ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(told)
    async with asyncio.timeout(20):
        whole = await reader.read()
    writer.close()
    return parsed(whole)


def parsed(whole: bytes) -> Reply:
    head, _, body = whole.partition(b"\r\n\r\n")
    first_line, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Reply(int(first_line.split()[1]), headers, body)


async def ask(port: int, path: str, method: str = "GET", headers: str = "") -> Reply:
    return await send(port, f"{method} {path} HTTP/1.1\r\nHost: here\r\n{headers}\r\n".encode())


def ask_from_elsewhere(port: int, path: str) -> Reply:
    """In a thread, for when the loop of the test hangs."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return parsed(b"".join(parts))


@asynccontextmanager
async def served(
    metrics: Metrics | None = None, health: Health | None = None, patience: float = 10
) -> AsyncIterator[int]:
    async with serving(HERE, metrics or Metrics("test"), health or Health(), patience) as port:
        assert port
        yield port


async def test_metrics_are_served_as_text_and_as_openmetrics() -> None:
    metrics = Metrics("test")
    KafkaMetrics(metrics).consumed("kubewhy.evidence.v1", 3)
    async with served(metrics) as port:
        text = await ask(port, "/metrics")
        other = await ask(port, "/metrics?name[]=any", headers="aCCept: application/openmetrics-text;version=1.0.0\r\n")
    assert text.status == other.status == 200
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'kubewhy_kafka_consumed_records_total{topic="kubewhy.evidence.v1"} 3.0' in text.body
    assert int(text.headers["content-length"]) == len(text.body)
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert other.body.endswith(b"# EOF\n")


async def test_what_is_read_is_read_in_the_loop_it_belongs_to() -> None:
    metrics = Metrics("test")
    threads = []

    def count() -> dict[tuple[str, str], int]:
        threads.append(threading.current_thread())
        return {("c1", "info"): 1}

    ExplainerMetrics(metrics).incidents(count)
    async with served(metrics) as port:
        assert b"kubewhy_incidents_open" in (await ask(port, "/metrics")).body
    assert threads == [threading.main_thread()]


async def test_a_process_whose_loop_turns_is_alive() -> None:
    async with served() as port:
        told = await ask(port, "/healthz")
    assert (told.status, told.body) == (200, b"ok\n")


async def test_a_process_that_hangs_is_not_alive_and_says_so() -> None:
    now = [0.0]
    health = Health("kafka", clock=lambda: now[0])
    health.say("kafka")
    metrics = Metrics("test")
    KafkaMetrics(metrics).commit_failed()
    async with served(metrics, health, patience=1.0) as port:
        assert (await ask(port, "/readyz")).status == 200
        found: list[Reply] = []

        def look() -> None:
            now[0] = HUNG_SECONDS - 1
            found.append(ask_from_elsewhere(port, "/healthz"))
            now[0] = HUNG_SECONDS + 15
            found.extend(ask_from_elsewhere(port, path) for path in ("/healthz", "/readyz", "/metrics"))

        asking = threading.Thread(target=look)
        asking.start()
        asking.join()  # the loop does not turn meanwhile
        still, alive, ready, shown = found
        assert still.status == 200
        assert (alive.status, alive.body) == (503, b"hung: the loop has not turned for 45 s\n")
        assert ready.status == 503
        assert "45 s" in json.loads(ready.body)["checks"]["loop"]["reason"]
        assert shown.status == 200, "what was counted is shown all the same"
        assert b"kubewhy_kafka_commit_failures_total 1.0" in shown.body
        health.beat()
        assert (await ask(port, "/healthz")).status == 200


async def test_it_is_ready_once_every_check_is_passed() -> None:
    health = Health("kafka", "topics")
    async with served(health=health) as port:
        told = await ask(port, "/readyz")
        assert told.status == 503
        assert json.loads(told.body) == {
            "ready": False,
            "checks": {
                "kafka": {"ok": False, "reason": "it has only begun"},
                "topics": {"ok": False, "reason": "it has only begun"},
            },
        }
        health.say("kafka")
        health.say("topics", "there is no topic kubewhy.evidence.v1")
        told = await ask(port, "/readyz")
        assert told.status == 503
        assert json.loads(told.body)["checks"] == {
            "kafka": {"ok": True},
            "topics": {"ok": False, "reason": "there is no topic kubewhy.evidence.v1"},
        }
        health.say("topics")
        told = await ask(port, "/readyz")
        assert (told.status, told.headers["content-type"]) == (200, "application/json")
        assert json.loads(told.body) == {"ready": True, "checks": {"kafka": {"ok": True}, "topics": {"ok": True}}}


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/none"])
async def test_head_is_answered_without_a_body(path: str) -> None:
    async with served() as port:
        whole, head = await ask(port, path), await ask(port, path, "HEAD")
    assert head.body == b""
    assert head.status == whole.status
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "path", ["/", "/none", "/metrics/", "/../etc/passwd", "//metrics", "/metrics%00", "*", "/METRICS"]
)
async def test_there_is_nothing_else(path: str) -> None:
    async with served() as port:
        told = await ask(port, path)
    assert told.status == 404
    assert b"passwd" not in told.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", "X" * 100])
async def test_no_other_method_is_taken(method: str) -> None:
    async with served() as port:
        told = await ask(port, "/metrics", method)
    assert told.status == 405
    assert told.headers["allow"] == "GET, HEAD"


GARBAGE = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /metrics\r\n\r\n",
    b"GET /metrics HTTP/2.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # somebody speaks TLS
    b"GET http://[ HTTP/1.1\r\n\r\n",
    b"\xff\xfe\x00 \xff \xff\r\n\r\n",
    b"GET /metrics HTTP/1.1 and more\r\n\r\n",
]


@pytest.mark.parametrize("told", GARBAGE)
async def test_nonsense_is_refused(told: bytes) -> None:
    async with served() as port:
        assert (await send(port, told)).status == 400
        assert (await ask(port, "/healthz")).status == 200


@pytest.mark.parametrize(
    "told",
    [b"GET /" + b"x" * 100_000, b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, b"x" * 50_000 + b"\r\n\r\n"],
)
async def test_what_is_too_long_is_refused(told: bytes) -> None:
    async with served() as port:
        with suppress(OSError, IndexError):  # it may hang up while there is more to come
            assert (await send(port, told)).status == 431
        assert (await ask(port, "/healthz")).status == 200


async def test_old_and_odd_ways_to_ask_are_understood() -> None:
    async with served() as port:
        for told in (
            b"GET /healthz HTTP/1.0\r\n\r\n",
            b"GET /healthz HTTP/1.1\n\n",
            b"GET http://here:9464/healthz HTTP/1.1\r\nHost: here\r\n\r\n",
            b"GET /healthz?a=b HTTP/1.1\r\nno colon\r\n: odd\r\n\r\n",
        ):
            assert (await send(port, told)).status == 200, told


async def test_who_asks_slowly_is_let_go_and_delays_nobody() -> None:
    async with served(patience=0.5) as port:
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in slow:
            writer.write(b"GET /met")
        assert (await ask(port, "/healthz")).status == 200
        async with asyncio.timeout(10):
            for reader, writer in slow:
                # A byte now and then does not help.
                writer.write(b"r")
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()


async def test_who_does_not_listen_to_the_answer_is_let_go() -> None:
    metrics = Metrics("test")
    kafka = KafkaMetrics(metrics)
    for number in range(900):
        kafka.consumed("long-name-" * 50 + str(number))
    async with served(metrics, patience=0.5) as port:
        deaf = socket.create_connection(("127.0.0.1", port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert (await ask(port, "/healthz")).status == 200
        await asyncio.sleep(1)
        assert (await ask(port, "/healthz")).status == 200
        deaf.close()


async def test_who_goes_away_in_between_disturbs_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    async with served() as port:
        for told in (b"", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\n\r\n"):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port)) as gone:
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    gone.sendall(told)
        assert (await ask(port, "/healthz")).status == 200
    assert capfd.readouterr() == ("", "")


async def test_a_hundred_ask_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    async with served() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        replies = await asyncio.gather(*(ask(port, "/metrics") for _ in range(100)))
        assert {reply.status for reply in replies} == {200}
        for _, writer in idle:
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert {parsed(await reader.read()).status for reader, _ in idle} == {200}
        for _, writer in idle:
            writer.close()
    assert capfd.readouterr() == ("", "")


async def test_nobody_can_hold_more_connections_than_it_likes() -> None:
    async with served(patience=1.0) as port:
        many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(400)]
        async with asyncio.timeout(10):
            assert await many[-1][0].read() == b""
            assert await many[0][0].read() == b"", "and those are let go in time"
        for _, writer in many:
            writer.close()
        assert (await ask(port, "/healthz")).status == 200


async def test_it_listens_only_where_it_is_told_and_no_longer() -> None:
    async with served() as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    assert not any(thread.name == "metrics" for thread in threading.enumerate())


async def test_it_can_listen_again_at_once_at_the_same_place() -> None:
    async with served() as port:
        await ask(port, "/metrics")
    async with serving(MetricsSettings(listen=f"127.0.0.1:{port}"), Metrics("again"), Health()) as again:
        assert again == port
        assert (await ask(port, "/healthz")).status == 200


async def test_it_listens_on_ipv6() -> None:
    try:
        async with serving(MetricsSettings(listen="[::1]:0"), Metrics("test"), Health()) as port:
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert parsed(await reader.read()).status == 200
            writer.close()
    except ConfigError:
        pytest.skip("no IPv6 here")


async def test_without_settings_it_listens_nowhere() -> None:
    async with serving(None, Metrics("test"), Health()) as port:
        assert port is None
    assert not any(thread.name == "metrics" for thread in threading.enumerate())


async def test_it_ends_with_what_it_is_asked_for_also_after_an_error() -> None:
    began = time.monotonic()
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def work() -> None:
        async with served() as port:
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await work()
    with suppress(ConnectionError):
        assert await opened[0][0].read() == b""
    opened[0][1].close()
    assert time.monotonic() - began < 5
    assert not any(thread.name == "metrics" for thread in threading.enumerate())


async def test_a_port_in_use_is_told_in_a_line() -> None:
    async with served() as port:
        with pytest.raises(ConfigError) as error:
            async with serving(MetricsSettings(listen=f"127.0.0.1:{port}"), Metrics("other"), Health()):
                pass
    assert str(error.value) == (
        f"metrics.listen: cannot listen on 127.0.0.1:{port} (Address already in use): "
        "name another address, or end what listens there"
    )


@pytest.mark.parametrize("listen", ["192.0.2.1:9464", "no-such-host.invalid:9464"])
async def test_an_address_that_is_not_ours_is_told_in_a_line(listen: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on") as error:
        async with serving(MetricsSettings(listen=listen), Metrics("other"), Health()):
            pass
    assert "\n" not in str(error.value)


def test_by_default_it_listens_everywhere_at_one_port() -> None:
    assert Settings.model_validate({}).metrics is None
    settings = Settings.model_validate({"metrics": {}})
    assert settings.metrics
    assert settings.metrics.place == ("0.0.0.0", 9464)
    assert MetricsSettings(listen="[::]:80").place == ("::", 80)


@pytest.mark.parametrize(
    "listen", ["", "9464", ":9464", "here", "here:", "here:99999", "a b:1", "http://here:1", "::1:1"]
)
def test_an_address_that_is_none_is_told_by_its_place(listen: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings.model_validate({"metrics": {"listen": listen}})
    assert first(error.value, Settings) == (
        "metrics.listen: is no address to listen on; write 0.0.0.0:9464, or 127.0.0.1:9464 for this machine alone"
    )


def test_a_key_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(ValidationError) as error:
        Settings.model_validate({"metrics": {"listne": "x:1"}})
    assert first(error.value, Settings) == "metrics.listne: unknown key; did you mean listen? (known here: listen)"
