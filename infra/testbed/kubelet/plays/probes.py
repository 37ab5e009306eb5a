"""Probes that fail: pkg/kubelet/prober/prober.go, probe; pkg/probe/http/http.go; what follows from it is
pkg/kubelet/kuberuntime/kuberuntime_manager.go, computePodActions."""

from collections.abc import Iterator

from infra.testbed.kubelet.plays.crashing import back_off
from infra.testbed.kubelet.plays.starting import come_up, launch, run
from infra.testbed.kubelet.pod import Pod

_PERIOD_SECONDS = 5.0
_ANSWER = "HTTP probe failed with statuscode: 503"


def readiness(pod: Pod) -> Iterator[float]:
    yield from come_up(pod)
    launch(pod, pod.app, ready=False)
    yield from _failing(pod)


def readiness_lost(pod: Pod) -> Iterator[float]:
    """Ready for a while, then no more. A pod that runs already has had its while."""
    if pod.document.get("status", {}).get("phase") == "Running":
        for _ in run(pod):
            pod.said.clear()
        pod.said.clear()
    else:
        yield from run(pod)
        yield 1.0
    pod.app.ready = False
    yield from _failing(pod)


def readiness_flaps(pod: Pod) -> Iterator[float]:
    """Ready and not by turns: annotations kubewhy.dev/ready and kubewhy.dev/unready, in seconds."""
    yield from run(pod)
    while True:
        pod.app.ready = True
        yield pod.number("ready", 45)
        pod.app.ready = False
        for _ in range(int(pod.number("unready", 75) // _PERIOD_SECONDS)):
            pod.warn("Unhealthy", f"Readiness probe failed: {_ANSWER}", pod.app)
            yield _PERIOD_SECONDS


def _failing(pod: Pod) -> Iterator[float]:
    while True:
        yield 2.0
        pod.warn("Unhealthy", f"Readiness probe failed: {_ANSWER}", pod.app)


def liveness(pod: Pod) -> Iterator[float]:
    yield from _killed(pod, "liveness", started=True)


def startup(pod: Pod) -> Iterator[float]:
    yield from _killed(pod, "startup", started=False)


def _killed(pod: Pod, probe: str, *, started: bool) -> Iterator[float]:
    yield from come_up(pod)
    app = pod.app
    while True:
        launch(pod, app, ready=started, started=started)
        for _ in range(3):
            yield 1.0
            pod.warn("Unhealthy", f"{probe.capitalize()} probe failed: {_ANSWER}", app)
        pod.tell("Killing", f"Container {app.name} failed {probe} probe, will be restarted", app)
        yield 0.5
        app.end(137)
        # The first restarts follow at once; then the kubelet begins to wait.
        if app.restarts >= 2:
            yield 0.5
            yield back_off(pod, app)
