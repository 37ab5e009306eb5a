"""`kubewhy analyze` on a server, or on what stands before it, that does not answer as it should."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collectors.credentials import connect
from collectors.requests import Limits
from infra.testbed.control_plane import ControlPlane
from kubewhy.errors import ConfigError
from tests.live.audited import audited
from tests.live.broken import broken_pod, grant
from tests.live.command import Said, Shell
from tests.live.faults import Fault, FaultProxy

pytestmark = pytest.mark.live

PODS, SERVICES, EVENTS, CLASSES = "/api/v1/pods", "/api/v1/services", "/api/v1/events", "/storageclasses"
ALWAYS = 1000
HOSTILE = r"\u001b[31mred\u202e\u009b32m\n"


def status(code: int, message: str = HOSTILE) -> bytes:
    return b'{"kind":"Status","code":%d,"message":"%s"}' % (code, message.encode())


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        broken_pod(plane, "shop", "web")
        yield plane


@pytest.fixture(scope="module")
def shell(plane: ControlPlane) -> Shell:
    return Shell.of(plane)


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    with FaultProxy(plane) as proxy:
        yield proxy


@dataclass(frozen=True)
class Looked:
    """What one look came to."""

    said: Said

    @property
    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.said.out)
        return document

    @property
    def found(self) -> set[str]:
        return {each["name"] for each in self.report["diagnoses"]}

    @property
    def skipped(self) -> dict[str, str]:
        return {each["resource"]: each["reason"] for each in self.report["skipped"]}


def look(shell: Shell, kubeconfig: Path, *args: str) -> Looked:
    return Looked(shell.run("analyze", "--no-hold", "-o", "json", "--kubeconfig", kubeconfig, *args))


def look_through(shell: Shell, plane: ControlPlane, proxy: FaultProxy, *faults: Fault) -> Looked:
    proxy.script(*faults)
    return look(shell, plane.kubeconfig("admin", url=proxy.url))


def more_to_come(body: bytes) -> bytes:
    """A page that says that it is not the last."""
    return body.replace(b'"metadata":{', b'"metadata":{"continue":"next-page",', 1)


PASSING = {
    "500": [Fault(PODS, status=500, body=status(500))],
    "a gateway's 503": [Fault("", times=3, status=503, body=b"<html>bad gateway</html>")],
    "429 with Retry-After": [Fault(PODS, status=429, headers={"Retry-After": "1"})],
    "429 with an odd Retry-After": [Fault(PODS, status=429, headers={"Retry-After": "²"})],
    "429 until a date": [Fault(PODS, status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 -0000"})],
    "a clock of no zone": [Fault(PODS, status=500, headers={"Date": "Wed, 21 Oct 2015 07:28:00 -0000"})],
    "a clock of no sense": [Fault(PODS, status=500, headers={"Date": "Wed, 00 Foo 99999 99:99:99"})],
    "a body cut off": [Fault(PODS, cut_after=200)],
    "no body at all": [Fault(PODS, cut_after=0)],
    "half a document": [Fault(PODS, status=200, body=b'{"kind":"PodList","items":[{"metadata":')],
    "an object that is no list": [Fault(PODS, status=200, body=b"{}")],
    "an error as a success": [Fault(PODS, status=200, body=status(500))],
    "an expired continue token": [Fault(PODS, rewrite=more_to_come), Fault("continue=next-page", status=410)],
    "a slow server": [Fault("", times=ALWAYS, delay=0.2)],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_is_not_worth_a_word(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, faults: list[Fault]
) -> None:
    looked = look_through(shell, plane, proxy, *faults)
    assert (looked.said.status, looked.said.err) == (0, "")
    assert looked.found == {"web"}
    assert looked.skipped == {}


LASTING = {
    "401": ([Fault("", times=ALWAYS, status=401, body=status(401))], "does not know these credentials (401): sign in"),
    "403": (
        [Fault("", times=ALWAYS, status=403, body=status(403))],
        r"may read nothing (forbidden: \x1b[31mred\u202e\x9b32m): grant what `kubewhy rbac` prints",
    ),
    "404": ([Fault("", times=ALWAYS, status=404)], "has no API for cronjobs.batch): check the server's address"),
    "400": ([Fault("", times=ALWAYS, status=400, body=status(400))], r"does not accept the request for "),
    "500": (
        [Fault("", times=ALWAYS, status=500, headers={"Retry-After": "3600"}, body=status(500))],
        r"\x1b[31mred\u202e\x9b32m (and asks to wait 3600 s)): try again later",
    ),
    "a web page": ([Fault("", times=ALWAYS, status=200, body=b"<html>")], "sends a web page in place of a list of "),
    "a redirect": (
        [Fault("", times=ALWAYS, status=302, headers={"Location": "https://login.example/?token=x"})],
        "redirects to https://login.example: a proxy may want a sign-in; name the API server itself",
    ),
    "a redirect to nowhere": (
        [Fault("", times=ALWAYS, status=302, headers={"Location": "http://[::bad"})],
        "redirects to nowhere: ",
    ),
    "a redirect to itself": (
        [Fault("", unless="login", times=ALWAYS, status=307, headers={"Location": "/login"})],
        "redirects to another page",
    ),
    "an expired continue token": (
        [Fault(PODS, times=ALWAYS, unless="next-page", rewrite=more_to_come), Fault("next-page", times=9, status=410)],
        "listing pods takes longer than ",
    ),
}


@pytest.mark.parametrize(("faults", "said"), LASTING.values(), ids=LASTING)
def test_a_fault_that_lasts_is_one_line(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, faults: list[Fault], said: str
) -> None:
    looked = look_through(shell, plane, proxy, *faults)
    assert looked.said.status == 1
    assert looked.said.out == ""
    assert said in looked.said.line
    assert "token=" not in looked.said.err
    assert not any("login" in each.path for each in proxy.asked)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(SERVICES, times=ALWAYS, status=403, body=status(403)), "forbidden: "),
        (Fault(SERVICES, times=ALWAYS, status=404, body=b"404 page not found"), "has no API for services"),
        (Fault(SERVICES, times=ALWAYS, status=500, body=status(500)), "answers 500 for services"),
        (Fault(SERVICES, times=ALWAYS, status=429, headers={"Retry-After": "600"}), "asks to wait 600 s"),
    ],
    ids=["forbidden", "absent", "failing", "throttled"],
)
def test_what_befalls_one_kind_alone_is_skipped(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, fault: Fault, reason: str
) -> None:
    looked = look_through(shell, plane, proxy, fault)
    assert (looked.said.status, looked.said.err) == (0, "")
    assert looked.found == {"web"}
    assert looked.skipped.keys() == {"services"}
    assert reason in looked.skipped["services"]
    if fault.status == 403:
        text = shell.run("analyze", "--kubeconfig", plane.kubeconfig("admin", url=proxy.url)).out
        assert "Not looked at\n  services: forbidden: " in text


def test_what_may_not_be_read_is_never_missing(plane: ControlPlane, shell: Shell, proxy: FaultProxy) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"}}
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "no"}
    made = plane.api.create({**claim, "spec": wanted})
    try:
        assert "data" in look(shell, plane.admin_kubeconfig).found
        forbidden = look_through(shell, plane, proxy, Fault(CLASSES, times=1, status=403, body=status(403)))
        assert forbidden.found == {"web"}
        odd = b'{"metadata":{},"items":[{"metadata":{"name":"no"},"provisioner":[]}]}'
        unreadable = look_through(shell, plane, proxy, Fault(CLASSES, status=200, body=odd))
        assert unreadable.found == {"web"}
        assert unreadable.skipped == {"storageclasses.storage.k8s.io": "1 of them are not as their API says"}
        assert "skipped StorageClass no and all like it, for they are not as their API says: " in unreadable.said.line
    finally:
        plane.api.patch(plane.api.path(made), {"metadata": {"finalizers": None}})
        plane.api.delete(plane.api.path(made))


def test_objects_of_odd_types_are_skipped_with_one_line(plane: ControlPlane, shell: Shell, proxy: FaultProxy) -> None:
    for number in range(5):
        broken_pod(plane, "odd", f"odd-{number}", labels={"odd": "yes"})

    def spoil(body: bytes) -> bytes:
        return re.sub(rb'"odd":"yes"', b'"odd":{"a":[7]}', body)

    looked = look_through(shell, plane, proxy, Fault(PODS, rewrite=spoil))
    assert looked.said.status == 0
    assert looked.found == {"web"}
    assert looked.skipped == {"pods": "5 of them are not as their API says"}
    like = "skipped Pod odd/odd-0 and all like it, for they are not as their API says: Expected `str`, got `object`"
    assert like in looked.said.line

    for number in range(5):
        plane.api.delete(f"/api/v1/namespaces/odd/pods/odd-{number}", grace=0)


def test_large_objects(plane: ControlPlane, shell: Shell) -> None:
    broken_pod(plane, "big", "big-pod", annotations={"note": "<" * 250_000})
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big", "namespace": "big"}}
    plane.api.create({**config, "data": {"file": "<" * 1_000_000}})
    template = {
        "metadata": {"labels": {"app": "big"}},
        "spec": {"containers": [{"name": "app", "image": "a", "env": [{"name": "A", "value": "<" * 1_000_000}]}]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "big"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "big", "namespace": "big"}}
    plane.api.create({**deployment, "spec": spec})
    looked = look(shell, plane.admin_kubeconfig, "-n", "big")
    assert (looked.said.status, looked.said.err) == (0, "")
    assert "big-pod" in looked.found
    assert looked.report["summary"]["objects"] == 3  # with the node
    assert len(looked.said.out) < 10_000


def test_where_all_namespaces_are_forbidden_the_contexts_own_is_read(plane: ControlPlane, shell: Shell) -> None:
    broken_pod(plane, "mine", "my-web")
    grant(plane, "mine", "user-01", "pods")
    kubeconfig = plane.kubeconfig("user-01", namespace="mine")
    looked = look(shell, kubeconfig)
    assert looked.said.status == 0
    assert "listing all namespaces is forbidden: reading namespace mine only" in looked.said.line
    assert looked.found == {"my-web"}
    assert "services in mine" in looked.skipped
    for args in (["-A"], ["-n", "shop"]):
        refused = look(shell, kubeconfig, *args).said
        assert (refused.status, refused.out) == (1, "")
        assert "testbed: may read nothing (forbidden: " in refused.line


def test_a_namespace_that_may_not_be_looked_up_and_is_empty(plane: ControlPlane, shell: Shell) -> None:
    grant(plane, "mine-too", "user-02", "pods")
    looked = look(shell, plane.kubeconfig("user-02"), "-n", "mine-too")
    assert looked.said.status == 0
    assert "there is nothing in namespace mine-too that could be judged" in looked.said.line


def test_a_server_killed_amid_a_list_and_back_again(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.script(Fault("limit=500", times=3, delay=1.0))
    args = ["analyze", "--no-hold", "-o", "json", "--kubeconfig", str(plane.kubeconfig("admin", url=proxy.url))]
    with shell.begin(tmp_path, *args) as running:
        running.until(lambda: proxy.count("limit=500", watch=False) >= 3)
        plane.kill_api_server()
        plane.start_api_server()
        said = running.end(seconds=60)
    assert (said.status, said.err) == (0, "")
    assert "web" in Looked(said).found


def test_a_server_that_takes_connections_and_never_answers(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    document = json.loads(plane.admin_kubeconfig.read_text())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{silent.getsockname()[1]}"
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(document))
        said = shell.run("analyze", "--kubeconfig", path, timeout=30)
    assert said.status == 1
    assert "does not answer in time: check the address, firewalls, or your VPN" in said.line


async def test_a_server_that_hears_and_never_answers(plane: ControlPlane, proxy: FaultProxy) -> None:
    proxy.script(Fault("", times=ALWAYS, delay=60))
    limits = Limits(silence=0.3)
    async with await connect(str(plane.kubeconfig("admin", url=proxy.url)), limits=limits) as cluster:
        with pytest.raises(ConfigError, match="does not answer in time"):
            async with asyncio.timeout(20):
                await cluster.identify()


@pytest.fixture
def greeting() -> Iterator[str]:
    """A server that speaks first, as SSH does; its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"SSH-2.0-OpenSSH_10.0\r\n\x1b[31m")

        threading.Thread(target=greet, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("scheme", "what", "said"),
    [
        ("http", "etcd", "has no API for cronjobs.batch): check the server's address"),
        ("https", "etcd", "is the API server up, and the address right?"),
        ("http", "ssh", "answers, but not as HTTP does: check the address and the port"),
        ("https", "ssh", "no TLS connection to https://127.0.0.1:"),
    ],
)
def test_something_else_behind_the_address(
    plane: ControlPlane, shell: Shell, tmp_path: Path, greeting: str, scheme: str, what: str, said: str
) -> None:
    document = json.loads(plane.admin_kubeconfig.read_text())
    place = plane.etcd_url.split("//")[1] if what == "etcd" else greeting
    document["clusters"][0]["cluster"]["server"] = f"{scheme}://{place}"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    told = shell.run("analyze", "--kubeconfig", path)
    assert told.status == 1
    assert said in told.line
