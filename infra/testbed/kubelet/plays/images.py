"""Images that do not arrive: pkg/kubelet/images/image_manager.go, pullImage; the texts after it are containerd's."""

from collections.abc import Callable, Iterator

from infra.testbed.kubelet.plays.starting import come_up
from infra.testbed.kubelet.pod import Pod

_MISSING = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to resolve reference '
    '"{image}": {image}: not found'
)
_DENIED = (
    'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to resolve reference '
    '"{image}": failed to authorize: failed to fetch anonymous token: unexpected status from GET request: '
    "401 Unauthorized"
)


def _pull(template: str) -> Callable[[Pod], Iterator[float]]:
    def play(pod: Pod) -> Iterator[float]:
        yield from come_up(pod)
        image, app = pod.app.image, pod.app
        error = template.format(image=image)
        while True:
            pod.tell("Pulling", f'Pulling image "{image}"', app)
            yield 0.5
            pod.warn("Failed", f'Failed to pull image "{image}": {error}', app)
            pod.warn("Failed", "Error: ErrImagePull", app)
            app.wait("ErrImagePull", error)
            yield 2.0
            pod.tell("BackOff", f'Back-off pulling image "{image}"', app)
            pod.warn("Failed", "Error: ImagePullBackOff", app)
            app.wait("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            yield pod.number("back-off", 5)

    return play


missing = _pull(_MISSING)
denied = _pull(_DENIED)


def invalid_name(pod: Pod) -> Iterator[float]:
    """A name that no registry could have: applyDefaultImageTag fails before anything is pulled."""
    yield from come_up(pod)
    message = (
        f'Failed to apply default image tag "{pod.app.image}": couldn\'t parse image name "{pod.app.image}": '
        "invalid reference format"
    )
    while True:
        pod.warn("InspectFailed", message, pod.app)
        pod.warn("Failed", "Error: InvalidImageName", pod.app)
        pod.app.wait("InvalidImageName", message)
        yield pod.number("back-off", 5)


def never_present(pod: Pod) -> Iterator[float]:
    """imagePullPolicy Never, and the node does not have it."""
    yield from come_up(pod)
    message = f'Container image "{pod.app.image}" is not present with pull policy of Never'
    while True:
        pod.warn("ErrImageNeverPull", message, pod.app)
        pod.warn("Failed", "Error: ErrImageNeverPull", pod.app)
        pod.app.wait("ErrImageNeverPull", message)
        yield pod.number("back-off", 5)
