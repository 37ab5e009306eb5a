"""Finds the names that are known in a text: as whole words, in any case, and with what is joined to them by hyphens."""

import re
from collections.abc import Iterable, Iterator
from functools import partial

from explainer.masking.commonplace import WORDS
from explainer.masking.hosts import Part
from explainer.masking.messages import KINDS, NAMESPACE_FLAG, image_parts, named
from explainer.masking.placeholders import NAME, Placeholders, sort_word
from explainer.masking.scanning import Scanner
from explainer.masking.shapes import SECRETS, Shape, Shapes, Span
from kubewhy.kube.naming import Name

_GENERATED = re.compile(r"(?:-(?:[bcdfghjklmnpqrstvwxz2456789]+|[a-z]*\d[a-z0-9]*))+")  # as controllers name things
_JOINED_RIGHT = re.compile(rb"(?:-+[A-Za-z0-9]+)+")
_JOINING = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONGEST = 253
_ANY_KIND = "|".join(KINDS.values())


class Names:
    """The names of one incident, and where they stand in a text."""

    def __init__(self, names: Iterable[Name], placeholders: Placeholders) -> None:
        self._placeholders = placeholders
        sorts: dict[str, set[str]] = {}
        for sort, text in (part for name in names for part in _parts(name)):
            if text and named(text):
                word = sort_word(sort)
                sorts.setdefault(text, set()).add(NAME if word in SECRETS else word)
        self._tags: dict[str, str] = {}
        for text in sorted(sorts, key=lambda each: (len(each), each)):
            sort = next(iter(sorts[text])) if len(sorts[text]) == 1 else NAME
            made = placeholders.make(text, sort, self._owner(text))
            self._tags.setdefault(_folded(text), made.partition("_")[2])
        plain = [text for text in self._tags if _plain(text)]
        self._plain = Scanner(f"(?i:{'|'.join(_words(plain))})") if plain else None
        common = {text: sorts[text] for text in sorts if not _plain(_folded(text))}
        self._common = Shapes(list(_contexts(common, set(self._tags)))) if common else None

    def spans(self, text: bytes) -> Iterator[Span]:
        """Where they stand, with all that is joined to them: a name within a name is a name."""
        for start, end in self._plain.spans(text) if self._plain else ():
            start += text[start : start + 1] == b"_"
            end -= text[end - 1 : end] == b"_"
            right = _JOINED_RIGHT.match(text, end, end + _LONGEST)
            yield Span(_joined_left(text, start), right.end() if right else end, NAME)
        if self._common:
            yield from self._common.spans(text)

    def placeholder(self, text: str, sort: str) -> str:
        """What stands for a text that was found: one that holds a name is told to belong to it."""
        if sort in SECRETS:
            return self._placeholders.make(text, sort, secret=True)
        return self._placeholders.known(text) or self._placeholders.make(text, sort, self._holds(_folded(text)))

    def _holds(self, folded: str) -> str:
        if folded in self._tags:
            return self._tags[folded]
        parts = folded.split("-")
        if len(parts) > 16 or len(folded) > _LONGEST:
            return ""
        for size in range(len(parts) - 1, 0, -1):
            for first in range(len(parts) - size + 1):
                if tag := self._tags.get("-".join(parts[first : first + size])):
                    return tag
        return ""

    def _owner(self, text: str) -> str:
        """The tag of the shortest name of which it is one that a controller has made."""
        for end in (found.start() for found in re.finditer("-", text)):
            tag = self._tags.get(_folded(text[:end]))
            if tag and _GENERATED.fullmatch(text, end):
                return tag
        return ""


def _joined_left(text: bytes, start: int) -> int:
    if text[start - 1 : start] != b"-":
        return start
    before = text[max(0, start - _LONGEST) : start]
    joined = before[len(before.rstrip(_JOINING)) :]
    return start - len(joined.lstrip(b"-"))


def _folded(text: str) -> str:
    return re.sub(r"[_.]", "-", text.lower())


def _plain(folded: str) -> bool:
    """Whether a word is a name wherever it stands."""
    return len(folded) > 2 and folded not in WORDS and not folded.isdigit()


def _parts(name: Name) -> Iterator[Name]:
    """An image's name is masked by its parts, so that they can be told apart: where it is from, and what it is."""
    if name.sort.lower() != "image":
        yield name
        return
    for start, end, sort in image_parts(name.text):
        part = name.text[start:end]
        yield Name("registry" if sort == "HOST" else sort, part)
        if sort == "IMAGE":
            yield from (Name(sort, each) for each in part.split("/"))


def _words(texts: list[str]) -> Iterator[str]:
    """Patterns of these as whole words. What does not begin or end in a letter needs no end of a word there."""
    edges = [(text[0].isalnum() and text[0].isascii(), text[-1].isalnum() and text[-1].isascii()) for text in texts]
    for edge in sorted(set(edges)):
        alike = [text for text, its in zip(texts, edges, strict=True) if its == edge]
        before, after = (r"(?:\b|_)" if each else "" for each in edge)
        yield f"{before}(?:{_either(alike)}){after}"


def _either(texts: Iterable[str]) -> str:
    """Any of these, whichever of hyphen, dot and underscore stands between their words."""
    return "|".join("".join(map(_escaped, text.encode("utf-8", "surrogatepass"))) for text in sorted(texts))


def _escaped(byte: int) -> str:
    letter = chr(byte)
    if letter in "-._":
        return "[-_.]"
    return letter if letter.isalnum() and letter.isascii() else f"\\x{byte:02x}"


def _contexts(common: dict[str, set[str]], known: set[str]) -> Iterator[Shape]:
    """Where a word that anyone may write is surely a name: after its kind, in quotes, beside a slash or a hash."""
    for sort in sorted({sort for sorts in common.values() for sort in sorts}):
        words = f"(?i:{_either(text for text, sorts in common.items() if sort in sorts)})"
        kinds = KINDS.get(sort, re.escape(sort.lower()))
        before = rf"(?i:\b(?:{kinds})(?:[ =]|: ?)(?:(?:named|name)[ =])?[\"'`]?)"
        if sort == "NAMESPACE":
            before = f"(?:{before}|{NAMESPACE_FLAG})"
        yield Shape(rf"{before}{words}\b", partial(_last_word, sort))
        yield Shape(rf"(?i:\b(?:{_ANY_KIND})(?:\.[a-z.]+)?)/{words}\b", partial(_last_word, sort))
        yield Shape(rf"[\"'`]{words}[\"'`]|_{words}\(", partial(_inner, sort))
        yield Shape(rf"\b{words}(?:-[bcdfghjklmnpqrstvwxz2456789]{{5,10}}|-[0-9]{{1,10}})+", _whole)
        yield Shape(rf"\b[A-Za-z0-9.-]+/{words}\b|\b{words}/[A-Za-z0-9][A-Za-z0-9.-]*", partial(_beside, known))


def _whole(surface: str) -> list[Part]:
    return [(0, len(surface), NAME)]


def _inner(sort: str, surface: str) -> list[Part]:
    return [(1, len(surface) - 1, sort)]


def _last_word(sort: str, surface: str) -> list[Part]:
    found = re.search(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z", surface)
    return [(found.start(), len(surface), sort)] if found else []


def _beside(known: set[str], surface: str) -> list[Part]:
    left, _, right = surface.partition("/")
    both = _folded(left) in known and _folded(right) in known
    return [(0, len(left), NAME), (len(left) + 1, len(surface), NAME)] if both else []
