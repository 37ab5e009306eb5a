"""The plays, by the name that a pod's label gives."""

from collections.abc import Callable, Iterator

from infra.testbed.kubelet.pod import Pod


def run(pod: Pod) -> Iterator[float]:
    """Starts, and is ready for ever."""
    pod.networked = True
    for container in (*pod.inits, *pod.containers):
        container.run()
    yield 3600


def crash(pod: Pod) -> Iterator[float]:
    """Dies a second after each start. Messages as in pkg/kubelet/kuberuntime/kuberuntime_manager.go, doBackOff."""
    pod.networked = True
    back_off = 10
    while True:
        pod.app.run()
        yield 1
        pod.app.end(1)
        yield 1
        told = f"back-off {back_off}s restarting failed container={pod.app.name} pod={pod.full_name}"
        pod.app.wait("CrashLoopBackOff", told)
        pod.warn("BackOff", f"Back-off restarting failed container {pod.app.name} in pod {pod.full_name}", pod.app)
        yield back_off
        back_off = min(back_off * 2, 300)


PLAYS: dict[str, Callable[[Pod], Iterator[float]]] = {"run": run, "crash": crash}
