"""Builds the testbed's programs from their published modules, once per version, into a cache folder."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.testbed.errors import TestbedError
from infra.testbed.jars import fetch
from infra.testbed.toolchain import find_go

ETCD = "v3.6.16"
KUBERNETES = "v1.35.4"
KWOK = "v0.7.0"
# The last whose module holds its web pages ready-made.
ALERTMANAGER = "v0.31.1"
# As a module, 3.12.0 is called so: the last that our oldest compiler takes.
PROMETHEUS = "v0.312.0"
KAFKA = "4.1.0"

# The broker, the clients of its own version (an older one would be picked, and breaks it), and what lets it log.
_BROKER = (
    f"org.apache.kafka:kafka_2.13:{KAFKA}",
    f"org.apache.kafka:kafka-clients:{KAFKA}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)

_KEYS = Path(__file__).parent / "keys" / "main.go"
_STAMP = "k8s.io/component-base/version"
# How often a long compile says that it is still alive, where nobody sees a cursor.
_SIGN_OF_LIFE = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """One binary: the package it is built from, and the module with its version."""

    name: str
    module: str
    version: str
    package: str
    flags: str = ""
    tags: str = ""

    @property
    def folder(self) -> str:
        return f"{self.module.replace('/', '-')}-{self.version}"


def _kubernetes(name: str) -> Program:
    # Unstamped, the server calls itself v0.0.0-master and clients cannot parse what it says of itself.
    _, minor, _ = KUBERNETES.split(".")
    stamp = {"gitVersion": KUBERNETES, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(f"-X {_STAMP}.{key}={value}" for key, value in stamp.items())
    return Program(name, "k8s.io/kubernetes", KUBERNETES, f"k8s.io/kubernetes/cmd/{name}", flags)


def _prometheus(name: str) -> Program:
    module = "github.com/prometheus/prometheus"
    # Without the clients of thirty clouds in which it could look for targets.
    return Program(name, module, PROMETHEUS, f"{module}/cmd/{name}", tags="remove_all_sd")


PROGRAMS = (
    Program("etcd", "go.etcd.io/etcd/server/v3", ETCD, "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    Program("kwok", "sigs.k8s.io/kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok"),
    Program(
        "alertmanager",
        "github.com/prometheus/alertmanager",
        ALERTMANAGER,
        "github.com/prometheus/alertmanager/cmd/alertmanager",
    ),
    _prometheus("prometheus"),
    _prometheus("promtool"),
    Program("keys", "keys", hashlib.sha256(_KEYS.read_bytes()).hexdigest()[:12], "keys"),
)


def cache_folder() -> Path:
    """Where the programs live between runs."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "kubewhy" / "testbed"


def build(say: Say | None = None) -> dict[str, Path]:
    """Every program by name, building what the cache does not hold; "kafka" is the folder of the broker's jars.

    About nine minutes from nothing, on two cores.
    """
    say = say or _to_stderr
    cache = cache_folder()
    built = {program.name: cache / program.folder / program.name for program in PROGRAMS}
    built["kafka"] = cache / f"kafka-{KAFKA}"
    if all(path.exists() for path in built.values()):
        return built
    cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with _alone(cache, say):
        missing = [program for program in PROGRAMS if not built[program.name].exists()]
        for number, program in enumerate(missing, 1):
            say(f"building {program.name} {program.version} ({number} of {len(missing)})")
            step = time.monotonic()
            _build(find_go(), program, built[program.name], say)
            say(f"built {program.name} in {time.monotonic() - step:.0f} s")
        if not built["kafka"].exists():
            say(f"fetching kafka {KAFKA}")
            step = time.monotonic()
            _fetch(built["kafka"])
            say(f"fetched kafka in {time.monotonic() - step:.0f} s")
    say(f"the testbed's programs are ready after {time.monotonic() - began:.0f} s, in {cache}")
    return built


@contextmanager
def _alone(cache: Path, say: Say) -> Iterator[None]:
    """Two builders at once would compile the same thing twice; the second waits and finds it done."""
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the testbed; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(go: Path, program: Program, target: Path, say: Say) -> None:
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        if program.name == "keys":
            (folder / "go.mod").write_text("module keys\n\ngo 1.25\n")
            shutil.copy(_KEYS, folder)
        else:
            (folder / "go.mod").write_text(_go_mod(go, program))
        out = folder / "out"
        flags = ["-trimpath", "-tags", program.tags, "-ldflags", f"-s -w {program.flags}".strip(), "-o", str(out)]
        _run([str(go), "build", *flags, program.package], folder, program.name, say)
        # A rename is all or nothing: whoever finds the file finds all of it.
        out.rename(target)


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "jars"
        fetch(_BROKER, folder)
        folder.rename(target)


def _go_mod(go: Path, program: Program) -> str:
    """A module whose only purpose is to build another's command."""
    lines = ["module testbed", "", "go 1.25.0", "", f"require {program.module} {program.version}"]
    if program.module == "k8s.io/kubernetes":
        # Its staging modules are replaced by folders that the published module does not contain.
        staging = re.findall(r"^\s*(\S+) => \./staging/", _published_go_mod(go, program), re.MULTILINE)
        published = program.version.replace("v1.", "v0.", 1)
        lines += [f"replace {name} => {name} {published}" for name in staging]
    return "\n".join(lines) + "\n"


def _published_go_mod(go: Path, program: Program) -> str:
    with tempfile.TemporaryDirectory() as folder:
        asked = [str(go), "mod", "download", "-json", f"{program.module}@{program.version}"]
        told = subprocess.run(asked, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
        try:
            return Path(json.loads(told.stdout)["GoMod"]).read_text()
        except (ValueError, KeyError, OSError):
            raise TestbedError(f"cannot fetch {program.module}: {_why(told.stdout + told.stderr)}") from None


def _run(command: list[str], folder: Path, name: str, say: Say) -> None:
    began = time.monotonic()
    log = folder / "log"
    with log.open("w") as output:
        try:
            compiler = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=output, stderr=output)
        except OSError as error:
            raise TestbedError(f"cannot run {command[0]}: {error.strerror}") from None
        try:
            while True:
                try:
                    code = compiler.wait(_SIGN_OF_LIFE)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  still building {name}, {time.monotonic() - began:.0f} s")
        finally:
            if compiler.poll() is None:
                compiler.terminate()
                compiler.wait()
    if code:
        raise TestbedError(f"cannot build {name}: {_why(log.read_text(errors='replace'))}")


def _why(output: str) -> str:
    """The line of a compiler's output that says what is wrong: the last one that is not just progress."""
    told = [line.strip() for line in output.splitlines() if line.strip(" {}\t")]
    grave = [line for line in told if not re.match(r"(go: (downloading|finding|added|upgraded)|#)", line)]
    return (grave or told or ["no output"])[-1]


def _environment() -> dict[str, str]:
    # GOFLAGS of the machine could ask for vendoring; a go.work nearby would take over the module.
    ours = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    return {**os.environ, **ours}


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
