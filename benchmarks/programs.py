"""Runs a program of its own, and says what it took."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import PIPE
from tempfile import NamedTemporaryFile

ROOT = Path(__file__).parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Took:
    """`peak` is the largest resident set, in MiB. Times are in seconds."""

    wall: float
    cpu: float
    peak: float
    output: bytes


def python(*arguments: str | Path) -> list[str]:
    """The command line of one of our own modules, in this interpreter."""
    return [sys.executable, "-m", *map(str, arguments)]


def run(command: Sequence[str]) -> Took:
    """Runs it to its end, which must be a good one."""
    with NamedTemporaryFile(mode="r") as told:
        output = subprocess.run([*python("benchmarks.launch", told.name), *command], stdout=PIPE, cwd=ROOT, check=True)
        wall, cpu, peak = map(float, told.read().split())
    return Took(wall, cpu, peak, output.stdout)


def in_turn(commands: Sequence[Sequence[str]], times: int) -> list[list[Took]]:
    """Each so many times, by turns, so that what slows the machine for a while slows them all."""
    rounds = [[run(command) for command in commands] for _ in range(times)]
    return [list(each) for each in zip(*rounds, strict=True)]


def middle(runs: Sequence[Took]) -> float:
    """The median of their wall times."""
    return median(each.wall for each in runs)


class Started:
    """A program that runs until the `with` ends. Each line it prints is given on as it comes."""

    def __init__(self, command: Sequence[str], hear: Callable[[bytes, float], None] = lambda line, at: None) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        self._folder = Path(f"/proc/{self._process.pid}")
        self._hear = hear
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Started":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reader.join()

    def cpu(self) -> float:
        """Seconds of processor time, user and system, so far (proc(5), fields 14 and 15 of stat)."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak(self) -> float:
        """The largest resident set so far, in MiB."""
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def settle(self) -> None:
        """Until it has read the cluster, said what it found, and waits for changes."""
        before = -1.0
        while (now := self.cpu()) - before > 0.05 or now < 1.0:
            if self._process.poll() is not None:
                raise RuntimeError(f"{' '.join(self._process.args)} has ended")  # type: ignore[arg-type]
            before = now
            time.sleep(2.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(line, time.perf_counter())
