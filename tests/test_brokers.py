"""Where Kafka is, as the settings and the environment say it; and what a client is made of then."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka.errors import KafkaError
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from infra.testbed.certificates import Authority
from kubewhy.brokers import BrokerSettings
from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.settings import Settings, load

SERVERS = {"servers": ["localhost:9092"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kubewhy.yaml"
    path.write_text(
        """\
kafka: {servers: [a:1], partitions: 6}
sinks:
- {type: file, path: /a}
- {type: stdout}
routes:
- {sinks: [file]}
"""
    )
    return path


def variables(**told: str) -> dict[str, str]:
    return {f"KUBEWHY__{key}": value for key, value in told.items()}


def of(told: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Kafka:
    return Kafka(BrokerSettings.model_validate({**SERVERS, **told}), environ or {}, "test")


def fault(path: Path | None, told: Mapping[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, told)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def in_file(path: Path, kafka: Mapping[str, Any]) -> str:
    path.write_text(yaml.safe_dump({"kafka": kafka}))
    told = fault(path, {})
    assert told.startswith(f"{path}: kafka")
    return told.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("told", "servers"),
    [
        ("a:9092", ("a:9092",)),
        ("a:9092, b-1.example.com:9093", ("a:9092", "b-1.example.com:9093")),
        (["a:9092", "[::1]:9092"], ("a:9092", "[::1]:9092")),
    ],
)
def test_brokers_are_a_list_or_parted_by_commas(told: Any, servers: tuple[str, ...]) -> None:
    assert BrokerSettings(servers=told).servers == servers


@pytest.mark.parametrize(
    "told",
    [
        "a",
        "a:",
        ":9092",
        "a:0",
        "a:65536",
        "a:99999",
        "http://a:9092",
        "a:9092/x",
        "a b:1",
        "a:\u0661",
        "a:1,",
        "::1:1",
    ],
)
def test_what_is_no_broker_is_told_with_an_example(told: str, tmp_path: Path) -> None:
    assert "write HOST:PORT, as in kafka:9092" in in_file(tmp_path / "k.yaml", {"servers": told})


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({}, "kafka.servers: is missing"),
        ({"servers": []}, "kafka.servers: tuple should have at least 1 item"),
        ({**SERVERS, "partitions": 0}, "kafka.partitions: "),
        ({**SERVERS, "replication": 0}, "kafka.replication: "),
        ({**SERVERS, "prefix": "a b"}, "kafka.prefix: "),
        ({**SERVERS, "server": "x:1"}, "kafka.server: unknown key; did you mean servers?"),
        ({**SERVERS, "sasl": {"mechanism": "PLAIN"}}, "kafka.sasl: PLAIN goes with a `username` and a `password`"),
        (
            {**SERVERS, "sasl": {"mechanism": "GSSAPI"}},
            "kafka.sasl.mechanism: input should be 'PLAIN', 'SCRAM-SHA-256'",
        ),
        (
            {**SERVERS, "sasl": {"mechanism": "PLAIN", "username": "u", "password": "hunter2"}},
            "kafka.sasl.password: tell where the secret is, not the secret",
        ),
        ({**SERVERS, "sasl": {"mechanism": "AWS_MSK_IAM"}}, "kafka.sasl: AWS_MSK_IAM goes with a `region`"),
        (
            {**SERVERS, "sasl": {"mechanism": "AWS_MSK_IAM", "region": "eu-west-1"}},
            "kafka: AWS_MSK_IAM goes with `tls: true`",
        ),
        ({**SERVERS, "tls": {"key_file": "/k"}}, "kafka.tls: `key_file` goes with `cert_file`"),
        ({**SERVERS, "tls": "sure"}, "kafka.tls: must hold keys and values (ca_file, cert_file, key_file)"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(told: dict[str, Any], reason: str, tmp_path: Path) -> None:
    said = in_file(tmp_path / "k.yaml", told)
    assert reason in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("told", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"tls": False}, "PLAINTEXT"),
        ({"tls": True}, "SSL"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u", "password": {"env": "PW"}}}, "SASL_PLAINTEXT"),
        ({"tls": True, "sasl": {"mechanism": "SCRAM-SHA-512", "username": "u", "password": {"env": "PW"}}}, "SASL_SSL"),
    ],
)
def test_the_protocol_follows_from_what_is_told(told: dict[str, Any], protocol: str) -> None:
    options = of(told, {"PW": "hunter2"}).options
    assert options["security_protocol"] == protocol
    if "SASL" in protocol:
        assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "hunter2")


def test_a_certificate_is_always_asked_for_and_checked() -> None:
    context = of({"tls": True}).options["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_password_that_goes_in_the_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    of({"sasl": {"mechanism": "PLAIN", "username": "u", "password": {"env": "PW"}}}, {"PW": "hunter2"})
    assert "in the clear" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_secret_that_is_not_there_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^kafka.sasl.password: environment variable PW is empty or not there"):
        of({"sasl": {"mechanism": "PLAIN", "username": "u", "password": {"env": "PW"}}})


def test_certificates_are_read_from_the_files_that_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    both = authority.issue("client")
    context = of({"tls": {"ca_file": authority.file, "cert_file": both}}).options["ssl_context"]
    assert context.cert_store_stats()["x509_ca"] == 1
    of({"tls": {"ca_file": authority.file, "cert_file": both, "key_file": both}})


def test_files_that_cannot_be_used_are_told_by_their_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    both = authority.issue("client")
    locked = tmp_path / "locked.pem"
    key = load_pem_private_key(both.read_bytes(), None)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")))
    (tmp_path / "text").write_text("no PEM")
    for told, named in (
        ({"ca_file": tmp_path / "none"}, "ca_file"),
        ({"ca_file": tmp_path / "text"}, "ca_file"),
        ({"ca_file": tmp_path}, "ca_file"),
        ({"cert_file": tmp_path / "none"}, "cert_file"),
        ({"cert_file": authority.file}, "cert_file"),
        ({"cert_file": both, "key_file": locked}, "cert_file"),
    ):
        with pytest.raises(ConfigError, match=rf"^kafka.tls.{named}: cannot use {tmp_path}") as caught:
            of({"tls": told})
        assert "\n" not in str(caught.value)


async def test_aws_gives_a_token_or_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    options = of({"tls": True, "sasl": {"mechanism": "AWS_MSK_IAM", "region": "eu-west-1"}}).options
    assert (options["sasl_mechanism"], options["security_protocol"]) == ("OAUTHBEARER", "SASL_SSL")
    # What clients catch and try again.
    with pytest.raises(KafkaError, match="AWS gives no token"):
        await options["sasl_oauth_token_provider"].token()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert len(await options["sasl_oauth_token_provider"].token()) > 100


def test_variables_come_before_the_file(file: Path) -> None:
    told = load(file, variables(KAFKA__SERVERS="b:1,c:2", KAFKA__REPLICATION="1", CLUSTER="{name: shop}", LOGS="true"))
    assert told.kafka == BrokerSettings(servers=("b:1", "c:2"), partitions=6, replication=1)
    assert (told.cluster.name, told.logs) == ("shop", True)


def test_keys_are_known_in_any_case(file: Path) -> None:
    assert load(file, variables(kafka__Partitions="9")).kafka == BrokerSettings(servers=("a:1",), partitions=9)


def test_other_variables_are_none_of_ours(file: Path) -> None:
    assert load(file, {"KUBEWHY_KAFKA__SERVERS": "x", "KUBEWHY_DEBUG": "1", "kubewhy__kafka": "x"}) == load(file, {})


def test_an_empty_variable_is_as_none(file: Path) -> None:
    assert load(file, variables(KAFKA="", KAFKA__PARTITIONS=" ", NOT__KNOWN="")) == load(file, {})


def test_null_takes_away(file: Path) -> None:
    assert load(file, variables(KAFKA="null")).kafka is None


def test_the_whole_comes_before_its_parts(file: Path) -> None:
    told = load(file, variables(KAFKA__PREFIX="x.", KAFKA="{servers: 'b:1', prefix: y.}"))
    assert told.kafka == BrokerSettings(servers=("b:1",), prefix="x.")


def test_an_item_of_a_list_is_named_by_its_number(file: Path) -> None:
    sinks = load(file, variables(SINKS__0__PATH="/b")).sinks
    assert [getattr(each, "path", None) for each in sinks] == [Path("/b"), None]
    assert "no item 2 among 2" in fault(file, variables(SINKS__2__PATH="/b"))
    assert "no item PATH among 2" in fault(file, variables(SINKS__PATH="/b"))


def test_variables_do_without_a_file() -> None:
    assert load(None, {}) == Settings()
    assert load(None, variables(KAFKA__SERVERS="b:1")).kafka == BrokerSettings(servers=("b:1",))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            {"KAFKA__PARTITIONS": "many"},
            "KUBEWHY__KAFKA__PARTITIONS: kafka.partitions: input should be a valid integer",
        ),
        ({"KAFKA__SERVRES": "x"}, "KUBEWHY__KAFKA__SERVRES: kafka.servres: unknown key; did you mean servers?"),
        ({"KAFKA": "{servers: x}"}, "KUBEWHY__KAFKA: kafka.servers[0]: this is no broker"),
        (
            {"KAFKA__SASL": "{mechanism: PLAIN}", "KAFKA__SASL__PASSWORD": "hunter2"},
            "KUBEWHY__KAFKA__SASL__PASSWORD: kafka.sasl.password: tell where",
        ),
        ({"KAFKA__SERVERS": "[::1]:9092"}, "KUBEWHY__KAFKA__SERVERS: not YAML; put it into quotes"),
        ({"SILENCES": "[{until: 2026-13-45}]"}, "KUBEWHY__SILENCES: not YAML"),
        ({"KAFKA____SERVERS": "x"}, "KUBEWHY__KAFKA____SERVERS: names no setting"),
        ({"": "x"}, "KUBEWHY__: names no setting"),
        ({"KAFKA__SASL__USERNAME": "u"}, "FILE with KUBEWHY__KAFKA__SASL__USERNAME: kafka.sasl.mechanism: is missing"),
        ({"SINKS__0__NAME": "z"}, "FILE with KUBEWHY__SINKS__0__NAME: routes[0].sinks[0]: there is no sink file"),
    ],
)
def test_a_fault_is_told_with_whatever_said_it(told: dict[str, str], reason: str, file: Path) -> None:
    said = fault(file, variables(**told))
    assert said.startswith(reason.replace("FILE", str(file)))
    assert "hunter2" not in said


def test_a_fault_of_the_file_is_told_with_the_file(file: Path) -> None:
    file.write_text("kafka: {servers: [a]}")
    assert fault(file, variables(KAFKA__PREFIX="x.")).startswith(f"{file}: kafka.servers[0]: this is no broker")
    file.write_text("- a\n- b\n")
    assert fault(file, variables(KAFKA__PREFIX="x.")).startswith(f"{file}: the file: must hold keys and values")
    file.write_text("silences: [{until: 2026-13-45}]")
    assert fault(file, {}).startswith(f"{file}: holds a date that is none")


def test_what_is_missing_is_told_with_what_lacks_it() -> None:
    assert fault(None, variables(KAFKA__PREFIX="x.")).startswith("KUBEWHY__KAFKA__PREFIX: kafka.servers: is missing")
    assert fault(None, variables(KAFKA="{prefix: x.}")).startswith("KUBEWHY__KAFKA: kafka.servers: is missing")


def test_a_file_and_variables_are_each_left_as_they_are(file: Path) -> None:
    environ = variables(KAFKA__SERVERS="b:1", SINKS__0__PATH="/b")
    before = (file.read_text(), dict(environ))
    load(file, environ)
    assert (file.read_text(), environ) == before


DOCUMENTED = Path(__file__).parent.parent / "docs" / "settings.md"


def test_what_the_documentation_shows_is_so(tmp_path: Path, file: Path) -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    shown = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert shown
    for each in shown:
        (tmp_path / "shown.yaml").write_text(each)
        assert load(tmp_path / "shown.yaml", {}).kafka
    lines = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("KUBEWHY__")]
    told = load(file, {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)})
    assert told.kafka
    assert told.kafka.servers == ("kafka-0:9092", "kafka-1:9092")
    assert told.cluster.name == "the shop"
    assert f"kubewhy: {fault(file, variables(KAFKA__PARTITIONS='many'))}\n" in text
    assert load(file, variables(KAFKA__SASL="{mechanism: AWS_MSK_IAM, region: eu-west-1}", KAFKA__TLS="true")).kafka
    keys = set(re.findall(r"`([a-z]+)`", "".join(line for line in text.splitlines() if line.startswith("| `"))))
    assert set(Settings.model_fields) <= keys
