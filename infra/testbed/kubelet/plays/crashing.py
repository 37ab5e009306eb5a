"""Containers that end: pkg/kubelet/kuberuntime/kuberuntime_manager.go, doBackOff; the runtime's exit codes."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from infra.testbed.kubelet.container import Container
from infra.testbed.kubelet.plays.starting import come_up, create, launch
from infra.testbed.kubelet.pod import Pod

_NO_SUCH_FILE = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: error during container init: exec: "{}": executable file not found in $PATH'
    ": unknown"
)


def back_off(pod: Pod, container: Container) -> float:
    """Waits in CrashLoopBackOff. What is said follows the kubelet: 10 s, doubled up to 5 min; what is waited is
    at most the annotation kubewhy.dev/back-off, 5 s unless told."""
    seconds = min(10 << min(container.restarts, 5), 300)
    minutes, rest = divmod(seconds, 60)
    told = f"{minutes}m{rest}s" if minutes else f"{rest}s"
    message = f"back-off {told} restarting failed container={container.name} pod={pod.full_name}"
    container.wait("CrashLoopBackOff", message)
    pod.warn("BackOff", f"Back-off restarting failed container {container.name} in pod {pod.full_name}", container)
    return min(seconds, pod.number("back-off", 5))


def crash(code: int = 1, reason: str | None = None, message: str = "") -> Callable[[Pod], Iterator[float]]:
    """Runs a little, ends, waits, and again. Where the pod restarts nothing, once."""

    def play(pod: Pod) -> Iterator[float]:
        yield from come_up(pod)
        while True:
            launch(pod, pod.app)
            yield pod.number("lives", 2)
            pod.app.end(code, reason, message)
            if pod.restarts_never or (code == 0 and pod.spec.get("restartPolicy") == "OnFailure"):
                return
            yield 1.0
            yield back_off(pod, pod.app)

    return play


def crash_running(pod: Pod) -> Iterator[float]:
    """Runs now, after many crashes, the newest of them just now."""
    yield from come_up(pod)
    pod.app.restarts = int(pod.number("restarts", 17)) - 1
    pod.app.ended_before(1, "Error", timedelta(seconds=40))
    launch(pod, pod.app)


def oom(pod: Pod) -> Iterator[float]:
    """Killed once for want of memory; runs again since."""
    yield from come_up(pod)
    launch(pod, pod.app)
    yield 2.0
    pod.app.end(137, "OOMKilled")
    yield 1.0
    launch(pod, pod.app)


def start_error(pod: Pod) -> Iterator[float]:
    """The runtime cannot start the command: RunContainerError, then the usual back-off."""
    command = (pod.spec["containers"][pod.containers.index(pod.app)].get("command") or ["/app/server"])[0]
    message = _NO_SUCH_FILE.format(command)
    yield from come_up(pod)
    while True:
        pod.tell("Created", "Container created", pod.app)
        pod.warn("Failed", f"Error: {message}", pod.app)
        if pod.app.last:
            pod.app.restarts += 1
        pod.app.wait("RunContainerError", message)
        yield 2.0
        pod.app.end(128, "StartError", message)
        yield 0.5
        yield back_off(pod, pod.app)


def hook_error(pod: Pod) -> Iterator[float]:
    """The hook after the start fails, and takes the container down with it."""
    yield from come_up(pod)
    app = pod.app
    message = (
        f'Exec lifecycle hook ([/bin/sh -c /hooks/register]) for Container "{app.name}" in Pod '
        f"\"{pod.full_name}\" failed - error: command '/bin/sh -c /hooks/register' exited with 1: "
        ', message: ""'
    )
    while True:
        launch(pod, app, ready=False)
        pod.warn("FailedPostStartHook", "PostStartHook failed", app)
        pod.tell("Killing", "FailedPostStartHook", app)
        yield 0.5
        app.end(137)
        app.wait("PostStartHookError", message)
        yield 2.0
        yield back_off(pod, app)


def init_crash(pod: Pod) -> Iterator[float]:
    """The first init container fails, again and again; nothing else gets a turn."""
    yield from create(pod)
    init = pod.inits[0]
    while True:
        launch(pod, init, ready=False)
        yield 2.0
        init.end(1)
        if pod.restarts_never:
            return
        yield 1.0
        yield back_off(pod, init)


def init_stuck(pod: Pod) -> Iterator[float]:
    """The first init container waits for something that never comes."""
    yield from create(pod)
    launch(pod, pod.inits[0], ready=False)
