"""One container of a pod as a rule sees it, and the rules about containers."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from analyzers.messages import short
from kubewhy.contracts import Rule, minutes, seconds
from kubewhy.kube.core import Container, ContainerStatus, Event, Pod, Terminated
from kubewhy.kube.meta import condition
from kubewhy.records import Failure, Ref, Severity
from kubewhy.related import Related

DEBUG = "https://kubernetes.io/docs/tasks/debug/debug-application/"
CONCEPTS = "https://kubernetes.io/docs/concepts/"

CRASH_LOOPING = Rule(
    "pod-crash-looping",
    Severity.CRITICAL,
    "A container keeps crashing",
    why="While it waits to be started again it does no work, and each wait is longer, up to five minutes.",
    look="Read the log of the last run, which mostly ends with the error; then see what was changed before.",
    hold=minutes(1),
    docs=DEBUG + "debug-pods/#my-pod-is-crashing-or-otherwise-unhealthy",
)
OOM_KILLED = Rule(
    "pod-oom-killed",
    Severity.CRITICAL,
    "A container was killed for lack of memory",
    why="Each kill loses what it was doing, and goes on until it needs less memory or may have more.",
    look="Compare its memory over time with its limit: a steady climb is a leak, a jump is load or a low limit.",
    docs="https://kubernetes.io/docs/tasks/configure-pod-container/assign-memory-resource/",
)
IMAGE_PULL = Rule(
    "pod-image-pull",
    Severity.CRITICAL,
    "An image cannot be had",
    why="The container cannot start: what it is for is not there, or the new version never gets live.",
    look="Check the image's name and tag, then the pull secret, then whether the node reaches the registry.",
    hold=minutes(1),
    docs=CONCEPTS + "containers/images/#imagepullbackoff",
)
IMAGE_NAME = Rule(
    "pod-image-name-invalid",
    Severity.CRITICAL,
    "An image's name is not valid",
    why="The container never starts: no retry helps until the name is corrected.",
    look="Correct the image in the workload: an unset variable, a space or a capital letter is the usual slip.",
    docs=CONCEPTS + "containers/images/#image-names",
)
CONFIG_MISSING = Rule(
    "pod-config-missing",
    Severity.CRITICAL,
    "A Secret, config map or key is missing",
    why="The container does not start until that object or key is there.",
    look="Create it or correct the reference; if a tool makes it, see whether that ran, and in this namespace.",
    hold=seconds(30),
    docs="https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/",
)
CONTAINER_START = Rule(
    "pod-container-start",
    Severity.CRITICAL,
    "A container cannot be started",
    why="Its program never gets to run, so the pod does no work.",
    look="Check the command, the image's platform, the user and the devices against what the runtime says.",
    hold=minutes(1),
    docs=DEBUG + "debug-running-pod/",
)
INIT_STUCK = Rule(
    "pod-init-stuck",
    Severity.WARNING,
    "An init container does not end",
    why="The pod's main containers do not start before it ends.",
    look="Read the init container's log: most wait for another service or a migration that does not come.",
    hold=minutes(2),
    normal_at_first=True,
    docs=DEBUG + "debug-init-containers/",
)
NOT_READY = Rule(
    "pod-not-ready",
    Severity.WARNING,
    "A running container is not ready",
    why="The pod gets no requests from its services, and rollouts wait for it.",
    look="Read the probe's failure and the container's log: is it slow, broken, or waiting for another service?",
    hold=minutes(3),
    docs="https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/",
)
EXITED = Rule(
    "pod-exited",
    Severity.WARNING,
    "A container failed and is not started again",
    why="What the container was for is not done, and stays so until the pod is made anew.",
    look="Read its exit code and log; then mend the cause and make the pod anew.",
    hold=minutes(3),
    docs=CONCEPTS + "workloads/pods/pod-lifecycle/#restart-policy",
)

RULES = (
    CRASH_LOOPING,
    OOM_KILLED,
    IMAGE_PULL,
    IMAGE_NAME,
    CONFIG_MISSING,
    CONTAINER_START,
    INIT_STUCK,
    NOT_READY,
    EXITED,
)
REASONS = ("Failed", "Unhealthy", "FailedToRetrieveImagePullSecret", "FailedPostStartHook")


@dataclass(frozen=True)
class View:
    """One container: how it is meant, how it is, and what was said of it."""

    pod: Pod
    related: Related
    status: ContainerStatus
    spec: Container
    init: bool  # runs before the others, and must end: a sidecar is none
    ephemeral: bool = False  # somebody looks into the pod with it: its end is nobody's failure

    @property
    def label(self) -> str:
        sort = "init container" if self.init else "ephemeral container" if self.ephemeral else "container"
        return f"{sort} {self.status.name}"

    @property
    def restarts(self) -> bool:
        """Whether the kubelet starts it again after a failure."""
        return (self.spec.restart_policy or self.pod.spec.restart_policy) != "Never"

    @property
    def stays_up(self) -> bool:
        """Whether the kubelet starts it again even after an end without error."""
        return not self.init and (self.spec.restart_policy or self.pod.spec.restart_policy) == "Always"

    @property
    def dead(self) -> Terminated | None:
        """Its last end: of this run, or of the one before."""
        return self.status.state.terminated or self.status.last_state.terminated

    @property
    def died(self) -> datetime | None:
        """When that was: at the latest when it was started again, for an end that nobody saw has no time."""
        running = self.status.state.running
        return (self.dead.finished_at if self.dead else None) or (running.started_at if running else None)

    @property
    def tried(self) -> datetime | None:
        """When the kubelet came to try it, as far as the status tells."""
        if self.dead and self.dead.finished_at:
            return self.dead.finished_at
        initialized = condition(self.pod.status.conditions, "Initialized")
        if not self.init and initialized and initialized.status == "True" and initialized.last_transition_time:
            return initialized.last_transition_time
        return self.pod.status.start_time or self.pod.created

    @property
    def blocked(self) -> bool:
        """Whether its startup probe has not passed yet."""
        return self.spec.startup_probe is not None and self.status.started is not True

    def events(self, *reasons: str) -> Iterator[Event]:
        """Those about this container, newest first; one that names no container counts for each."""
        for event in self.related.events(*reasons):
            path = event.involved_object.field_path
            if not path.endswith("}") or path.endswith(f"{{{self.status.name}}}"):
                yield event

    def probe_failure(self, *kinds: str) -> str:
        """The newest probe failure told of these kinds: Readiness, Liveness, Startup."""
        for event in self.events("Unhealthy"):
            if event.message.startswith(kinds):
                return short(event.message)
        return ""

    def failure(
        self,
        rule: Rule,
        words: str,
        *,
        since: datetime | None,
        reason: str = "",
        until: datetime | None = None,
        cause: Ref | None = None,
        hold: timedelta | None = None,
        severity: Severity | None = None,
    ) -> Failure:
        return rule.failure(
            f"{self.label} {words}",
            since=since,
            until=until,
            cause=cause,
            container=self.status.name,
            reason=reason,
            hold=hold,
            severity=severity or (Severity.WARNING if self.ephemeral else None),
        )


def views(pod: Pod, related: Related) -> Iterator[View]:
    """All its containers, in the order they start."""
    specs = {each.name: each for each in (*pod.spec.init_containers, *pod.spec.containers)}
    for status in pod.status.init_container_statuses:
        spec = specs.get(status.name, Container())
        yield View(pod, related, status, spec, init=spec.restart_policy != "Always")
    for status in pod.status.container_statuses:
        yield View(pod, related, status, specs.get(status.name, Container()), init=False)
    specs = {each.name: each for each in pod.spec.ephemeral_containers}
    for status in pod.status.ephemeral_container_statuses:
        yield View(pod, related, status, specs.get(status.name, Container()), init=False, ephemeral=True)


def of_job(pod: Pod) -> bool:
    """Whether a Job judges it: there an end is an attempt, and the Job counts them."""
    return pod.controller is not None and pod.controller.kind == "Job"
