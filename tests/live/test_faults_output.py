"""Where it all goes: readers that go away, disks that are full, signals, and words that would steer a terminal."""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane
from tests.live.audited import audited
from tests.live.broken import broken_pod
from tests.live.cli import KUBEWHY
from tests.live.command import Shell
from tests.live.faults import Fault, FaultProxy

pytestmark = pytest.mark.live

PASSWORD = "hunter2-and-more"
HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u009b32m \u202eright\u2066 \u2028 new\nline \x7f \u200b end"
PODS = 61
INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        broken_pod(plane, "shop", "web", HOSTILE, image=f"shop/{HOSTILE.strip()}", env={"KEY": PASSWORD})
        for number in range(1, PODS):
            broken_pod(plane, "shop", f"web-{number}")
        yield plane


@pytest.fixture(scope="module")
def shell(plane: ControlPlane) -> Shell:
    return Shell.of(plane, PASSWORD)


@pytest.fixture(scope="module")
def recording(plane: ControlPlane, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "shop.kwrec"
    assert shell.run("record", "--for", "0", path, "--kubeconfig", plane.admin_kubeconfig).status == 0
    return path


# What writes to standard output, each in its own way.
WRITING = {
    "analyze": ["analyze", "--no-hold"],
    "analyze json": ["analyze", "--no-hold", "-o", "json"],
    "run": ["run", "--no-hold", "-o", "text"],
    "run json": ["run", "--no-hold", "-o", "json"],
    "rules": ["rules"],
    "rbac": ["rbac"],
    "help": ["--help"],
}
writing = pytest.mark.parametrize("args", WRITING.values(), ids=WRITING)


def source(args: list[str], plane: ControlPlane) -> list[str | Path]:
    return [*args, "--kubeconfig", plane.admin_kubeconfig] if args[0] in ("analyze", "run") else [*args]


def told(err: str) -> str:
    """Without the line that says what is being watched."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("watching testbed ("))


@writing
def test_nobody_reads(plane: ControlPlane, shell: Shell, args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        said = shell.run(*source(args, plane), stdout=writer)
    finally:
        os.close(writer)
    assert said.status == 1
    assert told(said.err) == ""


@writing
def test_a_full_disk(plane: ControlPlane, shell: Shell, args: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        said = shell.run(*source(args, plane), stdout=full)
    assert said.status == 1
    assert told(said.err) == ("kubewhy: cannot write to standard output (No space left on device): the rest is lost\n")


@writing
def test_no_standard_output(plane: ControlPlane, shell: Shell, args: list[str]) -> None:
    said = shell.run(*source(args, plane), stdout=None, preexec_fn=partial(os.close, 1))
    assert said.status == 1
    assert said.line.startswith("kubewhy: standard output is closed: nothing could be told")


@pytest.mark.parametrize("closed", [0, 2], ids=["standard input", "standard error"])
def test_another_stream_is_closed(plane: ControlPlane, shell: Shell, tmp_path: Path, closed: int) -> None:
    close: dict[str, Any] = {"preexec_fn": partial(os.close, closed), "stdin" if closed == 0 else "stderr": None}
    said = shell.run("analyze", "-n", "shop", "-o", "json", "--kubeconfig", plane.admin_kubeconfig, **close)
    assert said.status == 0
    assert json.loads(said.out)["summary"]["objects"] == PODS + 1  # and a node
    path = tmp_path / "x.kwrec"
    assert shell.run("record", "--for", "0", path, "--kubeconfig", plane.admin_kubeconfig, **close).status == 0
    assert shell.run("analyze", "--from", path).err == ""
    assert shell.run("analyze", "-n", "nowhere", "--kubeconfig", plane.admin_kubeconfig, **close).status == 1


@pytest.mark.parametrize("args", [["analyze", "--no-hold"], ["run", "--no-hold", "-o", "text"]], ids=["analyze", "run"])
def test_an_encoding_that_knows_little(shell: Shell, recording: Path, args: list[str]) -> None:
    said = shell.run(*args, "--from", recording, env={"PYTHONIOENCODING": "ascii"})
    assert said.status == 0
    assert said.err == ""
    assert said.out.isascii()
    assert "shop/web" in said.out


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def config(plane: ControlPlane, folder: Path, server: str, **user: Any) -> Path:
    document = json.loads(plane.admin_kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = server
    document["users"][0]["user"] |= user
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


# The command, the signals, and what it ends with.
STOPPED = {
    "analyze, Ctrl-C": ("analyze", (INT,), 130),
    "run, Ctrl-C": ("run", (INT,), 0),
    "run, SIGTERM": ("run", (TERM,), 0),
    "record, SIGTERM": ("record", (TERM,), 0),
}
stopped = pytest.mark.parametrize(("command", "signals", "status"), STOPPED.values(), ids=STOPPED)


def arguments(command: str, folder: Path) -> list[str | Path]:
    return ["record", folder / "x.kwrec"] if command == "record" else [command]


@stopped
def test_stopped_while_it_connects(
    plane: ControlPlane,
    shell: Shell,
    silent: socket.socket,
    tmp_path: Path,
    command: str,
    signals: tuple[signal.Signals],
    status: int,
) -> None:
    path = config(plane, tmp_path, f"https://127.0.0.1:{silent.getsockname()[1]}")
    with shell.begin(tmp_path, *arguments(command, tmp_path), "--kubeconfig", path) as running:
        connection, _ = silent.accept()
        with connection:
            said = running.end(*signals)
    assert (said.status, said.out, said.err.strip()) == (status, "", "")


@stopped
def test_stopped_while_a_plugin_hangs(
    plane: ControlPlane,
    shell: Shell,
    tmp_path: Path,
    command: str,
    signals: tuple[signal.Signals],
    status: int,
) -> None:
    (tmp_path / "plugin").write_text("#!/bin/sh\necho $$ > called\nexec sleep 300\n")
    (tmp_path / "plugin").chmod(0o755)
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never"}
    path = config(plane, tmp_path, plane.url, exec=plugin)
    with shell.begin(tmp_path, *arguments(command, tmp_path), "--kubeconfig", path, cwd=tmp_path) as running:
        called = tmp_path / "called"
        running.until(lambda: called.exists() and called.read_text().endswith("\n"))
        said = running.end(*signals)
    assert (said.status, said.out, said.err.strip()) == (status, "", "")
    assert not Path("/proc", called.read_text().strip()).exists()


@stopped
def test_stopped_while_it_lists(
    plane: ControlPlane,
    shell: Shell,
    tmp_path: Path,
    command: str,
    signals: tuple[signal.Signals],
    status: int,
) -> None:
    with FaultProxy(plane) as proxy:
        proxy.script(Fault("limit=500", times=100, delay=60))
        path = plane.kubeconfig("admin", url=proxy.url)
        with shell.begin(tmp_path, *arguments(command, tmp_path), "--kubeconfig", path) as running:
            running.until(lambda: proxy.count("limit=500", watch=False) >= 3)
            said = running.end(*signals)
    assert (said.status, said.out, said.err.strip()) == (status, "", "")


@pytest.mark.parametrize("signals", [(INT,), (TERM,), (TERM, TERM), (INT, TERM, INT)], ids=str)
def test_run_stopped_while_it_watches(
    plane: ControlPlane, shell: Shell, tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    args: list[str | Path] = ["run", "--no-hold", "-n", "shop", "--kubeconfig", plane.admin_kubeconfig]
    with shell.begin(tmp_path, *args) as running:
        running.until(lambda: running.out.count("\n") >= PODS)
        said = running.end(*signals)
    assert (said.status, said.err) == (0, "")
    assert len([json.loads(line) for line in said.out.splitlines()]) >= PODS


@pytest.mark.parametrize("signals", [(INT,), (TERM,), (TERM, TERM)], ids=str)
def test_record_stopped_while_it_watches(
    plane: ControlPlane, shell: Shell, tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    path = tmp_path / "x.kwrec"
    with shell.begin(tmp_path, "record", path, "--kubeconfig", plane.admin_kubeconfig) as running:
        running.until(lambda: "Ctrl-C ends it" in running.err)
        said = running.end(*signals)
    assert said.status == 0
    assert said.line.startswith("recording testbed (")
    again = shell.run("analyze", "--from", path, "-n", "shop", "-o", "json")
    assert (again.status, again.err) == (0, "")  # not a word of having been cut off
    assert json.loads(again.out)["summary"]["objects"] == PODS + 1


@pytest.mark.parametrize("number", [INT, TERM], ids=str)
def test_run_stopped_while_its_reader_is_stuck(
    plane: ControlPlane, shell: Shell, tmp_path: Path, number: signal.Signals
) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    args: list[str | Path] = ["run", "--no-hold", "-o", "json", "--kubeconfig", plane.admin_kubeconfig]
    try:
        with shell.begin(tmp_path, *args, stdout=writer) as running:
            seen = [0]
            running.until(lambda: stuck(seen, waiting(reader)))
            said = running.end(number)
    finally:
        os.close(reader)
        os.close(writer)
    assert (said.status, said.err) == (0, "")


def stuck(seen: list[int], now: int) -> bool:
    """Whether something was written, and for the last ten looks nothing more."""
    seen.append(now)
    return len(seen) > 10 and 0 < seen[-10] == seen[-1]


def waiting(descriptor: int) -> int:
    """How many bytes can be read."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0])


@pytest.mark.parametrize("output", ["text", "json"])
def test_hostile_words_of_a_cluster(plane: ControlPlane, shell: Shell, recording: Path, output: str) -> None:
    live: list[str | Path] = ["--no-hold", "-o", output, "-vv", "--kubeconfig", plane.admin_kubeconfig]
    replayed: list[str | Path] = ["--no-hold", "-o", output, "--from", recording]
    for args in (
        ["analyze", *live],
        ["run", "--until-idle", "0.2", *live],
        ["--log-format", "json", "analyze", *live],
        ["analyze", *replayed],
        ["run", *replayed],
    ):
        said = shell.run(*args)  # which checks each letter
        assert said.status == 0
        assert "red" in said.out
        if output == "json":
            documents = [json.loads(line) for line in said.out.splitlines()]
            assert "\u202e" in json.dumps(documents, ensure_ascii=False)


@pytest.mark.parametrize("command", [["analyze"], ["run", "-o", "text", "--until-idle", "0.2"], ["record"]])
def test_hostile_names_in_a_kubeconfig(plane: ControlPlane, shell: Shell, tmp_path: Path, command: list[str]) -> None:
    document = json.loads(plane.admin_kubeconfig.read_text())
    document["current-context"] = document["contexts"][0]["name"] = HOSTILE
    document["clusters"][0]["name"] = document["contexts"][0]["context"]["cluster"] = HOSTILE
    path = tmp_path / HOSTILE.replace("/", "")
    path.write_text(json.dumps(document))
    file: list[str | Path] = ["--for", "0", tmp_path / f"{HOSTILE}.kwrec"] if command[0] == "record" else []
    assert shell.run(*command, *file, "--kubeconfig", path).status == 0
    # And where nothing can be read.
    document["users"][0]["user"]["token"] = plane.token("nobody")
    path.write_text(json.dumps(document))
    said = shell.run(*command, "--context", HOSTILE, *file, *(["--overwrite"] if file else []), "--kubeconfig", path)
    assert said.status == 1
    assert "may read nothing" in said.err.splitlines()[-1]


def test_a_status_that_says_what_was_found(shell: Shell, recording: Path) -> None:
    for level, status in (("info", 3), ("warning", 3), ("critical", 3)):
        assert shell.run("analyze", "--no-hold", "--fail-on", level, "--from", recording).status == status
    assert shell.run("analyze", "--fail-on", "info", "-f", "sts", "--from", recording).status == 0


def test_a_pipe_ends_as_its_reader_does(plane: ControlPlane) -> None:
    """As people write it."""
    line = f"set -o pipefail; {KUBEWHY} run --no-hold --kubeconfig {plane.admin_kubeconfig} | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["transition"] == "opened"
