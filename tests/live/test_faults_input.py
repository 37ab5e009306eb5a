"""What people give wrong, to the real command: one clear line, the right status, and no secret in it."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane
from tests.live.audited import audited
from tests.live.command import Shell

pytestmark = pytest.mark.live

PASSWORD = "hunter2-and-more"
PLUGIN_API = "client.authentication.k8s.io/v1"

USAGE: dict[str, tuple[list[str], str]] = {
    "unknown command": (["analyse"], "no such command 'analyse'; did you mean analyze? (see kubewhy --help)"),
    "unknown kind": (["analyze", "-f", "Pdo"], "unknown kind 'Pdo'; did you mean pod? (known: CronJob, DaemonSet"),
    "empty kind": (["analyze", "-f", ""], "unknown kind '' (known: "),
    "unknown kind of rules": (["rules", "deploi"], "unknown kind 'deploi'; did you mean deploy"),
    "unknown flag": (["analyze", "--fail-no", "info"], "Did you mean --fail-on? (see kubewhy analyze --help)"),
    "unknown flag of run": (["run", "--fail-on", "info"], "no such option: --fail-on"),
    "selector": (["analyze", "-l", "a in ("], "'a in (' is no label selector; write key=value, key!=value"),
    "empty selector": (["analyze", "-l", ""], "'' is no label selector"),
    "namespace": (["analyze", "-n", "No_Such"], "'No_Such' is no name of a namespace: a-z, 0-9 and -"),
    "empty namespace": (["run", "-n", ""], "'' is no name of a namespace"),
    "escape in a namespace": (["record", "-n", "a\x1b[31m", "x.kwrec"], r"'a\x1b[31m' is no name of a namespace"),
    "namespace and all": (["analyze", "-n", "shop", "-A"], "give either --all-namespaces or --namespace, not both"),
    "all and namespace": (["run", "-A", "-n", "shop"], "give either --all-namespaces or --namespace, not both"),
    "namespace of rbac": (["rbac", "-n", "A"], "'A' is no name of a namespace"),
    "severity": (["analyze", "--fail-on", "never"], "'never' is not one of 'info', 'warning', 'critical'"),
    "output": (["run", "-o", "yaml"], "'yaml' is not one of 'text', 'json'"),
    "negative time": (["record", "--for", "-1", "x.kwrec"], "-1.0 is not in the range x>=0"),
    "no time": (["record", "--for", "nan", "x.kwrec"], "nan is no number of seconds"),
    "endless time": (["run", "--until-idle", "inf"], "inf is no number of seconds"),
    "no idle time": (["run", "--until-idle", "0"], "0.0 is not in the range x>0"),
    "word for a time": (["run", "--until-idle", "soon"], "'soon' is not a valid float"),
    "empty kubeconfig": (["analyze", "--kubeconfig", ""], "the path is empty"),
    "empty context": (["run", "--context", ""], "the name is empty"),
    "empty recording": (["analyze", "--from", ""], "the path is empty"),
    "empty file": (["record", ""], "the path is empty"),
    "no file": (["record"], "missing argument 'FILE'"),
    "one word too many": (["analyze", "pods\x1b[31m"], r"got unexpected extra argument (pods\x1b[31m)"),
    "recording and context": (
        ["analyze", "--from", "x", "--context", "y"],
        "give either --context or --from, not both",
    ),
    "kubeconfig and recording": (
        ["run", "--kubeconfig", "x", "--from", "y"],
        "give either --from or --kubeconfig, not both",
    ),
}


@pytest.mark.parametrize(("args", "said"), USAGE.values(), ids=USAGE)
def test_wrong_usage(args: list[str], said: str) -> None:
    told = Shell().run(*args)
    assert told.status == 2
    assert told.out == ""
    assert said in told.line


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        yield plane


@pytest.fixture(scope="module")
def shell(plane: ControlPlane) -> Shell:
    return Shell.of(plane, PASSWORD)


@pytest.mark.parametrize("command", [["analyze"], ["run"], ["record", "x.kwrec"]], ids=lambda words: words[0])
def test_no_kubeconfig(shell: Shell, tmp_path: Path, command: list[str]) -> None:
    told = shell.run(*command, cwd=tmp_path)
    assert told.status == 1
    assert told.out == ""
    assert "no kubeconfig (~/.kube/config does not exist), and not running in a cluster: name one" in told.line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"KUBECONFIG": "/none/config"}, "no kubeconfig (/none/config does not exist)"),
        ({"KUBECONFIG": "/none/a:/none/b"}, "no kubeconfig (/none/a:/none/b does not exist)"),
        ({"KUBECONFIG": "~nobody-we-know/config"}, "no kubeconfig (~nobody-we-know/config does not exist)"),
        ({"KUBECONFIG": "/dev"}, "cannot read the kubeconfig /dev (is a directory): name another one"),
        ({"KUBECONFIG": "a" * 5000}, "(file name too long): name another one"),
        ({"HOME": ""}, "no kubeconfig (~/.kube/config does not exist)"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "running in a cluster, but its service account cannot be used"),
    ],
    ids=["missing", "several missing", "of another's home", "a folder", "too long", "no home", "half a pod"],
)
def test_the_environment_names_no_kubeconfig(
    shell: Shell, tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    told = shell.run("analyze", env=environment, cwd=tmp_path)
    assert told.status == 1
    assert said in told.line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no current context"),
        (b"clusters: [", "is no valid YAML at line 1: mend it"),
        (b"- a\n- b\n", "is not as it should be (Expected `object`, got `array`): mend it"),
        (b"\xff\xfe\x00", "is no text file"),
        (f"token: 2024-13-45\npassword: {PASSWORD}".encode(), "is no valid YAML"),
        (f"users: [{{name: u, user: {{token: [{PASSWORD}]}}}}]".encode(), "Expected `str`, got `array`"),
        (f"{PASSWORD}: [a\n".encode(), "is no valid YAML"),
        (b"[" * 5000, "is no valid YAML"),
        (None, "there is no kubeconfig"),
    ],
    ids=["empty", "bad YAML", "a list", "no text", "no date", "odd field", "secret", "too deep", "missing"],
)
def test_a_bad_kubeconfig(shell: Shell, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_bytes(content)
    told = shell.run("analyze", "--kubeconfig", path)
    assert told.status == 1
    assert said in told.line
    assert str(path) in told.line


def config(plane: ControlPlane, folder: Path, **changes: dict[str, Any]) -> Path:
    """The admin's kubeconfig, with its cluster, user or context changed. What is None is left out."""
    document = json.loads(plane.admin_kubeconfig.read_text())
    for section, change in changes.items():
        entry = document[f"{section}s"][0]
        merged = {**entry[section], **change}
        entry[section] = {key: value for key, value in merged.items() if value is not None}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": {"cluster": "gone"}}, "names the cluster gone, which is not in"),
        ({"context": {"user": "gone"}}, "names the user gone, who is not in"),
        ({"context": {"namespace": "a/../b"}}, "has the namespace 'a/../b', which none can be"),
        ({"context": {"cluster": "\x1b[31m\u202e"}}, r"names the cluster \x1b[31m\u202e, which is not in"),
        ({"cluster": {"server": "127.0.0.1:6443"}}, "has no usable server: it should be like https://host:6443"),
        ({"cluster": {"server": f"https://u:{PASSWORD}@127.0.0.1:1"}}, "has no usable server"),
        ({"cluster": {"server": "https://127.0.0.1:1"}}, "cannot reach https://127.0.0.1:1 (connection refused): is"),
        ({"cluster": {"server": "https://nowhere.invalid"}}, "cannot find the host of https://nowhere.invalid"),
        ({"cluster": {"server": "https://a..b"}}, "cannot find the host of https://a..b"),
        ({"cluster": {"certificate-authority": "none.crt"}}, "none.crt"),
        ({"cluster": {"proxy-url": f"http://u:{PASSWORD}@127.0.0.1:1"}}, "the proxy 127.0.0.1:1 for https://127.0.0.1"),
        ({"user": {"token": "no-such-token"}}, "does not know these credentials (401): sign in again"),
        ({"user": {"token": f"{PASSWORD}\nx"}}, "hold a line break (in Authorization): check the user"),
        ({"user": {"as": "a\nb"}}, "hold a line break (in Impersonate-User): check the user"),
        ({"user": {"token": None, "tokenFile": "none"}}, "no token in"),
        ({"user": {"token": None, "tokenFile": "empty"}}, "no token in"),
        ({"user": {"token": None, "tokenFile": "lines"}}, "hold a line break (in Authorization)"),
        (
            {"user": {"token": None}},
            'may read nothing (forbidden: cronjobs.batch is forbidden: User "system:anonymous"',
        ),
    ],
    ids=[
        "missing cluster",
        "missing user",
        "namespace",
        "hostile name",
        "server without scheme",
        "server with a password",
        "closed port",
        "unknown host",
        "impossible host",
        "missing authority",
        "proxy",
        "unknown token",
        "token of two lines",
        "impersonation of two lines",
        "missing token file",
        "empty token file",
        "token file of two lines",
        "no credentials",
    ],
)
def test_what_a_kubeconfig_holds_is_wrong(
    plane: ControlPlane, shell: Shell, tmp_path: Path, changes: dict[str, dict[str, Any]], said: str
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "lines").write_text(f"{PASSWORD}\n{PASSWORD}\n")
    told = shell.run("analyze", "-o", "json", "--kubeconfig", config(plane, tmp_path, **changes))
    assert told.status == 1
    assert told.out == ""
    assert said in told.err.splitlines()[-1]
    # Who acts as another is told so, whatever comes of it.
    assert len(told.err.splitlines()) == (2 if "as" in changes.get("user", {}) else 1)


@pytest.mark.parametrize("command", ["run", "record"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster": {"server": "https://127.0.0.1:1"}}, "cannot reach https://127.0.0.1:1 (connection refused)"),
        ({"user": {"token": "no-such-token"}}, "does not know these credentials (401)"),
        ({"cluster": {"certificate-authority": "other-ca.crt"}}, "its certificate does not verify"),
    ],
    ids=["closed port", "unknown token", "other authority"],
)
def test_watching_does_not_begin_either(
    plane: ControlPlane, shell: Shell, tmp_path: Path, command: str, changes: dict[str, dict[str, Any]], said: str
) -> None:
    (tmp_path / "other-ca.crt").write_bytes(plane.other_ca_file.read_bytes())
    file = tmp_path / "x.kwrec"
    path = config(plane, tmp_path, **changes)
    told = shell.run(command, "--kubeconfig", path, *([file] if command == "record" else ["-o", "text"]))
    assert told.status == 1
    assert told.out == ""
    assert said in told.line
    assert not file.exists()


def test_a_certificate_that_does_not_verify(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    path = config(plane, tmp_path, cluster={"certificate-authority": str(plane.other_ca_file)})
    told = shell.run("analyze", "--kubeconfig", path)
    assert told.status == 1
    assert "its certificate does not verify (unable to get local issuer certificate); check certificate-" in told.line


def test_a_server_that_speaks_https_behind_an_http_address(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    path = config(plane, tmp_path, cluster={"server": plane.url.replace("https", "http")})
    told = shell.run("analyze", "--kubeconfig", path)
    assert told.status == 1
    assert "speaks HTTPS: write https:// into the kubeconfig's server" in told.line


def test_the_environments_proxy_is_not_for_loopback(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    environment = {"HTTPS_PROXY": f"http://u:{PASSWORD}@127.0.0.1:1"}
    assert shell.run("analyze", "--kubeconfig", plane.admin_kubeconfig, env=environment).status == 0
    elsewhere = config(plane, tmp_path, cluster={"server": "https://nowhere.invalid"})
    told = shell.run("analyze", "--kubeconfig", elsewhere, env=environment)
    assert told.status == 1
    assert "the proxy 127.0.0.1:1 for https://nowhere.invalid cannot be reached: check HTTPS_PROXY" in told.line


def test_an_unknown_context(plane: ControlPlane, shell: Shell) -> None:
    told = shell.run("analyze", "--context", "shp\x1b]0;\x07\u202e", env={"KUBECONFIG": str(plane.admin_kubeconfig)})
    assert told.status == 1
    assert r"there is no context shp\x1b]0;\x07\u202e in " in told.line
    assert "(known: testbed)" in told.line


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        (None, {}, "is not installed or not in PATH: install it"),
        ("exit 3", {}, "failed (3): it said nothing"),
        (f"echo 'no login for {'t' * 50}' >&2; exit 1", {}, "failed (1): no login for …"),
        ("printf 'a\\033[31m\\n' >&2; exit 1", {}, r"failed (1): a\x1b[31m"),
        (f"echo '{PASSWORD}'", {}, "gave no ExecCredential"),
        ("echo '{}'", {}, "gave no ExecCredential"),
        ("kill -9 $$", {}, "failed (-9)"),
        ("echo", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "which no longer exists: write"),
        ("echo", {"interactiveMode": "Always"}, "wants to ask you something: run it in a terminal"),
        (
            "token='a'",
            {"apiVersion": "client.authentication.k8s.io/v1beta1"},
            "speaks client.authentication.k8s.io",
        ),
        (f"token='{PASSWORD}\\nx'", {}, "hold a line break (in Authorization)"),
        ("token='wrong'", {}, "does not know these credentials (401)"),
    ],
    ids=[
        "missing",
        "fails",
        "tells a secret",
        "hostile words",
        "garbage",
        "empty answer",
        "killed",
        "old version",
        "wants to ask",
        "other version",
        "token of two lines",
        "wrong token",
    ],
)
def test_a_plugin_that_is_of_no_use(
    plane: ControlPlane, shell: Shell, tmp_path: Path, script: str | None, more: dict[str, Any], said: str
) -> None:
    told = shell.run("analyze", "--kubeconfig", with_plugin(plane, tmp_path, script, **more))
    assert told.status == 1
    assert said in told.line


def test_a_plugin_without_standard_input(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    path = with_plugin(plane, tmp_path, f"token='{plane.token('admin')}'", interactiveMode="IfAvailable")
    told = shell.run("analyze", "--kubeconfig", path, stdin=None, preexec_fn=partial(os.close, 0))
    assert told.status == 0


def with_plugin(plane: ControlPlane, folder: Path, script: str | None, **more: Any) -> Path:
    """A kubeconfig whose user comes from a script; `token=…` is short for one that gives that token."""
    answer = f'{{"apiVersion": "{PLUGIN_API}", "kind": "ExecCredential", "status": {{"token": "%s"}}}}'
    if script is not None:
        if script.startswith("token="):
            script += f"; printf '{answer}' \"$token\""
        program = folder / "plugin"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    plugin = {"apiVersion": PLUGIN_API, "command": "./plugin", "interactiveMode": "Never", "installHint": "install it"}
    return config(plane, folder, user={"token": None, "exec": {**plugin, **more}})


@pytest.mark.parametrize("command", ["analyze", "run", "record"])
def test_a_namespace_that_is_not_there(plane: ControlPlane, shell: Shell, tmp_path: Path, command: str) -> None:
    commands = {"analyze": [], "run": ["--until-idle", "0.1"], "record": ["--for", "0", str(tmp_path / "x.kwrec")]}
    told = shell.run(command, "-n", "nowhere", "--kubeconfig", plane.admin_kubeconfig, *commands[command])
    if command == "analyze":
        assert told.status == 1
        assert "there is no namespace nowhere in testbed: check -n and the context" in told.line
    else:
        # It may still come.
        assert told.status == 0
        assert "testbed: there is no namespace nowhere yet; waiting for it" in told.err
