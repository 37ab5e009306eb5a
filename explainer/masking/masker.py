"""Hides what is private in a text that is bound for a model, and puts it back in the answer. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from explainer.masking.names import Names
from explainer.masking.placeholders import TEXT, Placeholders
from explainer.masking.scanning import Scanner
from explainer.masking.shapes import SECRETS, Span, shapes
from kubewhy.kube.naming import Name

REDACTED = "[redacted]"


class Masker:
    """Masks with one key: the same name has the same placeholder in every text, and every process, of a cluster.

    It remembers what it has masked, so it is made for one incident, and masks first what it is to unmask. With
    `names_too` off only secrets are masked.
    """

    def __init__(self, key: bytes, names: Iterable[Name] = (), *, names_too: bool = True) -> None:
        given = [Name(*name) for name in names]
        self._names_too = names_too
        self._placeholders = Placeholders(key, (name.sort for name in given))
        self._names = Names(given, self._placeholders)
        self._lookalikes = Scanner(self._placeholders.lookalike)

    def mask(self, text: str) -> str:
        """The text with placeholders for all names and for whatever has a private shape, in one pass."""
        data = text.encode("utf-8", "surrogatepass")
        private = [span for each in shapes() for span in each.spans(data)]
        if self._names_too:
            private += self._names.spans(data)
        else:
            private = [span for span in private if span.sort in SECRETS]
        spans = [
            *private,
            *(Span(start, end, TEXT) for start, end in self._lookalikes.spans(data)),
        ]
        pieces, at = [], 0
        for span in _apart(data, spans):
            surface = data[span.start : span.end].decode("utf-8", "surrogatepass")
            pieces += [data[at : span.start], self._names.placeholder(surface, span.sort).encode()]
            at = span.end
        return b"".join([*pieces, data[at:]]).decode("utf-8", "surrogatepass")

    def unmask(self, text: str) -> str:
        """For people: names are put back, however the model has spelt them; secrets read as redacted."""
        return self._placeholders.put_back(text, lambda sort, hidden: REDACTED if sort in SECRETS else hidden)

    def restore(self, text: str) -> str:
        """What was masked, secrets included: restore(mask(x)) is x for any text."""
        return self._placeholders.put_back(text, lambda _, hidden: hidden)

    def strange(self, text: str) -> list[str]:
        """What looks like a placeholder but stands for nothing: an answer with these has been made up in part."""
        return self._placeholders.strange(text)


def redacted(text: str) -> str:
    """The text without its secrets, for good; names and all else stay."""
    masker = Masker(b"here", names_too=False)  # it remembers what it has seen, so none is kept
    return masker.unmask(masker.mask(text))


def _apart(text: bytes, spans: list[Span]) -> list[Span]:
    """The spans in order, grown to whole words, so that placeholders touch nothing; those that meet become one."""
    apart: list[Span] = []
    for span in sorted((_whole(text, span) for span in spans), key=lambda each: (each.start, -each.end)):
        last = apart[-1] if apart else None
        if last is None or span.start > last.end:
            apart.append(span)
        else:
            secret = span.sort if span.sort in SECRETS and last.sort not in SECRETS else last.sort
            apart[-1] = replace(last, end=max(last.end, span.end), sort=secret)
    return apart


def _whole(text: bytes, span: Span) -> Span:
    start, end = span.start, span.end
    while start and _alphanumeric(text[start - 1]):
        start -= 1
    while end < len(text) and _alphanumeric(text[end]):
        end += 1
    return span if (start, end) == (span.start, span.end) else Span(start, end, span.sort)


def _alphanumeric(byte: int) -> bool:
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122
