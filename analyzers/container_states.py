"""The one thing to say about a container: why it waits, how it ended, or why it is not ready."""

from collections.abc import Iterator

import msgspec

from analyzers.containers import (
    CONFIG_MISSING,
    IMAGE_NAME,
    IMAGE_PULL,
    INIT_STUCK,
    NOT_READY,
    View,
    of_job,
)
from analyzers.crashes import ENDED_FADES, FADES, crashed, exited, hook_failed, never_ran, out_of_memory, start_refused
from analyzers.messages import missing_config, pull_reason, pull_secrets, start_reason
from analyzers.readiness import allowance
from kubewhy.kube.core import WAITS_ITS_TURN
from kubewhy.kube.meta import condition
from kubewhy.records import Failure, Ref

PULLING = {
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ErrImageNeverPull",
    "ImageInspectError",
    "SignatureValidationFailed",
}
PULL_WORDS = {
    "ErrImageNeverPull": ("never-pull", "it is not on the node, and the pull policy is Never"),
    "ImageInspectError": ("inspect", "the container runtime cannot inspect it"),
    "SignatureValidationFailed": ("signature", "its signature is not valid"),
}
HOOKS = {"PreCreateHookError", "PreStartHookError", "PostStartHookError"}


def container_failures(view: View) -> Iterator[Failure]:
    """What to say about a container of a pod that is meant to run: one thing, and what remains when that fades."""
    waiting = view.status.state.waiting
    if waiting and waiting.reason not in WAITS_ITS_TURN and waiting.reason != "CrashLoopBackOff":
        yield _not_started(view, waiting.reason, waiting.message)
        return
    if view.ephemeral:
        return
    ended = out_of_memory(view) or never_ran(view) or crashed(view)
    if ended:
        yield ended
    lasting = _stuck(view) or _not_ready(view)
    if lasting and (ended is None or ended.hold > FADES.total_seconds()):
        yield lasting  # no crash will be told
    elif lasting and ended and ended.until:
        # An echo of the crash, unless it outlasts it.
        over = ended.since + FADES - lasting.since if ended.since and lasting.since else FADES
        yield msgspec.structs.replace(lasting, hold=max(lasting.hold, over.total_seconds()))


def ended_failure(view: View) -> Failure | None:
    """The same of a pod that has failed and stays."""
    if view.ephemeral:
        return None
    ended = out_of_memory(view) or exited(view)
    if ended and ended.until is None and ended.since:
        return msgspec.structs.replace(ended, until=ended.since + ENDED_FADES)
    return ended


def _not_started(view: View, reason: str, message: str) -> Failure:
    if reason == "InvalidImageName":
        words = f"names no valid image: {view.spec.image or view.status.image}"
        return view.failure(IMAGE_NAME, words, since=view.tried)
    if reason in PULLING:
        return _not_pulled(view, reason, message)
    if reason == "CreateContainerConfigError":
        missing = missing_config(message, view.pod.namespace, volumes={})
        if missing:
            normal, words, ref = missing
            return view.failure(CONFIG_MISSING, f"cannot be made: {words}", since=view.tried, reason=normal, cause=ref)
    if reason == "PostStartHookError" and view.restarts:
        # It ran, and its hook's failure took it down: the same failure as the back-off and the next run.
        return hook_failed(view, message)
    normal = "hook" if reason in HOOKS else start_reason(message)
    return start_refused(view, normal, message or reason, since=view.tried)


def _not_pulled(view: View, reason: str, message: str) -> Failure:
    image = view.spec.image or view.status.image
    cause = None
    if reason in PULL_WORDS:
        normal, words = PULL_WORDS[reason]
    else:
        # The back-off's own message names no reason before v1.32; then the event of the attempt does.
        attempts = [each.message for each in view.events("Failed") if image and f'"{image}"' in each.message]
        normal, words = pull_reason(*(_without_name(text, image) for text in (f"{reason} {message}", *attempts)))
    if normal in ("denied", "not-found", "unknown"):
        told = view.related.newest_event("FailedToRetrieveImagePullSecret")
        for name in pull_secrets(told.message)[:1] if told else ():
            cause = Ref("Secret", name, view.pod.namespace)
            words += f", and pull secret {name} cannot be read"
    return view.failure(
        IMAGE_PULL, f"cannot get its image {image}: {words}", since=view.tried, reason=normal, cause=cause
    )


def _without_name(text: str, image: str) -> str:
    """The text without the image's name, which may well hold words that mean something elsewhere."""
    repository, _, tag = image.rpartition(":")
    if "/" in tag or not repository:
        repository = image
    for name in (image, repository, repository.partition("/")[2]):
        text = text.replace(name, "") if name else text
    return text


def _stuck(view: View) -> Failure | None:
    running = view.status.state.running
    if not (running and view.init and view.pod.status.phase == "Pending"):
        return None
    return view.failure(INIT_STUCK, "runs, and the pod waits for it to end", since=running.started_at)


def _not_ready(view: View) -> Failure | None:
    running, status = view.status.state.running, view.status
    # Nobody sends requests to a Job's pods, so their readiness is of no matter.
    if not running or status.ready or view.init or of_job(view.pod):
        return None
    # A sidecar that does not start holds back all that come after it, while the pod is still pending.
    if view.pod.status.phase != "Running" and not (view.spec.restart_policy == "Always" and view.blocked):
        return None
    together = condition(view.pod.status.conditions, "ContainersReady")
    turned = together.last_transition_time if together and together.status == "False" else None
    began = running.started_at
    since = max(filter(None, (began, turned)), default=None)
    probe, kind = (view.spec.startup_probe, "Startup") if view.blocked else (view.spec.readiness_probe, "Readiness")
    # Nothing says when the startup probe was done with it, so it may have taken all its time.
    allowed = allowance(probe) if view.blocked else allowance(view.spec.startup_probe) + allowance(probe)
    hold = max(NOT_READY.hold, began + allowed - since if since and began else allowed)
    told = view.probe_failure(kind) or view.probe_failure("Readiness", "Liveness", "Startup")
    words = f"runs, but is not ready: {told or f'its {kind.lower()} probe does not pass'}"
    if probe is None and not told:
        words = "runs, but is not ready"
    return view.failure(NOT_READY, words, since=since, reason=kind.lower(), hold=hold)
