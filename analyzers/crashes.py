"""How containers end: for lack of memory, in a crash, before they began, or once and for all."""

from datetime import datetime, timedelta

from analyzers.containers import CONTAINER_START, CRASH_LOOPING, EXITED, OOM_KILLED, View, of_job
from analyzers.messages import exit_words, short, start_reason
from kubewhy.contracts import minutes, seconds
from kubewhy.kube.core import Terminated
from kubewhy.records import Failure, Severity

# Longer than the longest back-off (5 min), so that a loop is one failure from its first crash to its last.
FADES = minutes(10)
# The kubelet's own measure: a container that ran this long starts without back-off again.
STEADY = minutes(10)
NEVER_STARTED = {"StartError", "ContainerCannotRun"}
# A kill for lack of memory comes back more slowly than other crashes do: what leaks must fill up again.
OOM_FADES = minutes(60)
# What has ended for good stays in the list of pods for weeks; by then nobody waits for it any more.
ENDED_FADES = timedelta(days=1)
# Containers that crash now and then, over hours, are told of from so many restarts on.
FREQUENT = 5
# The node lost sight of the container, as at its restart: not the container's doing.
LOST_SIGHT = {"Unknown", "ContainerStatusUnknown"}
# Controllers whose pods are judged with them; others (of workflows, tasks, ...) may have tried again elsewhere.
JUDGED = {"ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController", "Node"}


def _until(view: View, fades: timedelta = FADES) -> datetime | None:
    """A container that runs again is forgiven after a while; one that is down is not."""
    return view.died + fades if view.status.state.running and view.died else None


def _forgotten(view: View) -> bool:
    """Whether it runs, and nothing says when its last end was."""
    return view.status.state.running is not None and view.died is None


def out_of_memory(view: View) -> Failure | None:
    """A kill for lack of memory: the cause of the crash loop that follows."""
    dead = view.dead
    if dead is None or dead.reason != "OOMKilled" or _forgotten(view):
        return None
    limit = view.spec.resources.limits.get("memory") or view.pod.spec.resources.limits.get("memory")
    words = (
        f"was killed for using more than its memory limit of {limit}"
        if limit
        else "was killed for lack of memory on its node; it has no memory limit"
    )
    if count := view.status.restart_count:
        words += f"; started again {_times(count)}"
    # A Job decides what an attempt is worth, but not why it failed.
    severity = Severity.WARNING if of_job(view.pod) else None
    until = _until(view, OOM_FADES)
    if of_job(view.pod) and view.died:
        until = view.died + FADES
    return view.failure(OOM_KILLED, words, since=view.died, until=until, severity=severity)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def never_ran(view: View) -> Failure | None:
    """The runtime refused the command: an attempt and a back-off by turns, one failure."""
    dead = view.dead
    if dead is None or dead.reason not in NEVER_STARTED or view.status.state.running or not view.restarts:
        return None
    return start_refused(view, start_reason(dead.message), dead.message or dead.reason, since=dead.finished_at)


def crashed(view: View) -> Failure | None:
    """A crash, and what follows it, as one failure."""
    if of_job(view.pod):
        return None
    dead, waiting, count = view.dead, view.status.state.waiting, view.status.restart_count
    backing_off = waiting is not None and waiting.reason == "CrashLoopBackOff"
    if dead is None:
        hold = seconds(0) if count >= 3 else None
        words = "keeps ending, and is held back"
        return view.failure(CRASH_LOOPING, words, since=None, hold=hold) if backing_off else None
    if _forgotten(view):
        return None
    if not view.restarts:
        return exited(view)
    ran = dead.finished_at - dead.started_at if dead.finished_at and dead.started_at else timedelta(0)
    brief = ran < STEADY
    # Between two crashes it is the same failure. An end without error is one only where it comes again and again.
    ends_well = dead.exit_code == 0 and not (view.stays_up and count >= 3 and brief)
    if ends_well and not backing_off:
        return None
    often = count >= 3 and brief
    frequent = not often and view.status.state.running is not None and _frequent(view, dead)
    hold = seconds(0) if often or frequent else None
    if view.status.state.running and hold is None:
        # It crashed, as while it waited for others, and runs again: told only if it goes on before this fades.
        hold = FADES + minutes(1)
    return view.failure(
        CRASH_LOOPING,
        _crash_words(view, dead, count),
        since=view.died,
        until=_until(view),
        hold=hold,
        severity=Severity.WARNING if frequent else None,
    )


def _frequent(view: View, dead: Terminated) -> bool:
    """Whether it crashes again and again, though hours may lie between: more than once a day so far."""
    count, began = view.status.restart_count, view.pod.status.start_time or view.pod.created
    if count < FREQUENT or dead.reason in LOST_SIGHT or not (dead.finished_at and dead.started_at and began):
        return False
    day = timedelta(days=1)
    return dead.finished_at - dead.started_at < day and dead.finished_at - began < day * count


def hook_failed(view: View, message: str) -> Failure:
    """A crash that the hook after the start brought about."""
    hold = seconds(0) if view.status.restart_count >= 3 else None
    words = f"is ended by its own hook: {short(message)}"
    return view.failure(CRASH_LOOPING, words, since=view.died or view.tried, hold=hold)


def _crash_words(view: View, dead: Terminated, count: int) -> str:
    words = f"has been started again {_times(count)}; it last ended with " if count else "ended with "
    words += exit_words(dead)
    if dead.exit_code in (137, 143) and dead.reason != "ContainerStatusUnknown":
        probe = view.probe_failure("Liveness", "Startup")
        if probe:
            words += f" after: {probe}"
    return words


def exited(view: View) -> Failure | None:
    """An end that is final."""
    dead = view.status.state.terminated
    if dead is None or dead.exit_code == 0 or of_job(view.pod):
        return None
    if view.restarts and view.pod.status.phase != "Failed":
        return None
    # A controller that is not ours to judge (a workflow's, a task's) may try again elsewhere.
    custom = view.pod.controller is not None and view.pod.controller.kind not in JUDGED
    words = (
        f"cannot be started: {short(dead.message)}"
        if dead.reason in NEVER_STARTED and dead.message
        else f"ended with {exit_words(dead)} and is not started again"
    )
    over = dead.finished_at + ENDED_FADES if dead.finished_at and view.pod.status.phase == "Failed" else None
    severity = Severity.INFO if custom else None
    return view.failure(EXITED, words, since=dead.finished_at, until=over, severity=severity)


def start_refused(view: View, reason: str, message: str, since: datetime | None) -> Failure:
    """A container that its runtime does not start."""
    # A hook or a command that fails counts restarts as a crash does; a container that is never made has none.
    hold = seconds(0) if view.status.restart_count >= 3 else None
    return view.failure(CONTAINER_START, f"cannot be started: {short(message)}", since=since, reason=reason, hold=hold)
