"""Nodes that cannot run pods, or soon cannot, and why."""

import re
from collections.abc import Iterator
from datetime import timedelta

from analyzers.deletion import stuck, stuck_rule
from kubewhy.contracts import Analyzer, Need, Rule, minutes
from kubewhy.kube.core import Node
from kubewhy.kube.meta import Condition, condition
from kubewhy.records import Failure, Severity
from kubewhy.related import Related

NOT_READY = Rule(
    "node-not-ready",
    Severity.CRITICAL,
    "The node is not ready",
    why="Its pods drop out of their services; after minutes most come up elsewhere, but not those of stateful sets.",
    look="Check that the machine is up and reachable, then the logs of its kubelet and container runtime.",
    hold=minutes(1),
    docs="https://kubernetes.io/docs/reference/node/node-status/#condition",
)
PRESSURE = Rule(
    "node-pressure",
    Severity.WARNING,
    "The node runs short of a resource",
    why="The node evicts pods to save itself, and takes few or no new ones meanwhile.",
    look="See what uses most of that resource there: pods without limits, images, logs or the system itself.",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/",
)
NETWORK = Rule(
    "node-network-unavailable",
    Severity.WARNING,
    "The node has no pod network",
    why="No new pod is put on it, and those that it has may not reach the others.",
    look="Look at the network plugin's pod on that node, or at the cloud's routes where these make the network.",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/reference/node/node-status/#condition",
)
PROBLEM = Rule(
    "node-problem",
    Severity.WARNING,
    "The node's own monitor found a fault",
    why="Pods on it may hang, lose data or fail in odd ways, though the node may count as ready.",
    look="Read the node's kernel and system log from the onset on; drain it if it needs repair or a reboot.",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/tasks/debug/debug-cluster/monitor-node-health/",
)
SKEW = Rule(
    "node-version-skew",
    Severity.WARNING,
    "The kubelet's version does not go with the server's",
    why="Nobody tests this pair: features fail in odd ways, and the next upgrade may break the node.",
    look="Bring its kubelet to the server's minor version, or at most three behind it; never ahead of it.",
    hold=minutes(10),
    docs="https://kubernetes.io/releases/version-skew-policy/#kubelet",
)
DELETION_STUCK = stuck_rule(
    "node",
    "Its pods are not made anew elsewhere while it lingers, and its machine may still cost money.",
)

STARTING = minutes(5)  # a node that joins is not ready at first
SHUTTING_DOWN = "node is shutting down"  # in good order; it comes back, or is deleted
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
MINORS_BEHIND = 3  # https://kubernetes.io/releases/version-skew-policy/#kubelet

SHORT_OF = {"MemoryPressure": "memory", "DiskPressure": "disk space", "PIDPressure": "process ids"}

# Each may be set by anyone for any purpose: only types that are known to be bad when True are told.
PROBLEMS = {
    "KernelDeadlock": "the kernel is deadlocked",
    "ReadonlyFilesystem": "a filesystem has become read-only",
    "XfsShutdown": "an XFS filesystem has shut down",
    "FilesystemCorruptionProblem": "a filesystem is damaged",
    "CorruptDockerOverlay2": "the container storage is damaged",
    "CperHardwareErrorFatal": "the hardware reports a fatal error",
    "FrequentKubeletRestart": "the kubelet restarts again and again",
    "FrequentDockerRestart": "docker restarts again and again",
    "FrequentContainerdRestart": "containerd restarts again and again",
    "FrequentUnregisterNetDevice": "network devices cannot be released",
    "KubeletUnhealthy": "the kubelet fails its health check",
    "KubeletProblem": "the kubelet fails its health check",
    "ContainerRuntimeUnhealthy": "the container runtime fails its health check",
    "ContainerRuntimeProblem": "the container runtime fails its health check",
}


def find(node: Node, related: Related) -> Iterator[Failure]:
    """What is wrong with one node. One that is being taken out of service says nothing."""
    if node.spec.leaving:
        return
    if node.deleting:
        yield from stuck(DELETION_STUCK, node)
        return

    ready = condition(node.status.conditions, "Ready")
    if ready and ready.status == "Unknown":
        yield _failure(NOT_READY, node, ready, f"its kubelet has stopped reporting{_told(ready, related, 'Rebooted')}")
    elif ready and ready.status == "False":
        why = _told(ready, related, "Rebooted", "SystemOOM")
        yield _failure(NOT_READY, node, ready, f"the kubelet says it is not ready{why}")

    for each in node.status.conditions:
        if each.status != "True":
            continue
        if each.type in SHORT_OF:
            events = {"MemoryPressure": ["SystemOOM"], "DiskPressure": ["FreeDiskSpaceFailed", "ImageGCFailed"]}
            why = _told(each, related, *events.get(each.type, ()))
            yield _failure(PRESSURE, node, each, f"it runs short of {SHORT_OF[each.type]}{why}")
        elif each.type == "NetworkUnavailable":
            yield _failure(NETWORK, node, each, f"its pod network is not set up{_told(each, related)}")
        elif each.type in PROBLEMS:
            yield _failure(PROBLEM, node, each, f"{PROBLEMS[each.type]}{_told(each, related)}")

    yield from _skew(node, related.server)


def _skew(node: Node, server: str) -> Iterator[Failure]:
    # What stands in for a kubelet has a version of its own.
    if node.metadata.labels.get("type") == "virtual-kubelet":
        return
    kubelet, theirs = _minor(node.status.node_info.kubelet_version), _minor(server)
    if not kubelet or not theirs or kubelet[0] != theirs[0]:
        return
    behind = theirs[1] - kubelet[1]
    ours = node.status.node_info.kubelet_version
    if behind < 0:
        yield SKEW.failure(f"its kubelet {ours} is newer than the API server {server}", reason="Newer")
    elif behind > MINORS_BEHIND:
        message = f"its kubelet {ours} is {behind} minor versions behind the API server {server}"
        yield SKEW.failure(message, reason="TooOld")


def _minor(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else None


def _failure(rule: Rule, node: Node, found: Condition, message: str) -> Failure:
    since = found.last_transition_time
    return rule.failure(message, since=since, hold=_hold(rule, node, found), reason=found.type)


def _hold(rule: Rule, node: Node, found: Condition) -> timedelta:
    """The rule's own, or what is left of the node's first minutes, or the time it takes to go."""
    since = found.last_transition_time
    if since is None or SHUTTING_DOWN in found.message:
        return max(rule.hold, STARTING)
    return max(rule.hold, node.created + STARTING - since) if node.created else rule.hold


def _told(found: Condition, related: Related, *reasons: str) -> str:
    """What the condition says, and an Event of those reasons from about that time."""
    text = found.message.rstrip(".") or found.reason
    event = related.newest_event(*reasons) if reasons else None
    if event and event.at and found.last_transition_time and event.at < found.last_transition_time - minutes(10):
        event = None
    said = f"{event.reason}: {event.message.rstrip('.')}" if event else ""
    return "".join(f": {each}" if each is text else f" ({each})" for each in (text, said) if each)


ANALYZER = Analyzer(
    reads=Node,
    rules=(NOT_READY, PRESSURE, NETWORK, PROBLEM, SKEW, DELETION_STUCK),
    needs=(Need.events("Rebooted", "SystemOOM", "FreeDiskSpaceFailed", "ImageGCFailed"),),
    find=find,
)
