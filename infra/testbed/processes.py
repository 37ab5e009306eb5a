"""Starts programs that cannot outlive us, and stops exactly those."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra.testbed.errors import TestbedError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# The kernel ties a child's life to the thread that started it, not to the process. Tests start things from
# short-lived worker threads, so every start goes through this one, which lives as long as we do.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testbed-starter")


class Process:
    """One program with its log file. It can be ended, started again and frozen."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, folder: Path | None = None) -> None:
        self.name = name
        self.log = log
        self._folder = folder
        self._command = [str(part) for part in command]
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        if not self.running:
            self._popen = _starter.submit(self._start).result()

    def signal(self, number: signal.Signals) -> None:
        if self._popen and self.running:
            self._popen.send_signal(number)

    def stop(self, patience_seconds: float = 5.0) -> None:
        """Asks, then insists."""
        if not self._popen:
            return
        # A frozen process cannot hear that it should end.
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._popen.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._popen:
            self._popen.wait()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Raises TestbedError with the end of the log if it dies first, or does not get there."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.running:
                raise TestbedError(f"{self.name} ended at its start: {self.last_words()} ({self.log})")
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"{self.name} is not ready after {timeout_seconds:.0f} s: {self.last_words()} ({self.log})"
                )
            time.sleep(0.05)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        # Usage texts and stack traces follow the line that matters.
        grave = [line for line in lines if line.startswith(("E", "F", "Error", "error", "panic"))]
        return ([*lines, *grave] or ["it said nothing"])[-1][:500]

    def _start(self) -> "subprocess.Popen[bytes]":
        parent = os.getpid()

        def die_with_parent() -> None:
            if _libc is not None:
                _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)

        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                # Ctrl-C is for us; we end the others in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now. All are held until all are chosen, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
