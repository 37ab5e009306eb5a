"""What single backends do beyond what all do: where keys come from, who is asked, and with what credentials."""

import asyncio
import base64
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import TypeAdapter, ValidationError

from explainer.backends import make
from explainer.backends.settings import (
    PRESETS,
    BackendSettings,
    BedrockSettings,
    OpenAISettings,
    OpenAIType,
    RulesSettings,
    SageMakerSettings,
    VertexSettings,
)
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.keys import Key, read
from tests.models.bedrock import AWS_KEYS, Bedrock
from tests.models.far import MODEL, PROMPT, SECRET, Asked, Far, Reply, serving
from tests.models.oci import Oci
from tests.models.openai import OpenAI
from tests.models.rest import Rest
from tests.models.sagemaker import SageMaker
from tests.models.sts import DENIED, Sts, role
from tests.models.tls import KEY, Authority
from tests.models.vertex import Vertex
from tests.models.watsonx import Watsonx

SETTINGS: TypeAdapter[BackendSettings] = TypeAdapter(BackendSettings)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is taken from whoever runs the tests."""
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", *AWS_KEYS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def complete(settings: BackendSettings, environ: dict[str, str]) -> Any:
    backend = make(settings, environ)
    try:
        return await backend.complete(PROMPT)
    finally:
        await backend.close()


# Who is asked


@pytest.mark.parametrize("preset", ["litellm", "localai", "ollama", "vllm"])
def test_a_local_preset_without_an_address_stays_on_this_machine(preset: Any) -> None:
    settings = OpenAISettings(type=preset, model=MODEL)
    assert settings.address.startswith("http://localhost:")
    assert settings.key_place is None


def test_every_preset_has_a_type_and_an_address_or_asks_for_one() -> None:
    assert set(get_args(OpenAIType)) == set(PRESETS)
    assert [name for name, preset in PRESETS.items() if not preset.url] == ["azure"]
    with pytest.raises(ValidationError, match="azure needs `url`"):
        OpenAISettings(type="azure", model=MODEL)


async def test_nothing_of_other_tools_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(OpenAI())) as elsewhere, serving(Far(OpenAI("ollama"))) as far:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{elsewhere.url}/v1")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"authorization: Bearer {SECRET}\nx-mine: {SECRET}")
        for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.setenv(name, SECRET)
        await complete(far.vendor.settings(far.url, key=None), {})
    assert not elsewhere.asked
    assert SECRET not in str(far.asked[0])
    assert "Authorization" not in far.asked[0].headers


def test_a_vendors_own_key_goes_to_no_other_address() -> None:
    assert OpenAISettings(type="groq", model=MODEL).key_place == Key(env="GROQ_API_KEY")
    assert OpenAISettings(type="groq", model=MODEL, url="https://far.example").key_place is None


@pytest.mark.parametrize(("preset", "limit"), [("openai", "max_completion_tokens"), ("vllm", "max_tokens")])
async def test_the_limit_has_the_name_its_vendor_knows(preset: str, limit: str) -> None:
    async with serving(Far(OpenAI(preset))) as far:
        await complete(far.vendor.settings(far.url, structured=False), {"PLANTED": SECRET})
    assert far.asked[0].path == "/v1/chat/completions"
    assert far.asked[0].json[limit] == PROMPT.max_tokens
    assert "response_format" not in far.asked[0].json
    assert far.asked[0].headers["Authorization"] == f"Bearer {SECRET}"


async def test_without_a_model_the_rules_own_words_stand() -> None:
    with pytest.raises(Rejected, match="no model is asked"):
        await complete(RulesSettings(type="rules"), {})


# What settings are refused


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"type": "openai", "model": MODEL, "key": SECRET}, "tell where the secret is"),
        ({"type": "openai", "model": MODEL, "key": {"env": "A", "file": "b"}}, "one place"),
        ({"type": "openai", "model": MODEL, "key": {}}, "one place"),
        ({"type": "openai", "model": MODEL, "url": f"https://u:{SECRET}@far.example"}, "neither user nor password"),
        ({"type": "openai", "model": MODEL, "url": "far.example"}, "no address"),
        ({"type": "openai", "model": MODEL, "url": "http://far.example:port"}, "no address"),
        ({"type": "openai", "model": MODEL, "entra": True}, "azure only"),
        ({"type": "openai"}, "model"),
        ({"type": "openia", "model": MODEL}, "openia"),
        ({"type": "watsonx", "model": MODEL, "url": "https://far.example"}, "`project` or `space`"),
        ({"type": "bedrock", "model": MODEL, "nonsense": 1}, "nonsense"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_settings_that_make_no_sense_are_refused(told: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        SETTINGS.validate_python(told)
    assert re.search(words, str(error.value))


# Where keys are


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" {SECRET}\n")
    assert read(Key(file=file), {}).get_secret_value() == SECRET
    assert SECRET not in repr(read(Key(file=file), {}))


@pytest.mark.parametrize("found", [None, "", " \n"])
def test_a_key_that_is_missing_is_told_with_its_place(found: str | None) -> None:
    environ = {} if found is None else {"GROQ_API_KEY": found}
    with pytest.raises(ConfigError, match=r"^backend groq: environment variable GROQ_API_KEY is empty or not there"):
        make(OpenAISettings(type="groq", model=MODEL), environ)


@pytest.mark.parametrize("found", [b"two\nlines", "schlüssel".encode(), b"\x1b[31m", b"\xff\xfe"])
def test_what_cannot_be_a_key_is_told_and_not_shown(found: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(found)
    with pytest.raises(ConfigError, match=r"more than a key|no text file") as error:
        read(Key(file=file), {})
    assert "lines" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: cannot read the key \(No such file or directory\)"):
        read(Key(file=tmp_path / "nowhere"), {})


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """As if a library were not installed."""
    for name in [
        each for each in sys.modules if each.startswith(("explainer.backends.", "kubewhy.aws", request.param))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, request.param, None)


@pytest.mark.parametrize(
    ("library", "settings"),
    [
        ("openai", OpenAISettings(type="ollama", model=MODEL)),
        ("azure.identity.aio", OpenAISettings(type="azure", model=MODEL, url="https://far.example", entra=True)),
        ("boto3", BedrockSettings(type="bedrock", model=MODEL, region="eu-central-1")),
    ],
    indirect=["library"],
)
@pytest.mark.usefixtures("library")
def test_a_missing_library_is_told_with_the_extra_that_brings_it(settings: BackendSettings) -> None:
    extra = "openai" if settings.type == "ollama" else settings.type
    with pytest.raises(ConfigError, match=rf"^backend {settings.type}: .*pip install 'kubewhy\[{extra}\]'$"):
        make(settings, {})


@pytest.mark.parametrize("library", ["keyring"], indirect=True)
@pytest.mark.usefixtures("library")
def test_a_missing_keyring_library_is_told() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'kubewhy\[keyring\]'"):
        read(Key(keyring="openai"), {})


# AWS


async def test_a_bearer_key_is_sent_in_place_of_a_signature(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", SECRET)
    async with serving(Far(Bedrock()), authority.context) as far:
        await complete(far.vendor.settings(far.url, ca_file=authority.file), {})
        assert far.asked[0].headers["Authorization"] == f"Bearer {SECRET}"
        far.then(Reply.of({"Message": "Bearer Token has expired"}, 403, x_amzn_errortype="AccessDeniedException"))
        with pytest.raises(ConfigError, match="has expired"):
            await complete(far.vendor.settings(far.url, ca_file=authority.file), {})


async def test_an_inference_profile_is_asked_by_its_arn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_KEYS.items():
        monkeypatch.setenv(name, value)
    arn = "arn:aws:bedrock:eu-central-1:111122223333:inference-profile/eu.a.b-v1:0"
    async with serving(Far(Bedrock())) as far:
        await complete(far.vendor.settings(far.url, model=arn), {})
    assert far.asked[0].path == f"/model/{arn}/converse"
    assert "/eu-central-1/bedrock/" in far.asked[0].headers["Authorization"]


async def test_a_profile_brings_its_region_and_its_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[profile shop]\nregion = eu-west-1\naws_access_key_id = AKIASHOP\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    async with serving(Far(SageMaker())) as far:
        await complete(far.vendor.settings(far.url, region=None, profile="shop", component="small"), {})
    assert "AKIASHOP" in far.asked[0].headers["Authorization"]
    assert "/eu-west-1/sagemaker/" in far.asked[0].headers["Authorization"]
    assert far.asked[0].path == f"/endpoints/{MODEL}/invocations"
    assert far.asked[0].headers["X-Amzn-SageMaker-Inference-Component"] == "small"


@pytest.fixture(name="role")
def assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings whose profile assumes a role."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return role(tmp_path)


async def test_a_profile_may_assume_a_role(role: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(Sts())) as far:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", far.url)
        await complete(far.vendor.settings(far.url, **role), {})
    assert b"role%2Fmodels" in far.besides[0].body
    assert "AKIAOWN" in far.besides[0].headers["Authorization"]
    assert "ASIAROLE" in far.asked[0].headers["Authorization"]
    assert far.asked[0].headers["X-Amz-Security-Token"] == "session-1"


@pytest.mark.parametrize(
    ("sts", "error", "words"),
    [
        (Sts(403, DENIED), ConfigError, r"no credentials \(AssumeRole is refused, 403\): sign in"),
        (Sts(500, ""), RetryLater, "the far side fails"),
    ],
    ids=["denied", "broken"],
)
async def test_a_role_that_is_not_given_is_not_blamed_on_the_model(
    sts: Sts, error: type[Exception], words: str, role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Far(sts)) as far:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", far.url)
        with pytest.raises(error, match=words):
            await complete(far.vendor.settings(far.url, **role), {})
        assert not far.asked


async def test_who_gives_credentials_and_cannot_be_reached_is_named(
    role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://localhost:1")
    with pytest.raises(RetryLater, match="localhost, which gives credentials, cannot be reached"):
        await complete(Bedrock().settings("http://127.0.0.1:1", **role), {})


async def test_who_gives_credentials_and_says_nothing_is_not_waited_for(
    role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        given_up.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{sts.sockets[0].getsockname()[1]}")
        with pytest.raises(RetryLater, match="no answer within"):
            await complete(Bedrock().settings("http://127.0.0.1:1", timeout_seconds=0.2, **role), {})
        async with asyncio.timeout(20):
            await given_up.wait()


async def test_missing_aws_credentials_are_told() -> None:
    with pytest.raises(ConfigError, match=r"^backend bedrock: .*no credentials \(NoCredentialsError\): sign in"):
        await complete(
            BedrockSettings(type="bedrock", model=MODEL, region="eu-central-1", url="http://127.0.0.1:1"), {}
        )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"region": None}, "no AWS region is given: write `region`"),
        ({"profile": "nobody"}, "there is no AWS profile nobody: check `profile`"),
    ],
)
def test_aws_settings_that_lead_nowhere_are_told(told: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(
            SageMakerSettings.model_validate({"type": "sagemaker", "endpoint": "e", "region": "eu-central-1"} | told),
            {},
        )


async def test_a_region_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://127.0.0.1:1")
    settings = BedrockSettings(type="bedrock", model=MODEL, region="eu-centrl-1")
    with pytest.raises(ConfigError, match="there is no region eu-centrl-1: check `region`; did you mean eu-central-1"):
        await complete(settings, {})


# Tokens and signatures


async def test_azure_takes_a_token_of_entra(monkeypatch: pytest.MonkeyPatch) -> None:
    class Identity(OpenAI):
        """Also the managed identity's endpoint, as App Service and Container Apps have it."""

        def aside(self, asked: Asked) -> Reply | None:
            told = {"access_token": SECRET, "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
            return Reply.of(told) if asked.path == "/msi" else None

    async with serving(Far(Identity("azure"))) as far:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{far.url}/msi")
        monkeypatch.setenv("IDENTITY_HEADER", "h")
        await complete(far.vendor.settings(far.url, key=None, entra=True), {})
    assert far.asked[0].headers["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("name", "value"), [("AZURE_AUTHORITY_HOST", f"http://{SECRET}"), ("AZURE_TOKEN_CREDENTIALS", SECRET)]
)
def test_an_environment_that_entra_cannot_use_is_told(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    settings = OpenAI("azure").settings("http://127.0.0.1:1", key=None, entra=True)
    with pytest.raises(ConfigError, match=r"^backend azure: .* environment variable AZURE_...: check them$"):
        make(settings, {})


async def test_watsonx_exchanges_its_key_once() -> None:
    async with serving(Far(Watsonx())) as far:
        backend = make(far.vendor.settings(far.url), {"PLANTED": SECRET})
        await backend.complete(PROMPT)
        await backend.complete(PROMPT)
        await backend.close()
    assert len(far.besides) == 1
    assert len(far.asked) == 2
    assert far.asked[0].json["project_id"] == "p-1"
    assert far.asked[0].headers["Authorization"] == f"Bearer token-for-{SECRET}"


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Reply.of({"errorCode": "BXNIM0415E"}, 400), ConfigError, "environment variable PLANTED gives is not accepted"),
        (Reply(503, b""), RetryLater, "far side fails"),
        (Reply.of({"access_token": 7}), RetryLater, "is `url` right"),
        (Reply(200, b"<html>"), RetryLater, "is `url` right"),
    ],
)
async def test_a_token_that_watsonx_does_not_get(reply: Reply, error: type[Exception], words: str) -> None:
    class Closed(Watsonx):
        def aside(self, asked: Asked) -> Reply | None:
            return reply if asked.path == "/identity/token" else None

    async with serving(Far(Closed())) as far:
        with pytest.raises(error, match=words):
            await complete(far.vendor.settings(far.url), {"PLANTED": SECRET})
        assert not far.asked


async def test_vertex_tells_of_an_account_that_gets_no_token(tmp_path: Path) -> None:
    class Closed(Vertex):
        def aside(self, asked: Asked) -> Reply | None:
            told = {"error": "invalid_grant", "error_description": f"Invalid JWT Signature {SECRET}"}
            return Reply.of(told, 400) if asked.path == "/token" else None

    async with serving(Far(Closed(tmp_path))) as far:
        with pytest.raises(ConfigError, match=r"account.json gives is not accepted") as error:
            await complete(far.vendor.settings(far.url), {})
        assert SECRET not in str(error.value)


async def test_vertex_asks_in_its_project_and_location(tmp_path: Path) -> None:
    async with serving(Far(Vertex(tmp_path))) as far:
        await complete(far.vendor.settings(far.url), {})
    path = f"/v1/projects/shop/locations/europe-west4/publishers/google/models/{MODEL}:generateContent"
    assert far.asked[0].path == path
    assert far.asked[0].headers["Authorization"] == f"Bearer {SECRET}"


async def test_vertex_tries_again_where_tokens_are_not_given_for_a_while(tmp_path: Path) -> None:
    class Busy(Vertex):
        def aside(self, asked: Asked) -> Reply | None:
            return Reply.of({"error": "temporarily_unavailable"}, 503) if asked.path == "/token" else None

    async with serving(Far(Busy(tmp_path))) as far:
        with pytest.raises(RetryLater, match="no token is given for"):
            await complete(far.vendor.settings(far.url), {})
        assert not far.asked


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
    ],
)
def test_vertex_is_asked_where_its_location_is(location: str, address: str) -> None:
    assert VertexSettings(type="vertex", model=MODEL, project="shop", location=location).address == address


async def test_vertex_is_asked_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Far(Vertex(tmp_path))) as elsewhere, serving(Far(Rest())) as proxy:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", elsewhere.url)
        # So that Google is not asked.
        monkeypatch.setenv("https_proxy", proxy.url)
        proxy.then(Reply(502, b""))
        with pytest.raises(RetryLater):
            await complete(elsewhere.vendor.settings(elsewhere.url).model_copy(update={"url": None}), {})
        assert not elsewhere.asked


def test_vertex_without_credentials_is_told(tmp_path: Path) -> None:
    settings = Vertex(tmp_path).settings("http://127.0.0.1:1", credentials_file=tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match=r"^backend vertex: .*nowhere.json: no credentials can be read"):
        make(settings, {})


async def test_oci_requests_are_signed_with_the_profiles_key(tmp_path: Path) -> None:
    async with serving(Far(Oci(tmp_path))) as far:
        await complete(far.vendor.settings(far.url), {})
    asked = far.asked[0]
    fields = dict(re.findall(r'(\w+)="([^"]*)"', asked.headers["Authorization"]))
    assert fields["keyId"] == "ocid1.tenancy.oc1..t/ocid1.user.oc1..u/20:3b"
    headers = {name.lower(): value for name, value in asked.headers.items()}
    headers["(request-target)"] = f"post {asked.path}"
    signed = "\n".join(f"{name}: {headers[name]}" for name in fields["headers"].split())
    KEY.public_key().verify(base64.b64decode(fields["signature"]), signed.encode(), PKCS1v15(), SHA256())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[OTHER]\nuser=u\n", "there is no profile SHOP: check `profile`"),
        ("[SHOP]\nregion=r\n", "has no key_file: add it"),
        ("[SHOP]\nregion=r\nkey_file=/nowhere\n", "key_file of profile SHOP .* cannot be read"),
        ("no ini", "not in OCI's format"),
    ],
)
def test_an_oci_profile_that_cannot_be_used_is_told(config: str, words: str, tmp_path: Path) -> None:
    settings = Oci(tmp_path).settings("http://127.0.0.1:1", profile="SHOP")
    settings.config_file.write_text(config)
    with pytest.raises(ConfigError, match=rf"^backend oci: .*{words}"):
        make(settings, {})


async def test_a_service_of_ones_own_gets_the_prompt_and_its_options() -> None:
    async with serving(Far(Rest())) as far:
        await complete(far.vendor.settings(far.url, language="german"), {"PLANTED": SECRET})
    assert far.asked[0].json == {
        "model": MODEL,
        "prompt": f"{PROMPT.system}\n\n{PROMPT.user}",
        "options": {
            "temperature": 0.2,
            "top_p": 1.0,
            "top_k": 50,
            "max_tokens": PROMPT.max_tokens,
            "message": PROMPT.user,
            "language": "german",
        },
    }
