"""What an object's own status and the Events about it say, beside the rules: what shows that something fails. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from analyzers.containers import views
from analyzers.messages import exit_words, short
from kubewhy.kube.apps import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kubewhy.kube.batch import CronJob, Job, failed_condition, is_complete
from kubewhy.kube.core import Event, Node, PersistentVolumeClaim, Pod
from kubewhy.kube.meta import Condition, Object, condition
from kubewhy.records import Logged
from kubewhy.related import Related

_EVENTS = 5
_LINES, _LINE = 6, 200  # of evidence, and characters of each
_LOG_LINES = 10  # beside these, of all containers that died

# Conditions that are bad news when they are true. Those of a pod and a workload are good news otherwise, readiness
# gates included; of a node and a claim all others are troubles that somebody has found.
_BAD = {"DisruptionTarget", "PodResizePending", "PodResizeInProgress", "ReplicaFailure", "Failed", "FailureTarget"}
_GOOD = {"Ready"}


class ConditionSeen(msgspec.Struct, frozen=True):
    """`good` is whether it says that all is well."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None
    good: bool


class ContainerSeen(msgspec.Struct, frozen=True):
    """`exit` is the code of its last end, null where none is known, and `exit_words` what it usually stands for."""

    name: str
    sort: str  # container, init container or ephemeral container
    state: str  # running, waiting, ended or unknown
    reason: str
    ready: bool
    restarts: int
    exit: int | None
    exit_words: str
    ended_at: datetime | None


class EventSeen(msgspec.Struct, frozen=True):
    type: str  # Warning or Normal
    reason: str
    message: str
    count: int
    at: datetime | None


def conditions(subject: Object) -> list[ConditionSeen]:
    """All of them, in the object's own order."""
    told: Iterable[Condition] = getattr(getattr(subject, "status", None), "conditions", ())
    return [
        ConditionSeen(
            each.type, each.status, each.reason, short(each.message), each.last_transition_time, _good(subject, each)
        )
        for each in told
    ]


def _good(subject: Object, told: Condition) -> bool:
    bad = told.type not in _GOOD if isinstance(subject, Node | PersistentVolumeClaim) else told.type in _BAD
    return told.status == ("False" if bad else "True")


def containers(subject: Object, related: Related) -> list[ContainerSeen]:
    """A pod's, in the order they start."""
    return [_container(view) for view in views(subject, related)] if isinstance(subject, Pod) else []


def _container(view: Any) -> ContainerSeen:
    state, dead = view.status.state, view.dead
    word, reason = "unknown", ""
    if state.waiting:
        word, reason = "waiting", state.waiting.reason
    elif state.running:
        word = "running"
    elif state.terminated:
        word, reason = "ended", state.terminated.reason
    return ContainerSeen(
        name=view.status.name,
        sort=view.label.removesuffix(f" {view.status.name}"),
        state=word,
        reason=reason,
        ready=view.status.ready,
        restarts=view.status.restart_count,
        exit=dead.exit_code if dead else None,
        exit_words=exit_words(dead) if dead else "",
        ended_at=dead.finished_at if dead else None,
    )


def events(told: Iterable[Event]) -> list[EventSeen]:
    """The newest of each sort, from those that the rules went by: warnings first."""
    found: dict[tuple[str, str], EventSeen] = {}
    for event in told:
        message = short(event.message)
        count = (event.series.count if event.series else 0) or event.count or 1
        found.setdefault((event.reason, message), EventSeen(event.type, event.reason, message, count, event.at))
    return sorted(found.values(), key=lambda each: each.type != "Warning")[:_EVENTS]


def state(subject: Object) -> str:
    """How it stands, in a few words; empty for a kind of which there is nothing to say."""
    going = ", being deleted" if subject.deleting else ""
    return f"{_state(subject)}{going}".removeprefix(", ")


def _state(subject: Object) -> str:
    match subject:
        case Pod():
            statuses = subject.status.container_statuses
            where = f", on node {subject.spec.node_name}" if subject.spec.node_name else ""
            ready = f", {sum(each.ready for each in statuses)} of {len(subject.spec.containers)} containers ready"
            # What a succeeded pod was made of is not kept.
            return f"{subject.status.phase}{ready if subject.spec.containers else ''}{where}"
        case Deployment() | ReplicaSet() | StatefulSet():
            return f"{subject.status.ready_replicas} of {subject.spec.replicas} replicas ready"
        case DaemonSet():
            return f"{subject.status.number_ready} of {subject.status.desired_number_scheduled} pods ready"
        case Job():
            return _job(subject)
        case CronJob():
            last = subject.status.last_schedule_time
            ran = f"last run at {last:%Y-%m-%d %H:%M} UTC" if last else "never run yet"
            return f"suspended, {ran}" if subject.spec.suspend else ran
        case Node():
            told = condition(subject.status.conditions, "Ready")
            word = {"True": "Ready", "False": "NotReady"}.get(told.status if told else "", "no longer heard of")
            return f"{word}, cordoned" if subject.spec.unschedulable else word
        case PersistentVolumeClaim():
            return subject.status.phase
    return ""


def _job(job: Job) -> str:
    status = job.status
    if failed_condition(status.conditions):
        return "Failed"
    if is_complete(status.conditions):
        return "Complete"
    if job.spec.suspend:
        return "Suspended"
    return f"{status.active} active, {status.succeeded} succeeded, {status.failed} failed"


def lines(subject: Object, related: Related, told: Iterable[Event], logs: Sequence[Logged] = ()) -> tuple[str, ...]:
    """What shows a failure: without how often and since when, so that it mostly stays the same as the failure does."""
    own = [line[:_LINE] for line in islice(_own(subject, related), _LINES)]
    said = [line[:_LINE] for line in islice(_said(told), _LINES - len(own))]
    return (*own, *islice(_logged(subject, related, logs), _LOG_LINES), *said)


def _logged(subject: Object, related: Related, logs: Iterable[Logged]) -> Iterator[str]:
    sorts = {each.name: each.sort for each in containers(subject, related)}
    for each in logs:
        for line in each.lines:
            yield f"log of {sorts.get(each.container, 'container')} {each.container}: {_clipped(line)}"


def _clipped(line: str) -> str:
    return line if len(line) <= _LINE else line[: _LINE - 3] + "..."


def _own(subject: Object, related: Related) -> Iterator[str]:
    if stands := state(subject):
        yield stands
    for container in containers(subject, related):
        if not container.ready or container.exit not in (None, 0):
            reason = f", {container.reason}" if container.reason else ""
            ended = f"; it last ended with {container.exit_words}" if container.exit_words else ""
            yield f"{container.sort} {container.name} is {container.state}{reason}{ended}"
    said = set()
    for each in conditions(subject):
        why = ": ".join(text for text in (each.reason, each.message) if text)
        if not each.good and why not in said:
            said.add(why)
            yield f"condition {each.type} is {each.status}{f': {why}' if why else ''}"


def _said(told: Iterable[Event]) -> Iterator[str]:
    reasons = set()
    for event in events(told):
        if event.type == "Warning" and event.reason not in reasons:
            reasons.add(event.reason)
            yield f"event {event.reason}: {event.message}"
