"""The records on the topics: state, not change, so that a repeat, a late copy or a restart does no harm."""

from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Raw

from kubewhy.kube.core import Event
from kubewhy.kube.meta import Object
from kubewhy.kube.naming import Name


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return _RANK[self]


_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What every record shares: frozen, and strict when decoded. None can hold itself, so no garbage is looked for."""


class Ref(msgspec.Struct, frozen=True, order=True, forbid_unknown_fields=True, gc=False):
    """The name of one object in a cluster. `namespace` is null for what has none."""

    kind: str
    name: str
    namespace: str | None = None
    group: str = ""

    @staticmethod
    def to(subject: Object) -> "Ref":
        """The name of a typed object."""
        resource, meta = type(subject).resource, subject.metadata
        return Ref(resource.kind, meta.name, meta.namespace if resource.namespaced else None, resource.group)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def key_hash(namespace: str | None, name: str) -> int:
    """An object's key as an inventory lists it: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(f"{namespace or ''}/{name}".encode(), digest_size=8).digest(), "big")


ABSENT = Raw(b"null")


class Version(NamedTuple):
    """Orders what is said of one object: a lower one is dropped, an equal one is applied again."""

    term: int  # which collector was the active one
    seq: int  # counts up as evidence is sent


class Failure(Record, frozen=True, kw_only=True):
    """One rule that one object breaks.

    `since` is when it began: it may lie ahead for a declared deadline, and is null where the onset is unknown. `until`
    is when it fades without any further event. `hold` is how many seconds it must last before anyone is told.
    """

    rule: str
    severity: Severity
    message: str
    title: str = ""
    since: datetime | None = None
    until: datetime | None = None
    hold: float = 0.0
    cause: Ref | None = None  # the furthest object the evidence points to, even an absent one
    container: str = ""
    reason: str = ""  # normalised: no counts, hashes or times
    why: str = ""
    look: str = ""
    docs: str = ""
    symptom: bool = False  # only ever the echo of something else that fails
    normal_at_first: bool = False  # within its hold no sign of trouble: things start, roll out and end so


class Attached(Record, frozen=True, kw_only=True):
    """What was found of one view of a related kind. `known` is false where we may not or could not look."""

    view: str
    known: bool = True
    objects: tuple[Raw, ...] = ()
    missing: tuple[str, ...] = ()  # names that were looked up and are not there
    count: int = 0  # how many there are, also where `objects` was cut for size


class Sort(StrEnum):
    """What a change was about. Of one that was only written, or of a specification, it is not known what."""

    CREATED = "created"
    IMAGES = "images"
    REPLICAS = "replicas"
    SPECIFICATION = "specification"
    WRITTEN = "written"


class Change(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Something that was done to an object: its image, its replicas, or what else its spec says."""

    object: Ref
    at: datetime  # in the API server's time
    sort: Sort
    what: str


class Seen(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What an object's own status and the Events about it say, in lines: the plainest first."""

    object: Ref
    lines: tuple[str, ...]


class Logged(Record, frozen=True, kw_only=True):
    """What a container has written last before it ended with an error: the lines that tell most."""

    container: str
    lines: tuple[str, ...]


class Evidence(Record, tag="evidence", frozen=True, kw_only=True):
    """How one object and what it depends on are at one moment; or, without `object`, that it is gone."""

    cluster: str
    version: Version
    ref: Ref
    observed_at: datetime  # in the API server's time
    uid: str = ""
    object: Raw = ABSENT
    root: Ref | None = None  # the workload at the top of its owners; null when it is that itself
    related: tuple[Attached, ...] = ()
    events: tuple[Event, ...] = ()  # newest first
    server: str = ""  # the API server's version, e.g. v1.35.4; empty when unknown
    changes: tuple[Change, ...] = ()  # of late, to it and to its root, newest first
    truncated: bool = False
    logs: tuple[Logged, ...] = ()  # of containers that died, where they are read
    restated: bool = False  # it is no news, as far as its collector knows: said again, or at a start

    @property
    def gone(self) -> bool:
        return bytes(self.object) == b"null"


class Report(Record, tag="report", frozen=True, kw_only=True):
    """All that the analyzers hold against one object. No failures means healthy.

    Where something fails, the labels say what silences and routes go by: the object's, and its namespace's as far as
    they are known; so do the values of the annotation `kubewhy.dev/ignore` on both.
    """

    cluster: str
    version: Version
    ref: Ref
    root: Ref
    observed_at: datetime
    created: datetime | None = None
    checked: tuple[str, ...] = ()  # the kinds' analyzers that judged it
    broken: tuple[str, ...] = ()  # those that raised: what they said before stays
    failures: tuple[Failure, ...] = ()
    gone: bool = False
    labels: dict[str, str] = {}
    namespace_labels: dict[str, str] = {}
    ignore: str = ""
    namespace_ignore: str = ""
    seen: tuple[str, ...] = ()  # what shows its failures, in lines
    names: tuple[Name, ...] = ()  # of what it is made of, which its failures may tell of
    changes: tuple[Change, ...] = ()  # of late, to it and to its root, newest first; of pods only where they fail
    restated: bool = False  # so was its evidence


class Inventory(Record, tag="inventory", frozen=True, kw_only=True):
    """Which objects of one kind and scope exist: what fails, is in range, older, and not listed here, is deleted.

    `hashes` are `key_hash` of namespace/name, sorted, of all objects in [low, high).
    """

    cluster: str
    version: Version
    kind: str
    group: str
    namespaces: tuple[str, ...]  # empty: all
    low: int
    high: int
    hashes: tuple[int, ...]


class Heartbeat(Record, tag="heartbeat", frozen=True, kw_only=True):
    """The collector of this cluster is alive, and has sent everything up to `version`.

    While it is `listing` it has only begun: what it says does not tell yet what belongs together.
    """

    cluster: str
    version: Version
    observed_at: datetime
    name: str = ""  # what people call the cluster
    listing: bool = False


class Tick(Record, tag="tick", frozen=True, kw_only=True):
    """Time has passed; nothing else has."""


class Silence(Record, frozen=True, kw_only=True):
    """What nobody wants to hear of for a while: all failures that fit every matcher, in Alertmanager's words."""

    id: str
    matchers: tuple[str, ...]
    ends_at: datetime
    starts_at: datetime | None = None  # null: at once
    author: str = ""
    comment: str = ""


class SilenceChange(Record, tag="silence", frozen=True, kw_only=True):
    """How the silence of that id is now; null where there is none any more."""

    id: str
    silence: Silence | None = None


class Told(Record, frozen=True, kw_only=True, omit_defaults=False):
    """A failure as a finding tells it. `labels` has those by which findings are routed, as matchers name them."""

    object: Ref
    rule: str
    severity: Severity
    message: str
    since: datetime | None
    until: datetime | None
    cause: Ref | None
    labels: dict[str, str] = {}


class Words(Record, frozen=True, kw_only=True, omit_defaults=False):
    """What a rule says wherever it is broken: what is wrong, why it matters, and what to look at first."""

    rule: str
    title: str
    why: str
    look: str
    docs: str


class IncidentView(Record, frozen=True, kw_only=True, omit_defaults=False):
    """An incident as a finding shows it. `members` names at most five; `member_count` says how many there are.

    `words` has each broken rule once, the one that names the incident first. `commands` only read. `evidence` is that
    of the named members; `changes` are those within half an hour before the onset, newest first.
    One that is silenced is for archives, and told to nobody. It is so from its opening to its end: where that changes,
    it goes on as another incident.
    """

    id: str
    cluster: str
    cluster_name: str = ""  # what people call it
    title: str
    severity: Severity
    state: str  # open or resolved
    root: Ref
    members: tuple[Ref, ...]
    member_count: int
    opened_at: datetime
    resolved_at: datetime | None
    resolution: str | None  # recovered, deleted, superseded or silenced
    failures: tuple[Told, ...]
    words: tuple[Words, ...] = ()
    commands: tuple[str, ...] = ()
    evidence: tuple[Seen, ...] = ()
    changes: tuple[Change, ...] = ()
    silenced: bool = False


class Explanation(Record, frozen=True, kw_only=True, omit_defaults=False):
    """An incident in a model's words, and who said them. `verify` are commands that only look."""

    cause: str
    why: str
    fix: tuple[str, ...]
    verify: tuple[str, ...]
    confidence: str  # low, medium or high
    language: str
    backend: str
    model: str
    input_tokens: int
    output_tokens: int
    cost: float | None  # in US dollars, where prices are known
    cached: bool


class Answer(Record, tag="answer", frozen=True, kw_only=True):
    """What came of asking a model about an incident as it was then. Without an explanation it has none to give."""

    cluster: str
    incident: str
    asked: str  # the digest of what was asked about
    explanation: Explanation | None = None


class Finding(Record, frozen=True, kw_only=True, omit_defaults=False):
    """One transition of one incident, in the rules' words and a model's, if any. Every key is present in its JSON.

    `digest` is the id of the incident that stands for many, where this is one of them.
    """

    schema: str = "kubewhy.finding/v1"
    id: str
    transition: str  # opened, updated, explained, resolved, repeated
    at: datetime
    revision: int
    incident: IncidentView
    explanation: Explanation | None = None
    digest: str | None = None

    @property
    def silenced(self) -> bool:
        """Whether it is for archives only."""
        return self.incident.silenced


class Claim(Record, tag="claim", frozen=True, kw_only=True):
    """This collector has become the active one of that cluster."""

    cluster: str
    member: str  # its name, for people
    at: datetime


class DeadLetter(Record, tag="dead-letter", frozen=True, kw_only=True):
    """A record that no one could use, why, and where it came from."""

    stage: str  # who could not: analyzer, explainer, or sink/NAME
    reason: str
    topic: str
    partition: int
    offset: int
    at: datetime
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


_encoder = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """A record as JSON."""
    return _encoder.encode(record)
