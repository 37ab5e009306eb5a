"""Runs kubewhy with an environment of its own, and holds all that it says to what must always be so."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.testbed.control_plane import ControlPlane
from tests.live.cli import KUBEWHY

BARE = {"PATH": os.defpath, "HOME": "/nonexistent"}


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """All that is on stderr, which is one line."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        return self.err.rstrip("\n")

    def check(self, secrets: tuple[str, ...]) -> "Said":
        everything = self.out + self.err
        assert "Traceback" not in everything, everything[-2000:]
        assert "this is a bug" not in everything, everything[-2000:]
        assert {letter for letter in everything if not letter.isprintable()} <= {"\n"}, repr(everything[-2000:])
        assert not [secret for secret in secrets if secret in everything]
        return self


@dataclass(frozen=True)
class Shell:
    """Where commands are run, and the words that none of them may ever print."""

    secrets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: BARE)

    @staticmethod
    def of(plane: ControlPlane, *secrets: str) -> "Shell":
        tokens = (line.split(",")[0] for line in (plane.directory / "tokens.csv").read_text().splitlines())
        return Shell((*tokens, *secrets))

    def run(self, *args: str | Path, timeout: float = 60, env: Mapping[str, str] | None = None, **options: Any) -> Said:
        """One command to its end."""
        done = subprocess.run(
            [KUBEWHY, *args],
            env={**self.environment, **(env or {})},
            timeout=timeout,
            check=False,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        return Said(done.returncode, _text(done.stdout), _text(done.stderr)).check(self.secrets)

    def begin(self, folder: Path, *args: str | Path, **options: Any) -> "Running":
        return Running(self, folder, args, options)


class Running:
    """A command that goes on. As a context manager it is killed at the end, if it has not ended by then."""

    def __init__(self, shell: Shell, folder: Path, args: tuple[str | Path, ...], options: dict[str, Any]) -> None:
        self._shell = shell
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
            self.process = subprocess.Popen([KUBEWHY, *args], env=shell.environment, **{**streams, **options})

    @property
    def out(self) -> str:
        return _text(self._out.read_bytes())

    @property
    def err(self) -> str:
        return _text(self._err.read_bytes())

    def until(self, true: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, (self.out[-1000:], self.err[-2000:])
            time.sleep(0.02)

    def end(self, *signals: signal.Signals, seconds: float = 15) -> Said:
        """What it has said when it has ended, which signals may bring about."""
        for number in signals:
            self.process.send_signal(number)
        status = self.process.wait(seconds)
        return Said(status, self.out, self.err).check(self._shell.secrets)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def _text(written: bytes | None) -> str:
    return (written or b"").decode(errors="surrogateescape")
