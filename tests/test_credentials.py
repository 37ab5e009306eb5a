"""How a cluster and its credentials are found, and what is said when they are not. Nothing here asks a server."""

import asyncio
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import certifi
import psutil
import pytest
import yaml

from collectors.credentials import connect, proxy_for
from collectors.requests import Cluster
from kubewhy.errors import ConfigError

SECRET = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMzQ1Njc4OTAifQ.c2VjcmV0"


def document(**parts: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
    }
    return {**whole, **parts}


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def plugin(folder: Path, script: str, **options: Any) -> dict[str, Any]:
    """A user whose credentials come from a small Python program."""
    program = folder / "plugin"
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": "./plugin", "interactiveMode": "Never", **options}}


def credential(status: str) -> str:
    return (
        f"import json; print(json.dumps({{'apiVersion': 'client.authentication.k8s.io/v1', "
        f"'kind': 'ExecCredential', 'status': {status}}}))"
    )


async def settings(cluster: Cluster) -> Any:
    """The client's own configuration, as it would ask with."""
    await cluster.close()
    return cluster._connection._access.configuration


async def complaint(kubeconfig: str | None, context: str | None = None, **options: Any) -> str:
    """The one line."""
    with pytest.raises(ConfigError) as raised:
        await connect(kubeconfig, context, **{"environ": {"PATH": "/usr/bin"}, **options})
    line = str(raised.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


async def test_no_kubeconfig_and_no_cluster(tmp_path: Path) -> None:
    assert "no kubeconfig (~/.kube/config does not exist)" in await complaint(None, environ={"HOME": str(tmp_path)})
    listed = {"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/b"}
    assert f"{tmp_path}/a:{tmp_path}/b does not exist" in await complaint(None, environ=listed)
    assert "check --kubeconfig" in await complaint(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [\n  token: " + SECRET, "is no valid YAML at line"),
        ("- a list\n", "is not as it should be (Expected `object`, got `array`)"),
        (f"just text {SECRET}", "Expected `object`, got `str`"),
        (document(clusters={"name": "c"}), "Expected `array`, got `object` - at `$.clusters`"),
        (document(users=[{"name": "u", "user": {"token": 5}}]), "Expected `str`, got `int` - at `$.users["),
        (document(contexts=[{"context": {}}]), "missing required field `name`"),
        ("", "no current context in"),
        (document(**{"current-context": ""}), "choose one with --context (known: one)"),
        (document(clusters=None), "names the cluster c, which is not in"),
        (document(users=[]), "names the user u, who is not in"),
        (document(clusters=[{"name": "c", "cluster": {}}]), "no usable server"),
        (document(clusters=[{"name": "c", "cluster": {"server": "10.0.0.1:6443"}}]), "like https://host:6443"),
        (
            document(clusters=[{"name": "c", "cluster": {"server": "https://h", "certificate-authority": "no.crt"}}]),
            "no.crt",
        ),
        (
            document(clusters=[{"name": "c", "cluster": {"server": "https://h", "certificate-authority-data": "%%"}}]),
            "cannot use the certificates for https://h",
        ),
        (
            document(
                clusters=[
                    {"name": "c", "cluster": {"server": "https://h", "certificate-authority-data": "bm8gY2VydA=="}}
                ]
            ),
            "cannot use the certificates for https://h",
        ),
        (
            document(clusters=[{"name": "c", "cluster": {"server": "https://h", "proxy-url": "socks5://p:1"}}]),
            "a proxy of the sort socks5",
        ),
        (document(users=[{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}]), "which Kubernetes has removed"),
        (document(users=[{"name": "u", "user": {"as-groups": ["g"]}}]), "impersonates groups without a user"),
        (document(users=[{"name": "u", "user": {"tokenFile": "absent"}}]), "check tokenFile"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, content: Any, said: str) -> None:
    path = write(tmp_path / "config", content)
    line = await complaint(path)
    assert said in line, line


async def test_an_unreadable_file_and_a_folder(tmp_path: Path) -> None:
    assert "is a directory" in await complaint(str(tmp_path))
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is no text file" in await complaint(str(binary))


async def test_an_unknown_context_is_told_with_the_known_ones(tmp_path: Path) -> None:
    contexts = [{"name": name, "context": {"cluster": "c"}} for name in ("b", "a")]
    line = await complaint(write(tmp_path / "config", document(contexts=contexts)), "other")
    assert "there is no context other" in line
    assert "(known: a, b)" in line


async def test_the_context_says_name_and_namespace(tmp_path: Path) -> None:
    cluster = await connect(write(tmp_path / "config", document()))
    assert (cluster.name, cluster.namespace, cluster.server) == ("one", "shop", "https://127.0.0.1:1")
    assert (await settings(cluster)).api_key["BearerToken"] == f"Bearer {SECRET}"


async def test_files_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    first = write(tmp_path / "first", {"contexts": [{"name": "two", "context": {"cluster": "c", "user": "u"}}]})
    users = [{"name": "u", "user": {"tokenFile": "token"}}]
    second = write(tmp_path / "sub" / "second", document(users=users, **{"current-context": "two"}))
    write(tmp_path / "sub" / "token", "from-the-file\n")
    third = write(tmp_path / "third", document(clusters=[{"name": "c", "cluster": {"server": "https://other"}}]))
    listed = f"{first}:{tmp_path / 'absent'}:{second}:{third}"
    cluster = await connect(environ={"KUBECONFIG": listed})
    assert (cluster.name, cluster.namespace, cluster.server) == ("two", "default", "https://127.0.0.1:1")
    # Paths count from their own file.
    assert (await settings(cluster)).api_key["BearerToken"] == "Bearer from-the-file"


async def test_the_home_folder_is_the_last_resort(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", document())
    cluster = await connect(environ={"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    await cluster.close()
    assert cluster.name == "one"


async def test_a_pod_uses_its_own_account(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert "running in a cluster, but its service account" in await complaint(
        None, environ=environ, service_account=tmp_path
    )
    write(tmp_path / "token", "of-the-pod")
    write(tmp_path / "namespace", "monitoring")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    cluster = await connect(environ=environ, service_account=tmp_path)
    assert (cluster.name, cluster.namespace, cluster.server) == ("in-cluster", "monitoring", "https://10.0.0.1:443")
    await cluster.close()


async def test_insecure_tls_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    insecure = {"server": "https://h", "insecure-skip-tls-verify": True}
    cluster = await connect(write(tmp_path / "config", document(clusters=[{"name": "c", "cluster": insecure}])))
    assert (await settings(cluster)).verify_ssl is False
    assert "the certificate of https://h is not verified" in caplog.text


@pytest.mark.parametrize(
    ("server", "environ", "proxy"),
    [
        ("https://api.example.com", {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ("https://api.example.com", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("http://api.example.com", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com"}, None),
        ("https://api.example.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": ".example.com"}, None),
        ("https://example.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": ".example.com"}, "http://p"),
        ("https://badexample.com", {"HTTPS_PROXY": "http://p", "NO_PROXY": "example.com"}, "http://p"),
        ("https://10.1.2.3:6443", {"HTTPS_PROXY": "http://p", "NO_PROXY": "a, 10.0.0.0/8"}, None),
        ("https://11.1.2.3:6443", {"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "http://p"),
        ("https://h:6443", {"HTTPS_PROXY": "http://p", "NO_PROXY": "h:443"}, "http://p"),
        ("https://h", {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
    ],
)
def test_the_proxy_is_chosen_as_the_go_tools_do(server: str, environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(server, environ) == proxy


async def test_a_plugin_gives_the_token(tmp_path: Path) -> None:
    script = "import os, json\ninfo = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
    script += credential("{'token': os.environ['KIND'] + info['spec']['cluster']['server'] + os.sys.argv[1]}")
    user = plugin(tmp_path, script, args=["x"], env=[{"name": "KIND", "value": "t-"}], provideClusterInfo=True)
    cluster = await connect(write(tmp_path / "config", document(users=[{"name": "u", "user": user}])))
    assert (await settings(cluster)).api_key["BearerToken"] == "Bearer t-https://127.0.0.1:1x"


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        (
            "",
            {"command": "no-such-plugin", "installHint": "get it\nthere"},
            "is not installed or not in PATH: get it there",
        ),
        ("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "which no longer exists"),
        (
            f"import sys; print('a\\nno login for {SECRET}', file=sys.stderr); sys.exit(3)",
            {},
            "failed (3): no login for …",
        ),
        ("import sys; sys.exit(1)", {}, "failed (1): it said nothing"),
        (f"print('{SECRET}')", {}, "gave no ExecCredential"),
        (credential("{}"), {}, "gave neither a token nor a certificate"),
        (credential("{'token': 't'}"), {"apiVersion": "client.authentication.k8s.io/v1beta1"}, "speaks client.auth"),
        ("", {"interactiveMode": "Always"}, "run it in a terminal"),
    ],
)
async def test_a_plugin_that_fails_is_told(tmp_path: Path, script: str, options: dict[str, Any], said: str) -> None:
    users = [{"name": "u", "user": plugin(tmp_path, script, **options)}]
    line = await complaint(write(tmp_path / "config", document(users=users)))
    assert said in line, line


async def test_a_plugin_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    script = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])"
    users = [{"name": "u", "user": plugin(tmp_path, script)}]
    began = time.monotonic()
    line = await complaint(write(tmp_path / "config", document(users=users)), plugin_limit=0.5)
    assert "gave no answer within 0.5 s" in line
    assert time.monotonic() - began < 5
    await _until_no_children()


async def _until_no_children() -> None:
    async with asyncio.timeout(5):
        while any(each.status() != psutil.STATUS_ZOMBIE for each in psutil.Process().children(recursive=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
