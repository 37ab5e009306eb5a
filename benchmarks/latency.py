"""How soon a change in the cluster is told of: from before the write to the line that says it."""

import json
import threading
import time
from collections.abc import Iterator
from statistics import quantiles

from benchmarks import changes, filling, programs, shop
from benchmarks.cluster import Bench
from benchmarks.programs import Started
from benchmarks.table import Row, memory
from benchmarks.watching import PEAK
from infra.testbed.api import STRATEGIC, Object
from infra.testbed.control_plane import wait_until

RATE = 50.0  # changes a second
LIMITS = {50: 0.2, 99: 1.0}  # seconds, by percentile
_BROKEN_SECONDS = 4.0  # how long a pod stays broken: no object may speak much more often than once a second


class Changes:
    """Kills containers for lack of memory and mends them, each pod by turns, and hears when that is told of."""

    def __init__(self, bench: Bench, rate: float = RATE) -> None:
        self._bench, self._rate = bench, rate
        self._sent: dict[tuple[str, bool], float] = {}
        self._delays: list[float] = []
        self.made: dict[tuple[str, bool], float] = {}  # when each was made last

    def make(self) -> list[float]:
        """The delays' percentiles. Raises TestbedError unless every change is told of."""
        self._sent, self._delays = {}, []
        rate = changes.at_rate(self._rate, self._bench.seconds, self._change)
        if rate < 0.95 * self._rate:
            raise RuntimeError(f"this machine makes only {rate:.0f} changes a second")
        wait_until("every change is told of", lambda: not self._sent, 30)
        return [0.0, *quantiles(self._delays, n=100)]

    def line(self, line: bytes, at: float) -> None:
        """Hears one finding."""
        finding = json.loads(line)
        self._told(finding["incident"]["root"]["name"], finding["transition"] == "opened", at)

    def event(self, pod: Object, at: float) -> None:
        """Hears one pod of a WATCH."""
        waiting = any("waiting" in each["state"] for each in pod["status"]["containerStatuses"])
        self._told(pod["metadata"]["name"], waiting, at)

    def _told(self, name: str, broken: bool, at: float) -> None:
        begun = self._sent.pop((name, broken), None)
        if begun is not None:
            self._delays.append(at - begun)

    def _change(self, number: int) -> None:
        lone = self._bench.size.lone
        turn, mends = divmod(number, 2)
        lag = min(lone // 2, round(self._rate / 2 * _BROKEN_SECONDS))
        if mends:
            turn -= lag
        # First nothing is broken yet that could be mended, and in the end nothing is to stay broken.
        if not 0 <= turn < self._rate / 2 * self._bench.seconds - lag:
            return
        name, path = filling.lone_name(turn % lone), filling.lone_path(turn % lone)
        container = shop.running() if mends else shop.killed(changes.now())
        self._sent[name, not mends] = self.made[name, not mends] = time.perf_counter()
        self._bench.plane.api.patch_status(path, {"status": {"containerStatuses": [container]}}, STRATEGIC)


def latency(bench: Bench) -> Iterator[Row]:
    """Without holds and nothing kept open, against a plain WATCH that only hears of the pod."""
    made = Changes(bench)
    # It ends with the cluster's API server, or with us.
    threading.Thread(target=_watch, args=(bench, made), daemon=True).start()
    plain = made.make()
    with Started(programs.python("kubewhy", "run", "--no-hold", "--kubeconfig", bench.reader), made.line) as run:
        run.settle()
        told = made.make()
        yield memory("kubewhy run, after that", run.peak(), PEAK)
    for percentile, limit in LIMITS.items():
        seconds, bare = told[percentile], plain[percentile]
        yield Row(
            f"API write to finding, p{percentile}",
            f"{seconds * 1000:.0f} ms",
            f"{seconds / bare:.0f} x a plain WATCH ({bare * 1000:.0f} ms)",
            f"under {limit * 1000:.0f} ms",
            seconds < limit,
        )


def _watch(bench: Bench, made: Changes) -> None:
    path = "/api/v1/pods"
    version = bench.plane.api.get(path, limit=1)["metadata"]["resourceVersion"]
    for event in bench.plane.api.watch(path, resourceVersion=version, timeoutSeconds=round(bench.seconds) + 5):
        made.event(event["object"], time.perf_counter())
