"""A real Kubernetes control plane on loopback: started, broken on purpose, and stopped without a trace."""

import atexit
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import urllib3

from infra.testbed import access, components
from infra.testbed.api import Api
from infra.testbed.build import Say, build
from infra.testbed.components import Layout
from infra.testbed.errors import TestbedError
from infra.testbed.nodes import Nodes
from infra.testbed.processes import Process, free_ports

_CONTROLLERS = ("kube-controller-manager", "kube-scheduler", "kwok", "kubelet")
# What tests say, and what it is.
_ALIASES = {"controllers": "kube-controller-manager", "scheduler": "kube-scheduler", "api": "kube-apiserver"}


class ControlPlane:
    """One cluster. Make it with `start`; it is a context manager, and ends with the process at the latest."""

    def __init__(self, layout: Layout, tokens: dict[str, str], *, audit: bool, temporary: bool) -> None:
        self._layout = layout
        self._tokens = tokens
        self._temporary = temporary
        self._processes = _processes(layout, audit=audit)
        self.directory = layout.directory
        self.url = layout.url
        self.etcd_url = layout.etcd_url
        self.audit_log = layout.audit_log
        self.ca_file = layout.keys / "ca.crt"
        self.other_ca_file = layout.keys / "other-ca.crt"
        self.admin_kubeconfig = self.kubeconfig(access.ADMIN)
        self.api = Api(self.url, self.ca_file, tokens[access.ADMIN])
        self.nodes = Nodes(self.api, layout.kubelet_port)

    @classmethod
    def start(
        cls,
        directory: Path | None = None,
        *,
        nodes: int = 3,
        controllers: bool = True,
        audit: bool = True,
        say: Say | None = None,
    ) -> "ControlPlane":
        """Builds what is missing, starts everything and waits until it works.

        Without a directory, a temporary one is used and removed at the end. Without controllers there are only
        etcd and the API server: objects stay as they are written.
        """
        programs = build(say)
        folder = directory or Path(tempfile.mkdtemp(prefix="kubewhy-testbed-"))
        folder.mkdir(parents=True, exist_ok=True)
        layout = Layout(folder.resolve(), programs, *free_ports(4))
        plane = cls(layout, _prepare(layout), audit=audit, temporary=directory is None)
        atexit.register(plane.stop)
        try:
            plane._start(nodes if controllers else 0, controllers=controllers)
        except BaseException:
            # The logs that the error points to are worth keeping.
            plane._temporary = False
            plane.stop()
            raise
        return plane

    def stop(self) -> None:
        """Ends what was started, dependants first. To stop twice is harmless."""
        atexit.unregister(self.stop)
        for process in reversed(self._processes.values()):
            process.stop()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kubeconfig(self, user: str, namespace: str | None = None, url: str | None = None) -> Path:
        """A kubeconfig for one of `access.USERS`. Another url lets a proxy stand in between."""
        if user not in self._tokens:
            raise TestbedError(f"no user {user}: there are {', '.join(access.USERS)}")
        parts = [user, namespace, url and url.rsplit(":", 1)[-1].strip("/")]
        path = self._layout.directory / ("-".join(part for part in parts if part) + ".kubeconfig")
        ca_file = self._layout.keys / "ca.crt"
        document = access.kubeconfig(url or self._layout.url, ca_file, user, self._tokens[user], namespace)
        return access.write_kubeconfig(path, document)

    def token(self, user: str) -> str:
        return self._tokens[user]

    def pids(self) -> dict[str, int]:
        """The running processes by name."""
        return {name: each.pid for name, each in self._processes.items() if each.running and each.pid}

    def kill_api_server(self) -> None:
        """As a crash does: no goodbye to anybody."""
        self._processes["kube-apiserver"].kill()

    def start_api_server(self, timeout_seconds: float = 60.0) -> None:
        """The same port, certificates and data as before."""
        process = self._processes["kube-apiserver"]
        process.start()
        process.wait_until(lambda: _answers(f"{self.url}/readyz", self.ca_file), timeout_seconds)

    def pause(self, *names: str) -> None:
        """Freezes components: "kwok", "kubelet", "controllers", "scheduler", "etcd", "api"."""
        self._signal(names, signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        self._signal(names, signal.SIGCONT)

    def compact_etcd(self) -> int:
        """Forgets all history and returns the revision it ends at.

        The API server still answers from its own memory: only once it was restarted do older continue tokens
        and watches get their 410 Gone.
        """
        status = _post(f"{self.etcd_url}/v3/maintenance/status", {})
        revision = int(status["header"]["revision"])
        _post(f"{self.etcd_url}/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def __enter__(self) -> "ControlPlane":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, nodes: int, *, controllers: bool) -> None:
        etcd = self._processes["etcd"]
        etcd.start()
        etcd.wait_until(lambda: _answers(f"{self.etcd_url}/health"), 30)
        self.start_api_server()
        if not controllers:
            return
        for name in _CONTROLLERS:
            self._processes[name].start()
        for number in range(1, nodes + 1):
            self.nodes.add(f"node-{number}")
        # The controllers are at work when they have given out the first service account.
        self._processes["kube-controller-manager"].wait_until(self._default_account_exists, 60)
        for number in range(1, nodes + 1):
            self._processes["kwok"].wait_until(lambda name=f"node-{number}": self.nodes.is_ready(name), 60)  # type: ignore[misc]
        for name in _CONTROLLERS:
            self._processes[name].wait_until(lambda: True, 1)

    def _default_account_exists(self) -> bool:
        return self.api.exists("/api/v1/namespaces/default/serviceaccounts/default")

    def _signal(self, names: tuple[str, ...], number: signal.Signals) -> None:
        for name in names:
            self._processes[_ALIASES.get(name, name)].signal(number)


def _processes(at: Layout, *, audit: bool) -> dict[str, Process]:
    """In the order of their start."""
    kubelet: components.Command = [sys.executable, "-m", "infra.testbed.kubelet", at.kubeconfig("kubelet")]
    # Nobody verifies a kubelet's certificate unless told to.
    kubelet += [str(at.kubelet_port), at.keys / "apiserver.crt", at.keys / "apiserver.key"]
    commands: dict[str, components.Command] = {
        "etcd": components.etcd(at),
        "kube-apiserver": components.api_server(at, audit=audit),
        "kube-controller-manager": components.controller_manager(at),
        "kube-scheduler": components.scheduler(at),
        "kwok": components.kwok(at),
        "kubelet": kubelet,
    }
    root = Path(__file__).parents[2]
    return {
        name: Process(name, command, at.directory / f"{name}.log", folder=root if name == "kubelet" else None)
        for name, command in commands.items()
    }


def _prepare(at: Layout) -> dict[str, str]:
    """Keys, tokens, and the components' own kubeconfigs."""
    at.keys.mkdir(mode=0o700, exist_ok=True)
    subprocess.run([at.programs["keys"], at.keys], check=True)
    tokens = access.make_tokens()
    access.write_private(at.directory / "tokens.csv", access.token_file(tokens))
    for component, user in access.COMPONENTS.items():
        document = access.kubeconfig(at.url, at.keys / "ca.crt", user, tokens[user])
        access.write_kubeconfig(at.kubeconfig(component), document)
    return tokens


def _answers(url: str, ca_file: Path | None = None) -> bool:
    with urllib3.PoolManager(ca_certs=str(ca_file) if ca_file else None, retries=False) as pool:
        try:
            return pool.request("GET", url, timeout=2).status == 200
        except urllib3.exceptions.HTTPError:
            return False


def _post(url: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
    reply = urllib3.request("POST", url, json=body, timeout=30, retries=False)
    if reply.status != 200:
        raise TestbedError(f"etcd answered HTTP {reply.status}: {reply.data.decode(errors='replace')[:200]}")
    answer: dict[str, dict[str, str]] = reply.json()
    return answer


def wait_until(what: str, true: Callable[[], bool], timeout_seconds: float) -> None:
    """For conditions that are not about one object."""
    deadline = time.monotonic() + timeout_seconds
    while not true():
        if time.monotonic() > deadline:
            raise TestbedError(f"not so within {timeout_seconds:.0f} s: {what}")
        time.sleep(0.1)
