"""`kubewhy run` and `kubewhy record` through faults of the server, and of what stands before it: nothing is lost."""

import itertools
import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane
from tests.live.audited import audited
from tests.live.broken import broken_pod, grant
from tests.live.command import Running, Shell
from tests.live.faults import Fault, FaultProxy

pytestmark = pytest.mark.live

ALWAYS = 10_000
HOSTILE = r"\u001b[31mred\u202e\u009b32m\n"
PODS, WATCH = "/api/v1/pods", "/api/v1/pods?watch=1"
_numbers = itertools.count()


def status(code: int, message: str = HOSTILE) -> bytes:
    return b'{"kind":"Status","code":%d,"message":"%s"}' % (code, message.encode())


def error_event(code: int) -> bytes:
    return b'{"type":"ERROR","object":' + status(code) + b"}\n"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        broken_pod(plane, "shop", "always")
        yield plane


@pytest.fixture(scope="module")
def shell(plane: ControlPlane) -> Shell:
    return Shell.of(plane)


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    with FaultProxy(plane) as proxy:
        yield proxy


class Run:
    """`kubewhy run` on a cluster."""

    def __init__(self, running: Running, plane: ControlPlane) -> None:
        self._running, self._plane = running, plane

    @property
    def findings(self) -> list[tuple[str, str]]:
        """Each transition, and the name of the pod in it."""
        whole = self._running.out[: self._running.out.rfind("\n") + 1]
        told = [json.loads(line) for line in whole.splitlines()]
        return [(each["transition"], each["incident"]["root"]["name"]) for each in told]

    @property
    def lines(self) -> list[str]:
        return self._running.err.splitlines()

    def until_told(self, transition: str, name: str, seconds: float = 40) -> None:
        self._running.until(lambda: (transition, name) in self.findings, seconds)

    def until_said(self, words: str, seconds: float = 40) -> None:
        self._running.until(lambda: words in self._running.err, seconds)

    def finds_what_breaks(self) -> None:
        """It does, when something breaks now, and when that is gone again."""
        name = f"web-{next(_numbers)}"
        broken_pod(self._plane, "shop", name)
        self.until_told("opened", name)
        self._plane.api.delete(f"/api/v1/namespaces/shop/pods/{name}", grace=0)
        self.until_told("resolved", name)

    def ends_well(self) -> None:
        assert self._running.end(signal.SIGTERM).status == 0


@contextmanager
def running(
    plane: ControlPlane, shell: Shell, folder: Path, kubeconfig: Path, *args: str, first: str = "always"
) -> Iterator[Run]:
    """Until it has told of a pod that was broken before; and it must end well."""
    with shell.begin(folder, "run", "--no-hold", "-o", "json", "--kubeconfig", kubeconfig, *args) as process:
        run = Run(process, plane)
        run.until_told("opened", first)
        yield run
        run.ends_well()


# What happens to the watch of pods once.
PASSING: dict[str, Fault] = {
    "a connection cut": Fault("none"),
    "410 as a status": Fault(WATCH, status=410, body=status(410)),
    "410 as an event": Fault(WATCH, status=200, body=error_event(410)),
    "429 with Retry-After": Fault(WATCH, status=429, headers={"Retry-After": "1"}),
    "403": Fault(WATCH, status=403, body=status(403)),
    "404": Fault(WATCH, status=404),
    "503": Fault(WATCH, status=503),
    "an event cut off": Fault(WATCH, cut_after=40),
}

# What happens to it twice, and what is said of that.
LASTING: dict[str, tuple[Fault, str]] = {
    "401": (Fault(WATCH, times=2, status=401), "does not know these credentials (401)"),
    "500 as an event": (
        Fault(WATCH, times=2, status=200, body=error_event(500)),
        r" answers 500 for pods: \x1b[31mred",
    ),
    "400": (Fault(WATCH, times=2, status=400, body=status(400)), "does not accept the request for pods: "),
    "a web page": (Fault(WATCH, times=2, status=200, body=b"<html>\n"), "sends a web page in place of watch events"),
    "a redirect": (
        Fault(WATCH, times=2, status=302, headers={"Location": "https://login.example/?token=x"}),
        "redirects to https://login.example: ",
    ),
}


def test_a_fault_that_passes_is_not_worth_a_word(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path
) -> None:
    with running(plane, shell, tmp_path, plane.kubeconfig("admin", url=proxy.url)) as run:
        for name, fault in PASSING.items():
            proxy.script(fault)
            proxy.cut(WATCH)
            run.finds_what_breaks()
            assert (name, run.lines) == (name, [])
            assert fault.times == 0 or name == "a connection cut"


@pytest.mark.parametrize(("fault", "said"), LASTING.values(), ids=LASTING)
def test_a_fault_that_lasts_is_told_once_and_nothing_is_lost(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path, fault: Fault, said: str
) -> None:
    with running(plane, shell, tmp_path, plane.kubeconfig("admin", url=proxy.url)) as run:
        proxy.script(fault)
        proxy.cut()
        run.finds_what_breaks()
        run.until_said("in step again")
        assert len(run.lines) == 2
        assert "testbed: out of reach (" in run.lines[0]
        assert said in run.lines[0]


def test_a_server_that_is_killed_and_comes_back(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    broken_pod(plane, "shop", "doomed")
    with running(plane, shell, tmp_path, plane.admin_kubeconfig) as run:
        run.until_told("opened", "doomed")
        plane.kill_api_server()
        run.until_said("out of reach")
        plane.start_api_server()
        broken_pod(plane, "shop", "born-since")
        plane.api.delete("/api/v1/namespaces/shop/pods/doomed", grace=0)
        run.until_told("opened", "born-since")
        run.until_told("resolved", "doomed")
        run.until_said("in step again")
        assert len(run.lines) == 2
        assert "(connection refused): is the API server up, and the address right?); trying again" in run.lines[0]
        assert ("resolved", "always") not in run.findings


def test_what_changes_while_the_server_is_out_of_reach(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path
) -> None:
    broken_pod(plane, "shop", "gone-unseen")
    broken_pod(plane, "shop", "mended-unseen")
    with running(plane, shell, tmp_path, plane.kubeconfig("admin", url=proxy.url)) as run:
        run.until_told("opened", "gone-unseen")
        run.until_told("opened", "mended-unseen")
        proxy.script(Fault("", times=ALWAYS, status=503))
        proxy.cut()
        run.until_said("out of reach")
        broken_pod(plane, "shop", "broken-unseen")
        plane.api.delete("/api/v1/namespaces/shop/pods/gone-unseen", grace=0)
        plane.api.patch_status("/api/v1/namespaces/shop/pods/mended-unseen", {"status": {"phase": "Succeeded"}})
        # Its own memory of what happened would still do otherwise.
        plane.compact_etcd()
        plane.kill_api_server()
        plane.start_api_server()
        proxy.clear()
        run.until_told("opened", "broken-unseen")
        run.until_told("resolved", "gone-unseen")
        run.until_told("resolved", "mended-unseen")
        run.until_said("in step again")
        assert len(run.lines) == 2


def test_a_recording_goes_through_it_too(plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path) -> None:
    broken_pod(plane, "shop", "recorded")
    path = tmp_path / "x.kwrec"
    with shell.begin(tmp_path, "record", path, "--kubeconfig", plane.kubeconfig("admin", url=proxy.url)) as process:
        process.until(lambda: "Ctrl-C ends it" in process.err)
        proxy.script(Fault(WATCH, times=2, status=503))
        proxy.cut()
        plane.api.delete("/api/v1/namespaces/shop/pods/recorded", grace=0)
        process.until(lambda: "in step again" in process.err)
        said = process.end(signal.SIGINT)
    assert said.status == 0
    assert len(said.err.splitlines()) == 3
    told = [json.loads(line) for line in shell.run("run", "--no-hold", "--from", path).out.splitlines()]
    transitions = [each["transition"] for each in told if each["incident"]["root"]["name"] == "recorded"]
    assert (transitions[0], transitions[-1]) == ("opened", "resolved")


def test_a_list_whose_continue_token_expires(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path
) -> None:
    def more(body: bytes) -> bytes:
        return body.replace(b'"metadata":{', b'"metadata":{"continue":"next-page",', 1)

    proxy.script(Fault(PODS, rewrite=more), Fault("continue=next-page", status=410, body=status(410)))
    with running(plane, shell, tmp_path, plane.kubeconfig("admin", url=proxy.url)) as run:
        run.finds_what_breaks()
        assert run.lines == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("/services", times=ALWAYS, status=403, body=status(403)), "cannot read services (forbidden: "),
        (Fault("/services", times=ALWAYS, status=404), "has no API for services): going on without"),
        (
            Fault("/services", times=ALWAYS, status=429, headers={"Retry-After": "600"}, body=status(429)),
            "answers 429 for services: ",
        ),
    ],
    ids=["forbidden", "absent", "throttled"],
)
def test_what_befalls_one_kind_alone_keeps_the_others_from_nothing(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path, fault: Fault, said: str
) -> None:
    proxy.script(fault)
    with running(plane, shell, tmp_path, plane.kubeconfig("admin", url=proxy.url)) as run:
        run.finds_what_breaks()
        assert len(run.lines) == 1
        assert said in run.lines[0]


def test_where_all_namespaces_are_forbidden_the_contexts_own_is_watched(
    plane: ControlPlane, shell: Shell, tmp_path: Path
) -> None:
    broken_pod(plane, "mine", "my-web")
    grant(plane, "mine", "user-01", "*")
    kubeconfig = plane.kubeconfig("user-01", namespace="mine")
    with running(plane, shell, tmp_path, kubeconfig, first="my-web") as run:
        assert "listing all namespaces is forbidden: watching namespace mine only" in run.lines[0]
        assert (
            "cannot read namespaces, nodes, persistentvolumes, storageclasses.storage.k8s.io (forbidden: "
            in run.lines[1]
        )
        assert len(run.lines) == 2
        assert {name for _, name in run.findings} == {"my-web"}
    for args in (["-A"], ["-n", "shop"]):
        refused = shell.run("run", "--kubeconfig", kubeconfig, *args)
        assert (refused.status, refused.out) == (1, "")
        assert "testbed: may read nothing (forbidden: " in refused.line


def test_a_namespace_that_comes_later(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    args: list[str | Path] = ["run", "--no-hold", "-o", "json", "-n", "later", "--kubeconfig", plane.admin_kubeconfig]
    with shell.begin(tmp_path, *args) as process:
        run = Run(process, plane)
        run.until_said("there is no namespace later yet; waiting for it")
        broken_pod(plane, "later", "late")
        run.until_told("opened", "late")
        run.ends_well()


def test_large_and_odd_objects_hold_up_nothing(
    plane: ControlPlane, shell: Shell, proxy: FaultProxy, tmp_path: Path
) -> None:
    def spoil(line: bytes) -> bytes:
        return re.sub(rb'"odd":"yes"', b'"odd":[7]', line)

    proxy.script(Fault("watch=1", times=ALWAYS, rewrite=spoil))
    with running(plane, shell, tmp_path, plane.kubeconfig("admin", url=proxy.url)) as run:
        for number in range(3):
            broken_pod(plane, "shop", f"odd-{number}", labels={"odd": "yes"})
        broken_pod(plane, "shop", "large", annotations={"note": "<" * 250_000})
        env: list[dict[str, Any]] = [{"name": "A", "value": "<" * 1_000_000}]
        template = {
            "metadata": {"labels": {"app": "big"}},
            "spec": {"containers": [{"name": "app", "image": "a", "env": env}]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": "big"}}, "template": template}
        meta = {"name": "big", "namespace": "shop"}
        plane.api.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
        run.until_told("opened", "large")
        run.finds_what_breaks()
        assert len(run.lines) == 1
        assert "skipped Pod shop/odd-0 and all like it, for they are not as their API says: " in run.lines[0]
        assert not [name for _, name in run.findings if name.startswith("odd")]
