"""What a component must be. Components satisfy a contract; they do not inherit from one."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from kubewhy.kube.core import Event
from kubewhy.kube.meta import LabelSelector, Object
from kubewhy.records import Evidence, Failure, Finding, Heartbeat, Inventory, Ref, Severity
from kubewhy.related import Related

Obj = TypeVar("Obj", bound=Object)
View = TypeVar("View", bound=Object)
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Collector(Protocol):
    """Says how the objects of one cluster are, as often as that changes, until what it gives is closed."""

    def evidence(self) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]: ...


class Stage(Protocol[In, Out]):
    """Turns records into records. It has memory, but no I/O and no clock."""

    def feed(self, record: In, now: datetime) -> Iterable[Out]:
        """`now` is the append time of the record."""
        ...


class Letter(NamedTuple):
    """A finding on its way to one sink. `position` counts up in that sink's queue, and none is given twice."""

    position: int
    finding: Finding


class Memo(Protocol):
    """What one sink remembers, by the incident's id and whatever else it likes, across restarts. Written at once.

    It is not for other threads than that of the event loop.
    """

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes | None) -> None:
        """None forgets."""
        ...

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """What is kept under keys that begin so, in their order."""
        ...


@dataclass(frozen=True)
class Manner:
    """How a sink is to be given what waits for it. The order within an incident always holds."""

    at_most: int = 100  # in one call
    span: timedelta = timedelta(0)  # what came within one such span of time goes together, once the span is over
    worst_first: bool = True  # across incidents; else in the order of coming
    merges: bool = False  # of what waits of one incident only the last is given
    apart: timedelta = timedelta(0)  # between two calls
    aside: bool = False  # what digests stand for is given all at once, besides: the sink puts it off itself
    often: timedelta | None = None  # `spare` is called so often at least: something comes due by itself
    shared: bool = False  # several processes may give to it at once, each what others do not


class Sink(Protocol):
    """Takes findings somewhere. It neither queues, nor waits, nor tries again: whoever runs it does."""

    @property
    def manner(self) -> Manner: ...

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns once all have arrived. The same may come again, after a crash too: `Finding.id` tells.

        Raises RetryLater for what may pass, Rejected where these will never be taken, and ConfigError for what only a
        person can mend.
        """
        ...

    async def spare(self, memo: Memo) -> bool:
        """Does one piece of work that was put off, when nothing waits. False where there was none."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Checks(Protocol):
    """A sink that can look whether it works, and tells nobody else by that."""

    async def check(self) -> list[str]:
        """What people should know before they rely on it. Raises as `send` does for what does not work at all."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A sink that can show what it would send, or what people would see of it: plain lines for a terminal."""

    def preview(self, finding: Finding) -> str:
        """Empty where it would not tell of it."""
        ...


@dataclass(frozen=True)
class Prompt:
    """What a model is asked. With a schema it is to answer in JSON that fits.

    Of objects the schema has to name every property as required and allow no others, as strict vendors ask.
    """

    system: str
    user: str
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 1000


@dataclass(frozen=True)
class Completion:
    """What a model answered, and which one. Tokens are 0 where nobody counts them."""

    text: str
    model: str
    input_tokens: int
    output_tokens: int


class Backend(Protocol):
    """Asks one language model. It neither masks, nor caches, nor tries again."""

    @property
    def name(self) -> str: ...

    @property
    def structured(self) -> bool:
        """Whether the vendor itself holds answers to the prompt's schema."""
        ...

    async def complete(self, prompt: Prompt) -> Completion:
        """Raises RetryLater, Rejected for what is this prompt's fault, ConfigError for what only a person can mend."""
        ...

    async def close(self) -> None: ...


class AnswerCache(Protocol):
    """Remembers what models have answered, still masked. Nothing raises out of it."""

    async def get(self, backend: str, model: str, language: str, told: str) -> Completion | None: ...

    async def put(self, backend: str, model: str, language: str, told: str, answer: Completion) -> None: ...

    async def close(self) -> None: ...


class State(Protocol):
    """Keeps rows of bytes by key for those who have to remember across restarts."""

    def get(self, key: str) -> bytes | None: ...

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        """All or nothing; None deletes."""
        ...

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The rows whose keys begin so, in the order of their keys."""
        ...


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong. `hold` is how long it must last before anyone is told.

    `why` says why it matters to whoever uses or runs it, `look` what to look at or do first: a sentence or two each.
    """

    id: str
    severity: Severity
    title: str
    why: str = ""
    look: str = ""
    hold: timedelta = timedelta(0)
    docs: str = ""
    symptom: bool = False  # only ever the echo of something else that fails
    normal_at_first: bool = False  # within its hold no sign of trouble: things start, roll out and end so

    def failure(
        self,
        message: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        cause: Ref | None = None,
        container: str = "",
        reason: str = "",
        hold: timedelta | None = None,
        severity: Severity | None = None,
    ) -> Failure:
        """This rule broken, in words for a person. `hold` and `severity` stand in for the rule's own."""
        return Failure(
            rule=self.id,
            severity=severity or self.severity,
            title=self.title,
            message=message,
            since=since,
            until=until,
            hold=(self.hold if hold is None else hold).total_seconds(),
            cause=cause,
            container=container,
            reason=reason,
            why=self.why,
            look=self.look,
            docs=self.docs,
            symptom=self.symptom,
            normal_at_first=self.normal_at_first,
        )


class Link(Enum):
    """How a related object is found from the judged one. Each has a reverse, by which a change finds its way back."""

    NAMED = "named"
    USERS = "users"
    SELECTED = "selected"
    OWNER = "owner"
    OWNED = "owned"
    EVENTS = "events"


@dataclass(frozen=True)
class Need:
    """What the collector attaches to an object before it is judged."""

    link: Link
    view: type[Object]
    names: Callable[[Any], Iterable[str]] | None = None
    selector: Callable[[Any], LabelSelector | None] | None = None
    labels: Callable[[Any], Mapping[str, str]] | None = None
    reasons: frozenset[str] = frozenset()

    @staticmethod
    def named(view: type[View], names: Callable[[Any], str | Iterable[str] | None]) -> "Need":
        """Those the object names, in its own namespace where the view's kind has one."""

        def each(subject: Any) -> Iterable[str]:
            told = names(subject)
            told = [told] if isinstance(told, str) else told or []
            return dict.fromkeys(name for name in told if name)

        return Need(Link.NAMED, view, names=each)

    @staticmethod
    def users(view: type[View], names: Callable[[View], str | Iterable[str] | None]) -> "Need":
        """Those that name the object: `names` reads the other's field."""
        return Need(Link.USERS, view, names=Need.named(view, names).names)

    @staticmethod
    def selected_by(
        view: type[View],
        selector: Callable[[Any], LabelSelector | None],
        labels: Callable[[View], Mapping[str, str]] | None = None,
    ) -> "Need":
        """Those in its namespace that its selector fits; `labels` reads other labels than the view's own."""
        return Need(Link.SELECTED, view, selector=selector, labels=labels)

    @staticmethod
    def owner(view: type[View]) -> "Need":
        """Its controller of that kind, near or further up."""
        return Need(Link.OWNER, view)

    @staticmethod
    def owned(view: type[View]) -> "Need":
        """Those of that kind it controls, near or further down."""
        return Need(Link.OWNED, view)

    @staticmethod
    def events(*reasons: str) -> "Need":
        """The Events about it, of whatever type, with one of these reasons."""
        return Need(Link.EVENTS, Event, reasons=frozenset(reasons))


@dataclass(frozen=True)
class Analyzer(Generic[Obj]):
    """Judges one kind. `find` is pure: the same evidence gives the same failures, and no clock is read."""

    reads: type[Obj]
    rules: tuple[Rule, ...]
    find: Callable[[Obj, Related], Iterator[Failure]]
    needs: tuple[Need, ...] = ()

    @property
    def name(self) -> str:
        """The kind it judges: what `-f` names, and what a report says was checked."""
        return self.reads.resource.kind


def seconds(number: float) -> timedelta:
    """A hold, readable."""
    return timedelta(seconds=number)


def minutes(number: float) -> timedelta:
    """A hold, readable."""
    return timedelta(minutes=number)
