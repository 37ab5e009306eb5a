"""A pod on its node that has not started: its volumes, its network, or something untold.

The state says that it has not; Events, while they are kept, say which step failed.
"""

from datetime import datetime

from analyzers.containers import CONCEPTS, CONFIG_MISSING, DEBUG
from analyzers.messages import missing_account, missing_config, short
from kubewhy.contracts import Rule, minutes, seconds
from kubewhy.kube.core import WAITS_ITS_TURN, ContainerStatus, Event, Pod
from kubewhy.kube.meta import condition
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

VOLUME_MOUNT = Rule(
    "pod-volume-mount",
    Severity.CRITICAL,
    "A volume cannot be mounted",
    why="The pod does not start: its containers wait until every volume is mounted.",
    look="Check the volume's source and options against the error, then the storage driver's pod on that node.",
    hold=minutes(3),
    docs=CONCEPTS + "storage/volumes/",
)
VOLUME_ATTACH = Rule(
    "pod-volume-attach",
    Severity.CRITICAL,
    "A volume cannot be attached to the node",
    why="The pod waits for its disk and does not start, as often after a move from another node.",
    look="See which node still holds the volume (VolumeAttachments), and whether the old pod there is gone.",
    hold=minutes(3),
    docs=CONCEPTS + "storage/persistent-volumes/#access-modes",
)
SANDBOX = Rule(
    "pod-sandbox",
    Severity.CRITICAL,
    "The pod's sandbox or network cannot be made",
    why="None of its containers can start, and other new pods on that node are likely to fail as well.",
    look="Look at the network plugin's pod on that node (addresses used up?), then at the runtime's log.",
    hold=minutes(3),
    docs=CONCEPTS + "extend-kubernetes/compute-storage-net/network-plugins/",
)
SERVICE_ACCOUNT = Rule(
    "pod-service-account-missing",
    Severity.CRITICAL,
    "The pod's service account does not exist",
    why="The pod does not start: without the account there is no token to mount.",
    look="Create the service account, or correct spec.serviceAccountName in the workload.",
    hold=seconds(30),
    docs="https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/",
)
START_STUCK = Rule(
    "pod-start-stuck",
    Severity.WARNING,
    "The pod does not start, and nothing says why",
    why="The pod does no work, and nothing tells what it waits for.",
    look="Check the node's kubelet and runtime: do other new pods start there, is a large image being pulled?",
    hold=minutes(3),
    normal_at_first=True,
    docs=DEBUG + "debug-pods/#my-pod-stays-waiting",
)

RULES = (VOLUME_MOUNT, VOLUME_ATTACH, SANDBOX, SERVICE_ACCOUNT, START_STUCK)

# An image may be large, and a node that pulls one says no more than that.
PULL = minutes(10)

VOLUMES = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
SANDBOXES = ("FailedCreatePodSandBox", "NetworkNotReady", "FailedCreatePodContainer", "FailedPrepareDynamicResources")
LATER = ("Pulling", "Pulled", "Created", "Started")
REASONS = (*VOLUMES, *SANDBOXES, *LATER, "SuccessfulAttachVolume")


def start_failure(pod: Pod, related: Related) -> Failure | None:
    """Why a pod on its node has not started, where none of its containers has a reason of its own."""
    sandbox = condition(pod.status.conditions, "PodReadyToStartContainers")
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    if pod.status.phase == "Running":
        # After a node's restart a running pod needs a new sandbox.
        if sandbox and sandbox.status == "False" and any(each.state.waiting for each in statuses):
            told = related.newest_event(*VOLUMES, *SANDBOXES)
            return _told(pod, related, told, sandbox.last_transition_time) if told else None
        return None
    if pod.status.phase != "Pending" or not pod.spec.node_name or not all(_quiet(each) for each in statuses):
        return None
    step = related.newest_event(*VOLUMES, *SANDBOXES, *LATER)
    # With its sandbox there, or a container run, volumes and network are behind it.
    begun = (sandbox is not None and sandbox.status == "True") or any(_has_run(each) for each in statuses)
    if step and not begun and step.reason not in LATER:
        return _told(pod, related, step, _assigned(pod))
    words, hold = "on its node, and its containers do not start", PULL
    if step and step.reason == "Pulling":
        words = f"still {short(step.message[:1].lower() + step.message[1:])}"
    elif not statuses and not pod.status.start_time:
        words, hold = f"on node {pod.spec.node_name}, which has not begun with it", START_STUCK.hold
    elif sandbox and sandbox.status == "False" and not begun:
        # Before its sandbox is there, nothing is pulled.
        words, hold = "on its node, and has neither its volumes nor its sandbox yet", START_STUCK.hold
    return START_STUCK.failure(f"the pod is {words}", since=_initialized(pod) or _assigned(pod), hold=hold)


def _quiet(status: ContainerStatus) -> bool:
    """Whether it is only waited for."""
    waiting, ended = status.state.waiting, status.state.terminated
    return (waiting is None or waiting.reason in WAITS_ITS_TURN) and (ended is None or ended.exit_code == 0)


def _has_run(status: ContainerStatus) -> bool:
    return bool(status.state.running or status.state.terminated or status.last_state.terminated)


def _assigned(pod: Pod) -> datetime | None:
    """When it came to its node."""
    scheduled = condition(pod.status.conditions, "PodScheduled")
    at = scheduled.last_transition_time if scheduled and scheduled.status == "True" else None
    return at or pod.status.start_time or pod.created


def _initialized(pod: Pod) -> datetime | None:
    """When its init containers were done, if it has any."""
    done = condition(pod.status.conditions, "Initialized")
    return done.last_transition_time if pod.spec.init_containers and done and done.status == "True" else None


def _told(pod: Pod, related: Related, step: Event, since: datetime | None) -> Failure:
    """The step that fails by its events: the cause among them, not the newest, which may be its echo."""
    if step.reason in SANDBOXES:
        reason = "network" if _network(step) else "sandbox"
        if step.reason == "FailedPrepareDynamicResources":
            reason = "devices"
        return SANDBOX.failure(f"the pod cannot be set up: {short(step.message)}", since=since, reason=reason)
    mounts = list(related.events("FailedMount", "FailedMapVolume"))
    sources = _sources(pod)
    for event in mounts:
        if missing := missing_config(event.message, pod.namespace, sources):
            reason, words, cause = missing
            return CONFIG_MISSING.failure(
                f"a volume cannot be mounted: {words}", since=since, reason=reason, cause=cause
            )
        if account := missing_account(event.message):
            cause = Ref("ServiceAccount", account, pod.namespace)
            return SERVICE_ACCOUNT.failure(f"service account {account} does not exist", since=since, cause=cause)
    attach = related.newest_event("FailedAttachVolume", "SuccessfulAttachVolume")
    if attach and attach.reason == "FailedAttachVolume":
        reason = "in-use" if "Multi-Attach" in attach.message else ""
        return VOLUME_ATTACH.failure(short(attach.message), since=since, reason=reason)
    # "Timed out waiting" only says that some other step has failed.
    told = next((event for event in mounts if "timed out waiting for the condition" not in event.message), step)
    return VOLUME_MOUNT.failure(short(told.message), since=since)


def _network(event: Event) -> bool:
    text = event.message.lower()
    return event.reason == "NetworkNotReady" or "network" in text or "cni" in text


def _sources(pod: Pod) -> dict[str, Ref]:
    """What its volumes are made from, by the volume's name."""
    sources: dict[str, Ref] = {}
    for volume in pod.spec.volumes:
        if volume.secret:
            sources[volume.name] = Ref("Secret", volume.secret.secret_name, pod.namespace)
        elif volume.config_map:
            sources[volume.name] = Ref("ConfigMap", volume.config_map.name, pod.namespace)
    return sources
