"""What the node does to a pod: no volume, no network, no room."""

from collections.abc import Iterator

from infra.testbed.kubelet.plays.starting import create, run
from infra.testbed.kubelet.pod import Pod, Said

_NO_NETWORK = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "
    '"{sandbox}": plugin type="calico" failed (add): error getting ClusterInformation: connection is unauthorized: '
    "Unauthorized"
)


def attach_failed(pod: Pod) -> Iterator[float]:
    """pkg/controller/volume/attachdetach/reconciler/reconciler.go, reportMultiAttachError: a controller's word."""
    yield from create(pod, networked=False)
    claims = (
        each["persistentVolumeClaim"]["claimName"] for each in pod.spec["volumes"] if "persistentVolumeClaim" in each
    )
    claim = pod.lookup(f"/api/v1/namespaces/{pod.namespace}/persistentvolumeclaims/{next(claims)}") or {}
    volume = claim.get("spec", {}).get("volumeName", "")
    message = (
        f'Multi-Attach error for volume "{volume}" Volume is already exclusively attached to one node and '
        "can't be attached to another"
    )
    while True:
        pod.said.append(Said("Warning", "FailedAttachVolume", message, component="attachdetach-controller"))
        yield 3.0


def mount_refused(pod: Pod) -> Iterator[float]:
    """pkg/volume/util/operationexecutor/operation_generator.go; what follows the colon is mount(8)'s."""
    yield from create(pod, networked=False)
    volume = next(each["name"] for each in pod.spec["volumes"] if "persistentVolumeClaim" in each)
    message = (
        f'MountVolume.SetUp failed for volume "{volume}" : mount failed: exit status 32\n'
        "Mounting command: mount\nOutput: mount.nfs: access denied by server while mounting files.example.com:/shop\n"
    )
    while True:
        pod.warn("FailedMount", message)
        yield 3.0


def resize_infeasible(pod: Pod) -> Iterator[float]:
    """pkg/kubelet/allocation/allocation_manager.go, canResizePod: more than the node has at all."""
    yield from run(pod)
    message = "Node didn't have enough capacity: cpu, requested: 64000, capacity: 16000"
    pod.extra_conditions = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": message}]
    yield 0.0


def sandbox_failed(pod: Pod) -> Iterator[float]:
    """pkg/kubelet/kuberuntime/kuberuntime_manager.go, SyncPod; what follows the colon is the plugin's."""
    yield from create(pod, networked=False)
    while True:
        pod.warn("FailedCreatePodSandBox", _NO_NETWORK.format(sandbox=pod.uid.replace("-", "") * 2))
        yield 3.0


def evicted(pod: Pod) -> Iterator[float]:
    """pkg/kubelet/eviction/eviction_manager.go, evictPod. The pod that replaces it is left in peace."""
    yield from run(pod)
    if not pod.first_of_its_owner():
        return
    yield 1.0
    message = (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 61692Ki. "
        f"Container {pod.app.name} was using 2741916Ki, request is 0, has larger consumption of memory. "
    )
    pod.warn("Evicted", message)
    for container in pod.containers:
        pod.tell("Killing", f"Stopping container {container.name}", container)
        container.end(137)
    pod.failure = ("Evicted", message)
    target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message}
    pod.extra_conditions = [target]


def rejected(pod: Pod) -> Iterator[float]:
    """pkg/kubelet/kubelet.go, rejectPod: another pod was faster. Its replacement finds room."""
    if not pod.first_of_its_owner():
        yield from run(pod)
        return
    message = "Node didn't have enough resource: cpu, requested: 4000, used: 15200, capacity: 16000"
    pod.warn("OutOfcpu", message)
    pod.containers, pod.inits = [], []
    pod.failure = ("OutOfcpu", f"Pod was rejected: {message}")
    yield 0.0
