"""How pods come up, well or slowly: pkg/kubelet/kuberuntime/kuberuntime_container.go, startContainer."""

from collections.abc import Iterator

from infra.testbed.kubelet.container import Container
from infra.testbed.kubelet.pod import Pod


def create(pod: Pod, *, networked: bool = True) -> Iterator[float]:
    """The pod is on its node; nothing runs yet."""
    for init in pod.inits:
        init.wait("PodInitializing")
    for container in pod.containers:
        container.wait("PodInitializing" if pod.inits else "ContainerCreating")
    yield 0.3
    pod.networked = networked


def initialize(pod: Pod) -> Iterator[float]:
    """Init containers in turn; sidecars stay."""
    for init in pod.inits:
        launch(pod, init)
        yield 0.3
        if not init.sidecar:
            init.end(0)
            # A finished init container counts as ready.
            init.ready = True
    for container in pod.containers if pod.inits else ():
        container.wait("PodInitializing")


def launch(pod: Pod, container: Container, *, ready: bool = True, started: bool = True) -> None:
    image = f'Container image "{container.image}" already present on machine and can be accessed by the pod'
    pod.tell("Pulled", image, container)
    pod.tell("Created", "Container created", container)
    pod.tell("Started", "Container started", container)
    container.run(ready=ready, started=started)


def come_up(pod: Pod) -> Iterator[float]:
    """Everything runs and is ready, but for the container that the play is about, which still waits."""
    yield from create(pod)
    yield from initialize(pod)
    for container in pod.containers:
        if container is not pod.app:
            launch(pod, container)


def run(pod: Pod) -> Iterator[float]:
    """All is well. Also heals a pod that played something else."""
    yield from create(pod)
    yield from initialize(pod)
    yield 0.3
    for container in pod.containers:
        launch(pod, container)


def slow_start(pod: Pod) -> Iterator[float]:
    """Ready only after a while: annotation kubewhy.dev/seconds."""
    yield from come_up(pod)
    launch(pod, pod.app, ready=False)
    yield pod.number("seconds", 20)
    pod.app.ready = True


def readiness_gate(pod: Pod) -> Iterator[float]:
    """The containers are ready; the pod waits for a condition that somebody else should set."""
    yield from run(pod)
