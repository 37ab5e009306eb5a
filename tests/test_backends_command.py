"""`kubewhy backends`: keeps where models are and where their keys are, and never a key."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest
import yaml

from kubewhy.cli.main import main
from kubewhy.errors import ConfigError
from kubewhy.keys import Key, read
from kubewhy.runtime.backends import Kept, changing, load, write
from tests.models.bedrock import AWS_KEYS
from tests.models.far import MODEL, SECRET, Far, serving
from tests.models.openai import OpenAI
from tests.models.sts import DENIED, Sts, role


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory, by the real library."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.kept:
            raise keyring.errors.PasswordDeleteError("not there")
        del self.kept[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, ring = keyring.get_keyring(), Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "kubewhy" / "backends.yaml"


class Shell:
    """Runs `kubewhy backends`, and expects it to end as said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, status: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["backends", *words])
        out, err = self._capsys.readouterr()
        assert ended.value.code == status, err
        if status:
            assert out == ""
            assert err.startswith("kubewhy: ")
            assert err.count("\n") == 1
        return err if status else out


@pytest.fixture
def shell(file: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_what_is_added_is_listed_and_the_first_is_the_default(shell: Shell, file: Path) -> None:
    assert shell("add", "ollama", "--model", MODEL) == "ollama\n"
    assert shell("add", "bedrock", "--name", "paris", "--model", MODEL, "--set", "region=eu-west-3") == "paris\n"
    told = {each["name"]: each for each in json.loads(shell("list", "-o", "json"))}
    assert list(told) == ["ollama", "paris"]
    assert told["ollama"]["default"]
    assert told["paris"]["region"] == "eu-west-3"
    assert "ollama (default)" in shell("list")
    assert shell("default") == "ollama\n"
    shell("default", "paris")
    assert shell("default") == "paris\n"


def test_the_file_is_its_owners_alone_and_says_only_what_was_said(shell: Shell, file: Path) -> None:
    shell("add", "openai", "--model", MODEL, "--key-env", "PLANTED", "--set", "structured=false")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert yaml.safe_load(file.read_text()) == {
        "default": "openai",
        "backends": [{"type": "openai", "model": MODEL, "key": {"env": "PLANTED"}, "structured": False}],
    }
    assert sorted(each.name for each in file.parent.iterdir()) == ["backends.lock", "backends.yaml"]


def test_a_key_in_the_keyring_comes_and_goes_with_its_backend(
    shell: Shell, file: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    typed = tmp_path / "typed"
    typed.write_text(f"{SECRET}\n")
    with typed.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        shell("add", "groq", "--model", MODEL, "--key-keyring")
    assert ring.kept == {("kubewhy", "groq"): SECRET}
    assert SECRET not in file.read_text()
    assert SECRET not in shell("list", "-o", "json")
    assert read(Key(keyring="groq"), {}).get_secret_value() == SECRET
    shell("remove", "groq")
    assert ring.kept == {}
    with pytest.raises(ConfigError, match="keyring entry groq is empty or not there"):
        read(Key(keyring="groq"), {})


def test_a_key_nobody_needs_any_more_leaves_the_keyring(
    shell: Shell, file: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = [{"type": "groq", "name": name, "model": MODEL, "key": {"keyring": "ours"}} for name in ("a", "b")]
    file.parent.mkdir()
    file.write_text(yaml.safe_dump({"backends": shared}))
    ring.kept["kubewhy", "ours"] = SECRET
    shell("remove", "a")
    assert ring.kept == {("kubewhy", "ours"): SECRET}, "b needs it"
    shell("add", "groq", "--name", "b", "--model", MODEL, "--key-env", "PLANTED", "--replace")
    assert ring.kept == {}


def test_a_machine_without_a_keyring_is_told_and_nothing_is_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = os.environ | {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    command = [sys.executable, "-m", "kubewhy", "backends", "add", "groq", "--model", MODEL, "--key-keyring"]
    told = subprocess.run(command, env=environ, input=SECRET, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 1
    assert told.stderr == (
        "kubewhy: the system's keyring cannot be used (NoKeyringError): unlock it, "
        "or keep the key in an environment variable or a file\n"
    )
    assert not file.exists()


def test_who_removes_the_default_leaves_another(shell: Shell) -> None:
    for name in ("a", "b"):
        shell("add", "rules", "--name", name)
    shell("remove", "a")
    assert shell("default") == "b\n"
    shell("remove", "b")
    assert "There is no backend yet" in shell("list")
    assert "there is no backend yet" in shell("default", status=1)


def test_where_none_is_the_default_it_is_told_how_to_make_one_that(shell: Shell, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("backends: [{type: rules}]")
    assert "kubewhy backends default NAME" in shell("test", status=1)
    assert "kubewhy backends default NAME" in shell("default", status=1)


def test_a_name_is_taken_once_unless_it_is_to_be_replaced(shell: Shell, file: Path) -> None:
    shell("add", "ollama", "--model", "a")
    assert "already: give another --name, or --replace it" in shell("add", "ollama", "--model", "b", status=1)
    shell("add", "ollama", "--model", "b", "--replace")
    assert [each["model"] for each in json.loads(shell("list", "-o", "json"))] == ["b"]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["add", "opnai"], 2, "'opnai' is not one of"),
        (["add"], 2, "Choose from: anthropic, azure, "),
        (["add", "openai"], 1, "model: is missing"),
        (["add", "openai", "--model", MODEL, "--set", "modle=x"], 1, "modle: unknown key; did you mean model?"),
        (["add", "openai", "--model", MODEL, "--set", f"key={SECRET}"], 2, "key has an option of its own"),
        (["add", "openai", "--model", MODEL, "--set", "x"], 2, "write KEY=VALUE"),
        (["add", "openai", "--model", MODEL, "--url", f"https://u:{SECRET}@x"], 1, "url: must have neither user nor"),
        (["add", "openai", "--model", MODEL, "--key-env", "A", "--key-file", "b"], 2, "give one of --key-env"),
        (["add", "openai", "--model", MODEL, "--key-env", f"{SECRET}"], 1, "key.env: "),
        (["add", "openai", "--model", MODEL, "--set", "timeout_seconds=soon"], 1, "timeout_seconds: input should be"),
        (["add", "azure", "--model", MODEL], 1, "azure needs `url`"),
        (["test", "olama"], 1, "there is no backend olama (there is none yet: kubewhy backends add)"),
        (["test"], 1, "there is no backend yet: kubewhy backends add"),
        (["remove", "x"], 1, "there is no backend x"),
        (["default", "x"], 1, "there is no backend x"),
        (["list", "--file", "/proc/nowhere/x", "extra"], 2, "unexpected extra argument"),
        (["add", "rules", "--file", "/proc/nowhere/x"], 1, "/proc/nowhere/x: cannot be written"),
    ],
    ids=lambda each: " ".join(each)[:50] if isinstance(each, list) else "",
)
def test_wrong_usage_is_one_clear_line(shell: Shell, file: Path, words: list[str], status: int, told: str) -> None:
    said = shell(*words, status=status)
    assert told in said
    assert SECRET not in said
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("backends: {", "no YAML"),
        ("- 1", "the file: must hold keys and values (backends, default)"),
        ("nonsense: 1", "nonsense: unknown key"),
        ("backends: [{type: nobody}]", "backends[0].type: there is no such type of backend; known: anthropic"),
        ("backends: [{model: x}]", "backends[0].type: there is no such type of backend"),
        ("backends: [{type: openai}]", "backends[0].model: is missing"),
        (f"backends: [{{type: openai, model: m, key: {SECRET}}}]", "backends[0].key: tell where the secret is"),
        ("backends: [{type: rules}, {type: rules}]", "there are two backends rules"),
        ("{default: ruls, backends: [{type: rules}]}", "default: there is no backend ruls; did you mean rules?"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_clear_line(shell: Shell, file: Path, text: str, told: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    said = shell("list", status=1)
    assert f"{file}: " in said
    assert told in said
    assert SECRET not in said
    assert file.read_text() == text


async def test_a_backend_is_tried_out(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(*words: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubewhy", "backends", *words, stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    monkeypatch.setenv("PLANTED", SECRET)
    async with serving(Far(OpenAI(), text='{"ready": true}')) as far:
        await run("add", "openai", "--model", MODEL, "--url", f"{far.url}/v1", "--key-env", "PLANTED")
        status, out, err = await run("test", "openai")
        assert (status, err) == (0, "")
        assert out.startswith(f"openai: {MODEL} answers (17 tokens in, 5 out, ")
        status, out, err = await run("test", "-o", "json")
        assert json.loads(out).keys() == {"name", "model", "seconds", "input_tokens", "output_tokens"}
        assert json.loads(out)["name"] == "openai", "the default"
        monkeypatch.delenv("PLANTED")
        assert await run("test", "openai") == (
            1,
            "",
            "kubewhy: backend openai: environment variable PLANTED is empty or not there: put the key into it\n",
        )
    assert len(far.asked) == 2
    assert len(far.asked[0].body) < 1000, "it is a tiny prompt"


@pytest.mark.parametrize(
    ("sts", "status", "told"),
    [
        (Sts(), 0, ""),
        (
            Sts(403, DENIED),
            1,
            "kubewhy: backend bedrock: AWS's default chain gives no credentials (AssumeRole is refused, 403): "
            "sign in, or set a profile, role or key",
        ),
    ],
    ids=["given", "denied"],
)
async def test_nothing_that_vendors_libraries_would_log_is_shown(
    sts: Sts, status: int, told: str, file: Path, tmp_path: Path
) -> None:
    async with serving(Far(sts)) as far:
        with changing(file):
            write(file, Kept(default="bedrock", backends=(sts.settings(far.url, **role(tmp_path)),)))
        environ = {name: value for name, value in os.environ.items() if name not in AWS_KEYS}
        environ |= {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_ENDPOINT_URL_STS": far.url}
        command = [sys.executable, "-m", "kubewhy", "-vv", "backends", "test"]
        process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=-1, stderr=-1)
        _, err = await process.communicate()
    assert process.returncode == status
    lines = [line for line in err.decode().splitlines() if " debug asyncio: " not in line]
    assert lines == ([told] if told else [])


async def test_two_at_once_lose_nothing(file: Path) -> None:
    async def add(name: str) -> int:
        command = [sys.executable, "-m", "kubewhy", "backends", "add", "rules", "--name", name]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        return await process.wait()

    with changing(file):
        started = [asyncio.create_task(add(name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
    assert [await each for each in started] == [0, 0, 0]
    assert sorted(each.called for each in load(file).backends) == ["a", "b", "c"]


def test_a_link_to_the_file_goes_on_leading_to_it(shell: Shell, file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("")
    file.parent.mkdir()
    file.symlink_to(elsewhere)
    shell("add", "rules")
    assert file.is_symlink()
    assert load(elsewhere).default == "rules"
