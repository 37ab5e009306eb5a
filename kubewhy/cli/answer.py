"""The `kubewhy.why/v1` document: what is known of one object, for programs."""

from datetime import datetime
from typing import Literal

import msgspec

from analyzers.seen import ConditionSeen, ContainerSeen, EventSeen
from kubewhy.cli.report import Broken, Cluster, Name, Skipped
from kubewhy.cli.seen import Change
from kubewhy.records import Severity


class Link(msgspec.Struct, frozen=True):
    """A step on the way to the root, and the worst that is held against the object there, if anything is."""

    how: str  # how the object before leads to it: owned by, blames or echoes; empty for the object asked about
    object: Name
    message: str


class Other(msgspec.Struct, frozen=True):
    object: Name
    message: str


class Held(msgspec.Struct, frozen=True):
    """A failure that has not lasted long enough to count, and when it will have, if it goes on."""

    failure: Broken
    counts_at: datetime


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as seen from the object. All of one that is pending has yet to last long enough to count.

    `failures` are the object's own that count, `pending` those that do not yet; `others` names at most five that are
    not on the way to the root, and `other_count` says how many those are. `why` it matters and what to `look` at is
    said by the rule that names the incident.
    """

    id: str
    state: Literal["open", "pending"]
    title: str
    severity: Severity
    since: datetime | None
    counts_at: datetime | None
    root: Name
    place: Literal["root", "symptom"]
    chain: list[Link]
    failures: list[Broken]
    pending: list[Held]
    changes: list[Change]
    others: list[Other]
    other_count: int
    why: str
    look: str
    docs: list[str]
    next: list[str]


class Evidence(msgspec.Struct, frozen=True):
    """What the object's own status and the Events about it say."""

    conditions: list[ConditionSeen]
    containers: list[ContainerSeen]
    events: list[EventSeen]


class Near(msgspec.Struct, frozen=True):
    """Another object that is in an incident: what the object asked about is to it."""

    how: str  # owns, owned by, depends on or blamed by
    object: Name
    title: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole. Every key is always present.

    `found` is null where it was not looked for, as of a Secret. `place` is that in the first of its incidents, or
    `unknown` where its rules could not be applied. `early` is what is normal at first, and has not lasted for long.
    """

    schema: str = "kubewhy.why/v1"
    cluster: Cluster
    observed_at: datetime
    object: Name
    found: bool | None
    place: Literal["root", "symptom", "well", "unknown"]
    state: str
    checked: list[str]
    evidence: Evidence
    incidents: list[Incident]
    early: list[Held]
    near: list[Near]
    skipped: list[Skipped]
