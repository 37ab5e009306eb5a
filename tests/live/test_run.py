"""`kubewhy run` and `kubewhy record` on a real cluster: whatever happens to them, in the end they tell what is so."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from benchmarks import filling
from infra.testbed.control_plane import ControlPlane
from tests.live.audited import audited, granted
from tests.live.churn import PER_SECOND, SIZE, Churn, analyzed, open_failures
from tests.live.cli import KUBEWHY, analyze, kubewhy

pytestmark = pytest.mark.live

KILLED = 20


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        filling.fill(plane, SIZE)
        yield plane


@pytest.fixture(scope="module")
def kubeconfig(plane: ControlPlane) -> Path:
    return granted(plane)


def begin(kubeconfig: Path, *args: str, out: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    command: list[str | Path] = [KUBEWHY, "run", "-o", "json", "--no-hold", "--kubeconfig", kubeconfig, *args]
    return subprocess.Popen(command, stdout=out, text=True)


def test_killed_twenty_times_amid_changes_it_ends_up_with_the_truth(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path
) -> None:
    chance, files = random.Random(7), [tmp_path / "steady", tmp_path / "last"]
    # A machine that stands still for seconds must not seem to be idle.
    steady = begin(kubeconfig, "--until-idle", "20", out=files[0].open("w"))
    with Churn(plane) as churn:
        for _ in range(KILLED):
            with begin(kubeconfig) as doomed:
                assert doomed.stdout is not None
                doomed.stdout.readline()  # it is at work
                time.sleep(chance.uniform(0.0, 1.0))
                doomed.kill()
            assert doomed.returncode == -signal.SIGKILL
    last = begin(kubeconfig, "--until-idle", "5", out=files[1].open("w"))
    truth = analyzed(analyze(kubeconfig, "--no-hold"))
    assert churn.done >= KILLED * PER_SECOND // 2
    assert len({rule for _, _, rule in truth}) >= 6
    for run, file in zip((steady, last), files, strict=True):
        assert run.wait(60) == 0
        assert open_failures(file.read_text()) == truth


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(kubeconfig: Path, number: signal.Signals) -> None:
    run = begin(kubeconfig)
    assert run.stdout is not None
    first = run.stdout.readline()
    run.send_signal(number)
    rest = run.stdout.read()  # communicate() would lose what was read ahead with the first line
    run.wait(20)
    assert run.returncode == 0
    assert all(json.loads(line)["schema"] == "kubewhy.finding/v1" for line in (first, *rest.splitlines()))


def test_a_recording_tells_what_the_cluster_told(kubeconfig: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop.kwrec"
    kubewhy("record", "--kubeconfig", kubeconfig, "--for", "0", file)
    assert file.stat().st_mode & 0o777 == 0o600
    live, replayed = (
        analyze(kubeconfig, "--no-hold"),
        json.loads(kubewhy("analyze", "--from", file, "--no-hold", "-o", "json").stdout),
    )
    assert analyzed(live) == analyzed(replayed) != set()
    assert live["summary"] == replayed["summary"]
    assert live["cluster"] == replayed["cluster"]
    run = kubewhy("run", "--from", file, "--no-hold", "-o", "json")
    assert open_failures(run.stdout) == analyzed(live)
