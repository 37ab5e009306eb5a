"""`kubewhy run` and `kubewhy record` on a real cluster: whatever happens to them, in the end they tell what is so."""

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from benchmarks import changes, filling, shop
from infra.testbed.control_plane import ControlPlane
from tests.live.audited import audited, granted
from tests.live.cli import KUBEWHY, analyze, kubewhy

pytestmark = pytest.mark.live

SIZE = filling.Size(pods=20 * filling.PER_APP + 120, nodes=10, lone=120)
PER_SECOND = 100
KILLED = 20
Broken = set[tuple[Any, Any, str]]


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


def open_failures(lines: str) -> Broken:
    """What is open after these findings: root, object and rule."""
    newest = {finding["incident"]["id"]: finding["incident"] for finding in map(json.loads, lines.splitlines())}
    return {
        (named(each["root"]), named(told["object"]), told["rule"])
        for each in newest.values()
        if each["state"] == "open"
        for told in each["failures"]
    }


def analyzed(report: dict[str, Any]) -> Broken:
    return {
        (named(each["root"]), named(each), told["rule"]) for each in report["diagnoses"] for told in each["failures"]
    }


def named(told: dict[str, Any]) -> tuple[str, str, str]:
    return told["kind"], told.get("namespace") or "", told["name"]


class Churn:
    """A hundred changes a second, until told to stop: pods break in every way, recover, go and come."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane, self._over = plane, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done = 0

    def __enter__(self) -> "Churn":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            changes.at_rate(PER_SECOND, 1.0, partial(self._change, self.done))
            self.done += PER_SECOND

    def _change(self, begun: int, number: int) -> None:
        number += begun
        lap, place = divmod(number, SIZE.lone)
        if number % 2:
            changes.turn(self._plane.api, SIZE.apps, number // 2)
            return
        troubles: Sequence[str | None] = (*shop.TROUBLES, None)
        status = shop.pod(troubles[(lap + place) % len(troubles)])["status"]
        path = filling.lone_path(place)
        if (lap + place) % 9 == 0:
            document = self._plane.api.get(path)
            del document["metadata"]["resourceVersion"], document["metadata"]["uid"]
            self._plane.api.delete(path, grace=0)
            self._plane.api.create(document)
        self._plane.api.patch_status(path, {"status": status})


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
