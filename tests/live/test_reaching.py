"""A broker that is not there, that lets nobody in, or that is spoken to in the wrong way: one line, and no secret."""

import asyncio
import logging
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from infra.testbed.certificates import Authority
from infra.testbed.kafka import Broker, kafka
from infra.testbed.listeners import Login
from infra.testbed.processes import free_ports
from kubewhy.brokers import BrokerSettings
from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.declaring import create, ready
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.topics import CLAIMS, DEAD_LETTERS, EVIDENCE, FAILURES, FINDINGS, RESTATED
from tests.live.command import Shell

pytestmark = pytest.mark.live

WRONG = "open-sesame"  # no password of anyone


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with kafka(tmp_path_factory.mktemp("secured"), secured=True) as started:
        yield started


def of(server: str, environ: Mapping[str, str] | None = None, **told: Any) -> Kafka:
    told = {"servers": [server], "prefix": f"{uuid4().hex[:8]}.", "replication": 1, "partitions": 4, **told}
    return Kafka(BrokerSettings.model_validate(told), environ or {}, "test")


def sasl(mechanism: str, login: Login) -> dict[str, Any]:
    return {"mechanism": mechanism, "username": login.name, "password": {"env": "PASSWORD"}}


def knowing(login: Login) -> dict[str, str]:
    return {"PASSWORD": login.password}


async def refusal(at: Kafka) -> str:
    with pytest.raises(ConfigError) as caught:
        await at.reached()
    told = str(caught.value)
    assert "\n" not in told
    assert WRONG not in told
    return told


async def trouble(at: Kafka) -> str:
    told = await at.trouble()
    assert "\n" not in told
    return told


async def test_each_way_in_is_open_to_who_belongs_there(secured: Broker) -> None:
    at = secured.secured
    tls = {"ca_file": str(at.ca_file)}
    for way in (
        of(secured.bootstrap),
        of(at.sasl_plaintext, knowing(at.plain), sasl=sasl("PLAIN", at.plain)),
        of(at.sasl_plaintext, knowing(at.scram), sasl=sasl("SCRAM-SHA-512", at.scram)),
        of(at.sasl_ssl, knowing(at.plain), sasl=sasl("PLAIN", at.plain), tls=tls),
        of(at.sasl_ssl, knowing(at.scram), sasl=sasl("SCRAM-SHA-512", at.scram), tls=tls),
        of(at.ssl, tls=tls),
        of(at.mutual_tls, tls={**tls, "cert_file": str(at.client_pem)}),
        # By another name than the broker's own, which is then reached too.
        of(at.ssl.replace("127.0.0.1", "localhost"), tls=tls),
    ):
        assert await trouble(way) == ""
        assert not (await create(way, [EVIDENCE])).refused
        await ready(way, EVIDENCE)


async def test_a_wrong_password_is_refused_at_once(secured: Broker) -> None:
    at, environ = secured.secured, {"PASSWORD": WRONG}
    for mechanism, login, told in (
        ("PLAIN", at.plain, "Invalid username or password"),
        ("SCRAM-SHA-512", at.scram, "invalid credentials"),
        ("PLAIN", Login("nobody"), "Invalid username or password"),
        ("SCRAM-SHA-512", Login("nobody"), "invalid credentials"),
    ):
        for server, tls in ((at.sasl_plaintext, None), (at.sasl_ssl, {"ca_file": str(at.ca_file)})):
            said = await refusal(of(server, environ, sasl=sasl(mechanism, login), tls=tls))
            assert said.startswith(f"kafka: {server} refuses us (")
            assert told in said
            assert said.endswith("check kafka.sasl, and the secret it names")


async def test_what_a_listener_does_not_take_is_told(secured: Broker) -> None:
    at = secured.secured
    said = await refusal(of(at.sasl_plaintext, knowing(at.scram), sasl=sasl("SCRAM-SHA-256", at.scram)))
    assert said == f"kafka: {at.sasl_plaintext} does not take SCRAM-SHA-256: write another kafka.sasl.mechanism"
    said = await refusal(of(secured.bootstrap, knowing(at.plain), sasl=sasl("PLAIN", at.plain)))
    assert said == f"kafka: {secured.bootstrap} wants no name or password: leave kafka.sasl out"


async def test_a_certificate_that_cannot_be_trusted_is_refused_at_once(secured: Broker, tmp_path: Path) -> None:
    at, stranger = secured.secured, Authority(tmp_path)
    for tls in (True, {"ca_file": str(stranger.file)}):
        said = await refusal(of(at.ssl, tls=tls))
        assert said.startswith(f"kafka: the certificate of {at.ssl} cannot be trusted (")
        assert said.endswith("name its authority in kafka.tls.ca_file")
    for tls in ({"ca_file": str(at.ca_file)}, {"ca_file": str(at.ca_file), "cert_file": str(stranger.issue("client"))}):
        said = await refusal(of(at.mutual_tls, tls=tls))
        assert said == (
            f"kafka: {at.mutual_tls} wants a certificate of ours that it trusts: name one in kafka.tls.cert_file"
        )


async def test_who_may_do_nothing_is_told_so(secured: Broker) -> None:
    at = secured.secured
    way = of(at.sasl_plaintext, knowing(at.stranger), sasl=sasl("PLAIN", at.stranger))
    assert await trouble(way) == ""
    with pytest.raises(ConfigError, match=r"not permitted to look at topic .*: grant it to the user of kafka\.sasl$"):
        await ready(way, EVIDENCE)


async def test_the_wrong_way_of_speaking_is_waited_out_with_a_hint(secured: Broker) -> None:
    at = secured.secured
    tls, name = {"ca_file": str(at.ca_file)}, sasl("PLAIN", at.plain)
    for way, wanted in (
        (of(secured.bootstrap, tls=tls), "kafka.tls without kafka.sasl"),
        (of(at.ssl), "plain text, with neither kafka.tls nor kafka.sasl"),
        (of(at.sasl_plaintext), "plain text, with neither kafka.tls nor kafka.sasl"),
        (of(at.sasl_ssl, tls=tls), "kafka.tls without kafka.sasl"),
        (of(at.sasl_ssl, knowing(at.plain), sasl=name), "kafka.sasl without kafka.tls"),
        (of(at.sasl_plaintext, knowing(at.plain), sasl=name, tls=tls), "kafka.sasl over kafka.tls"),
    ):
        (server,) = way.settings.servers
        assert await trouble(way) == f"{server} hangs up; does it take {wanted}?"


async def test_what_is_nowhere_is_told_by_its_name(secured: Broker) -> None:
    (port,) = free_ports(1)
    assert await trouble(of("nowhere.invalid:9092")) == "cannot reach nowhere.invalid:9092 (Name or service not known)"
    assert await trouble(of(f"127.0.0.1:{port}")) == f"cannot reach 127.0.0.1:{port} (Connection refused)"
    both = of("-", servers=["nowhere.invalid:9092", f"127.0.0.1:{port}"])
    assert (await trouble(both)).count("cannot reach ") == 2
    assert await trouble(of("-", servers=[f"127.0.0.1:{port}", secured.bootstrap])) == ""


async def test_one_who_says_nothing_is_not_waited_for_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubewhy.runtime.fleet.reaching._ASKING", 0.5)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await trouble(of(address))).startswith(f"{address} does not answer; does it take plain text")
        assert (await trouble(of(address, tls=True))).startswith(f"{address} does not answer; does it take kafka.tls")


async def test_brokers_that_name_themselves_otherwise_are_told_of(tmp_path: Path) -> None:
    hidden = "PLAINTEXT://kafka-0.invalid:9092"
    with kafka(tmp_path, advertised_listeners=hidden) as broker:
        said = await trouble(of(broker.bootstrap))
    assert said == (
        "the brokers name themselves otherwise than kafka.servers does, and cannot be reached so: "
        "cannot reach kafka-0.invalid:9092 (Name or service not known); mend their advertised.listeners"
    )


async def test_a_topic_that_is_missing_or_has_other_partitions_ends_the_start(broker: Broker) -> None:
    at = of(broker.bootstrap)
    with pytest.raises(ConfigError) as caught:
        await ready(at, EVIDENCE, FAILURES)
    assert str(caught.value) == (
        f"kafka: topics {at.name(EVIDENCE)}, {at.name(FAILURES)} are missing at {broker.bootstrap}: "
        "run `kubewhy topics create --config FILE`"
    )
    await create(at, [EVIDENCE, CLAIMS])
    with pytest.raises(ConfigError, match=rf"^kafka: topic {at.name(FAILURES)} is missing at "):
        await ready(at, EVIDENCE, FAILURES, CLAIMS)
    await create(at, [FAILURES])
    await ready(at, EVIDENCE, FAILURES, CLAIMS)
    other = of(broker.bootstrap, prefix=at.settings.prefix, partitions=8)
    await ready(other, CLAIMS)
    with pytest.raises(ConfigError) as caught:
        await ready(other, CLAIMS, FAILURES)
    assert str(caught.value).startswith(
        f"kafka: topic {at.name(FAILURES)}: partitions 4, should be 8: this number must"
    )
    assert "`partitions: 4`" in str(caught.value)


async def test_to_be_ready_costs_one_request_about_the_topics(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    at = of(broker.bootstrap)
    await create(at, [EVIDENCE, FAILURES, FINDINGS])
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        await ready(at, EVIDENCE, FAILURES, FINDINGS)
    asked = [str(each.args[3]) for each in caplog.records if isinstance(each.args, tuple) and "Request to" in each.msg]
    assert len([each for each in asked if at.name(EVIDENCE) in each]) == 1
    assert {each.split("_v")[0] for each in asked} == {"ApiVersionRequest", "MetadataRequest"}
    assert len(asked) == 3


async def test_a_topic_that_a_broker_hears_of_late_is_waited_for(broker: Broker) -> None:
    at = of(broker.bootstrap)
    waiting = asyncio.create_task(ready(at, EVIDENCE))
    await asyncio.sleep(0.3)
    await create(at, [EVIDENCE])
    await asyncio.wait_for(waiting, 10)


def settings(folder: Path, at: Kafka, **more: Any) -> Path:
    told = at.settings
    path = folder / "fleet.yaml"
    kafka = {"servers": list(told.servers), "prefix": told.prefix, "replication": 1, "partitions": 4, **more}
    path.write_text(yaml.safe_dump({"kafka": kafka}))
    return path


def test_a_worker_waits_for_its_brokers_and_goes_on_once_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with kafka(tmp_path / "kafka") as broker:
        at = of(broker.bootstrap)
        made = asyncio.run(create(at, [EVIDENCE, RESTATED, FAILURES, DEAD_LETTERS]))
        assert len(made.topics) == 4
        broker.stop()
        config = settings(tmp_path, at)
        with Shell().begin(tmp_path, "-v", "worker", "analyzer", "--config", config) as worker:
            worker.until(lambda: "trying again until it answers" in worker.err)
            first = worker.err.splitlines()
            assert len(first) == 1
            assert first[0].endswith(
                f"kafka: cannot reach {broker.bootstrap} (Connection refused); trying again until it answers"
            )
            broker.start()
            worker.until(lambda: worker.err.count("partitions are ours") == 2)
            assert f"kafka: {broker.bootstrap} answers" in worker.err
            # And once it runs: it is quiet about what mends itself.
            before = len(worker.err.splitlines())
            broker.kill()
            worker.until(lambda: not broker.running)
            broker.start()
            worker.until(lambda: worker.process.poll() is None, 1)
            said = worker.end(signal.SIGTERM, seconds=30)
    assert said.status == 0
    for line in said.err.splitlines():
        assert " kubewhy." in line
        assert "aiokafka" not in line
    assert len(said.err.splitlines()) - before <= 6


def test_a_worker_does_not_start_without_its_topics(broker: Broker, tmp_path: Path) -> None:
    at = of(broker.bootstrap)
    said = Shell().run("worker", "analyzer", "--config", settings(tmp_path, at))
    assert said.status == 1
    names = ", ".join(map(at.name, (EVIDENCE, RESTATED, FAILURES, DEAD_LETTERS)))
    assert said.line.startswith(f"kubewhy: kafka: topics {names} are missing at {broker.bootstrap}: ")
    assert said.line.endswith("run `kubewhy topics create --config FILE`")


@pytest.mark.parametrize("verbosity", [[], ["-vv"], ["-vv", "--log-format", "json"]])
@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_no_password_is_ever_told(
    secured: Broker, tmp_path: Path, mechanism: str, wrong: bool, verbosity: list[str]
) -> None:
    at = secured.secured
    login = at.plain if mechanism == "PLAIN" else at.scram
    password = WRONG if wrong else login.password
    config = settings(
        tmp_path,
        of(at.sasl_ssl, {"PASSWORD": password}, sasl=sasl(mechanism, login), tls=True),
        sasl=sasl(mechanism, login),
        tls={"ca_file": str(at.ca_file)},
    )
    said = Shell((password,)).run(*verbosity, "topics", "check", "--config", config, env={"PASSWORD": password})
    assert said.status == 1
    if wrong and not verbosity:
        assert said.line.startswith(f"kubewhy: kafka: {at.sasl_ssl} refuses us (")
    if not wrong:
        assert said.out.count("is missing") == len(said.out.splitlines()) > 5
    if "-vv" not in verbosity:
        assert "aiokafka" not in said.err
    elif not wrong:
        assert "aiokafka" in said.err
