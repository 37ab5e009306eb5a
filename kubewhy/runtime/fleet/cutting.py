"""Records that are too large for Kafka: cut by their least useful parts, and saying so. Pure."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from kubewhy.records import DeadLetter, Evidence, Failure, Finding, Report, Seen, encode

_HEADROOM = 0.75  # of what may be sent: headers and the key come on top
_LINE = 500  # characters
CUT = "… (cut)"  # ends what was cut
_TOO_LARGE = "(cut: this was too large to be sent whole)"


def smaller(record: msgspec.Struct, largest: int) -> msgspec.Struct:
    """The same with what fits into so many bytes. What can be cut no further comes as small as it gets."""
    for less in _ways(record):
        record = less(record)
        if len(encode(record)) <= largest * _HEADROOM:
            break
    return record


def _ways(record: msgspec.Struct) -> Iterator[Callable[..., msgspec.Struct]]:
    """What is left out, one after the other, the least useful first."""
    match record:
        case Evidence():
            yield lambda it: replace(it, logs=(), changes=(), truncated=True)
            yield lambda it: replace(it, events=it.events[:5])
            yield lambda it: replace(
                it, related=tuple(replace(each, objects=(), missing=(), known=False) for each in it.related)
            )
            yield lambda it: replace(it, events=(), related=())
        case Report():
            yield lambda it: replace(it, changes=(), names=(), seen=(*it.seen[:5], _TOO_LARGE))
            yield lambda it: replace(it, labels={}, namespace_labels={}, failures=tuple(map(_short, it.failures)))
            yield lambda it: replace(it, failures=tuple(map(_short, it.failures[:100])))
        case Finding():
            yield lambda it: replace(it, incident=replace(it.incident, evidence=_said(it), changes=()))
            yield lambda it: replace(it, incident=replace(it.incident, failures=it.incident.failures[:1]))
        case DeadLetter():
            yield lambda it: replace(it, reason=f"{it.reason} {CUT}", value=(it.value or b"")[: _LINE * 1000])


def _said(finding: Finding) -> tuple[Seen, ...]:
    return (Seen(object=finding.incident.root, lines=(_TOO_LARGE,)),)


def _short(failure: Failure) -> Failure:
    return replace(failure, message=_line(failure.message), why=_line(failure.why), look=_line(failure.look))


def _line(text: str) -> str:
    return text if len(text) <= _LINE else text[:_LINE] + CUT
