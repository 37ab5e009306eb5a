"""What is private by its shape, whatever it is called: addresses, hosts, identifiers, and secrets of all kinds."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from explainer.masking import hosts, messages
from explainer.masking.commonplace import UNSAID, WORDS
from explainer.masking.hosts import Part
from explainer.masking.scanning import Scanner, Sorter
from explainer.masking.tokens import EQUALS, FLAG, KEY, TOKENS, WEBHOOKS

# What is masked for good: whoever reads an answer sees that something was there, and no more.
SECRET = "CREDENTIAL"
SECRETS = frozenset({SECRET, "TOKEN", "PRIVATEKEY", "DATA"})


@dataclass(frozen=True)
class Shape:
    """A pattern, and which parts of what it matches are hidden. None: it was not what it seemed."""

    pattern: str
    hidden: Callable[[str], list[Part]]
    doubt: int = 0  # what was not what it seemed may hold something of less doubt


@dataclass(frozen=True)
class Span:
    """A part of a text to be masked."""

    start: int
    end: int
    sort: str


class Shapes:
    """Finds shapes in a text: of those that begin at the same place, the longest."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = tuple(shapes)
        self._scanner = Scanner("|".join(f"(?:{shape.pattern})" for shape in shapes))
        self._sorter = Sorter([shape.pattern for shape in shapes])
        self._told: dict[bytes, list[Part]] = {}
        most = max(shape.doubt for shape in shapes)
        self._surer = Shapes([shape for shape in shapes if shape.doubt < most]) if most else None

    def spans(self, text: bytes) -> Iterator[Span]:
        """What is to be hidden. Where two overlap, both are."""
        for start, end in self._scanner.spans(text):
            yield from self._at(text, start, end)

    def _at(self, text: bytes, start: int, end: int) -> list[Span]:
        spans = self._hidden(text, start, end)
        if not spans and self._surer and (end - start > 16 or _ANY.search(text, start, end)):
            return self._surer._within(text, start, end)
        return spans

    def _within(self, text: bytes, start: int, end: int) -> list[Span]:
        """What begins there. It may reach beyond."""
        spans: list[Span] = []
        at, window = max(start - 1, 0), min(end + 256, len(text))
        while at < end:
            found = self._scanner.after(text, at, window)
            if found and found[1] == window:
                found = self._scanner.after(text, at)
            if not found or found[0] >= end:
                break
            spans += self._at(text, *found)
            at = found[1]
        return spans

    def _hidden(self, text: bytes, start: int, end: int) -> list[Span]:
        surface = text[start:end]
        parts = self._told.get(surface)
        if parts is None:
            parts = self._parts(surface)
            # The same names come again and again. Secrets are not kept, nor what is long.
            if len(surface) < _LONG and not any(sort in SECRETS for _, _, sort in parts):
                if len(self._told) >= _KEPT:
                    self._told.clear()
                self._told[surface] = parts
        return [Span(start + begin, start + stop, sort) for begin, stop, sort in parts]

    def _parts(self, surface: bytes) -> list[Part]:
        # Latin 1 keeps the offsets those of bytes; nothing here looks at other letters.
        plain = surface.decode("latin-1")
        return next(filter(None, (self._shapes[each].hidden(plain) for each in self._sorter.matching(surface))), [])


_LONG, _KEPT = 128, 4096
_ANY = re.compile(rb"[^A-Za-z._-]")  # without one of these, nothing short can be private in it
_EDGE = r"(?:\b|_)"
_QUOTED = r"[^\s\"'`;&<>]"
_BARE = rf"{_QUOTED}*[^\s\"'`;&<>,.)\]}}:\\]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_HEX4 = r"[0-9A-Fa-f]{1,4}"
_IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_MASKED = re.compile(r"[*•xX.]{3,}|\$\(\w+\)?|\$\{\w+\}?|\[?redacted\]?", re.IGNORECASE)


def hidden(pattern: str, sort: str, head: str = "", fits: Callable[[str], bool] = bool, *, doubt: int = 0) -> Shape:
    """What comes after the head is hidden if it fits."""
    before = cache(lambda: Scanner(head, longest=False))

    def parts(surface: str) -> list[Part]:
        start = before().head(surface.encode("latin-1")) if head else int(surface.startswith("_"))
        return [(start, len(surface), sort)] if fits(surface[start:]) else []

    return Shape(head + pattern, parts, doubt)


def _word(value: str) -> bool:
    return value.lower() not in WORDS and value.lower() not in UNSAID and _MASKED.fullmatch(value) is None


def _value(surface: str) -> list[Part]:
    """Of a key and its value, the value; not where a sentence goes on after a colon, or numbers are counted."""
    start = _before_value().head(surface.encode("latin-1"))
    value, head = surface[start:], surface[:start]
    if (
        value.lower() in UNSAID
        or _MASKED.fullmatch(value)
        or (re.search(r"(?i)pwd\W+$", head) and re.fullmatch(r"/[\w./-]*", value))
    ):
        return []
    if re.search(r"[^\"']: $", head) and value.lower() in WORDS:
        return []
    if re.search(r"(?i)(?:tokens|pin|auth|secrets?|credentials)\W+$", head) and re.fullmatch(r"\d{1,3}", value):
        return []
    return [(start, len(surface), SECRET)]


def _credentials(surface: str) -> list[Part]:
    return [(surface.index("://") + 3, len(surface) - 1, SECRET)]


def _userinfo(surface: str) -> list[Part]:
    return [(0, surface.rindex("@"), SECRET)]


def _url_host(surface: str) -> list[Part]:
    start = max(surface.index("://") + 3, surface.rfind("@") + 1)
    return _moved(hosts.parts(surface[start:], sure=True), start)


def _moved(parts: list[Part], by: int) -> list[Part]:
    return [(start + by, end + by, sort) for start, end, sort in parts]


def _address(surface: str) -> list[Part]:
    start = int(surface.startswith("_"))
    return _moved(hosts.address(surface[start:]), start)


def _host(surface: str) -> list[Part]:
    start = int(surface.startswith("_"))
    return _moved(hosts.parts(surface[start:]), start)


def _after_host_word(surface: str) -> list[Part]:
    start = _before_host().head(surface.encode("latin-1"))
    name = surface[start:]
    if name.isdigit():
        return []
    return _moved(hosts.parts(name, sure=True), start)


def _hex(surface: str) -> list[Part]:
    start = int(surface.startswith("_"))
    text = surface[start:]
    mixed = re.search(r"[a-fA-F]", text) and re.search(r"\d", text)
    return [(start, len(surface), "HEX")] if mixed else []


def _base64(surface: str) -> list[Part]:
    """Letters and digits that change as often as chance has it: neither words in camel case nor paths."""
    start = int(surface.startswith("_"))
    text = surface[start:].rstrip("=")
    classes = re.sub(r"[-_+/]", "-", re.sub(r"\d", "0", re.sub(r"[A-Z]", "A", re.sub(r"[a-z]", "a", text))))
    changes = sum(one != other for one, other in pairwise(classes)) / max(len(text), 1)
    kinds = set(classes)
    if kinds >= {"a", "A", "0"}:
        chance = changes >= (0.38 if len(text) < 40 else 0.35)
    else:
        chance = "0" in kinds and "-" not in kinds and len(kinds) > 1 and len(text) >= 24 and changes >= 0.3
    return [(start, len(surface), "DATA")] if chance else []


_before_value = cache(
    lambda: Scanner(rf"(?:{KEY}{EQUALS}|{FLAG}[ \t]+)(?:\\*[\"'`])?", longest=False),
)
_HOST_WORD = (
    r"(?i:\b(?:lookup|resolv(?:e|ing)|no such host:?|unknown host:?|host ?name|to host|dial (?:tcp|udp)[46]?)"
    r"[ \t]+[\"']?"
    r"|[A-Za-z0-9_.-]*(?:host|hostname|server|servers|addr|address|endpoint|brokers?|upstream|nodename)"
    rf"{EQUALS}(?:\\*[\"'])?)"
)
_before_host = cache(lambda: Scanner(_HOST_WORD, longest=False))

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_SECRET_SHAPES = (
    hidden(rf"{_EDGE}(?:{'|'.join(TOKENS)})", "TOKEN"),
    *(hidden(pattern, "TOKEN") for pattern in WEBHOOKS),
    hidden(r"-----BEGIN [A-Z0-9 ]+-----(?:(?:[^-]|-[^-])*-----END [A-Z0-9 ]+-----|[A-Za-z0-9+/=\s\\]*)", "PRIVATEKEY"),
    Shape(rf"(?:{KEY}{EQUALS}|{FLAG}[ \t]+){_BARE}", _value),
    Shape(rf"(?:{KEY}{EQUALS}|{FLAG}[ \t]+)\"(?:[^\"\\\n]|\\[^\n])+", _value),
    Shape(rf"(?:{KEY}{EQUALS}|{FLAG}[ \t]+)'[^'\n]+", _value),
    Shape(rf"(?:{KEY}{EQUALS}|{FLAG}[ \t]+)\\+[\"'][^\"'\\\n]+", _value),
    hidden(
        r"[^\s\"'\\,]+",
        SECRET,
        rf"(?i:authorization{EQUALS}(?:\\*[\"'])?(?:(?:bearer|basic|token|apikey|negotiate)[ \t]+)?)",
        _word,
    ),
    hidden(r"[^\n]+", SECRET, rf"(?i:authorization{EQUALS}(?:\\*[\"'])?(?:digest|aws4-hmac-sha256)[ \t]+)"),
    hidden(r"[^\n\"']+", SECRET, rf"(?i:\b(?:set-)?cookie{EQUALS}(?:\\*[\"'])?)"),
    hidden(
        r"[A-Za-z0-9._~+/=-]{8,}",
        SECRET,
        r"(?i:\b(?:bearer|basic)[ \t]+)",
        lambda value: re.search(r"\d|=|[a-z][A-Z]", value) is not None,
    ),
    Shape(rf"{_SCHEME}[^\s/\"'<>]+@", _credentials),
    Shape(rf"{_SCHEME}[^\s:/@\"'<>]*:[^\s@\"'<>]+@", _credentials),
    Shape(r"[A-Za-z0-9_.-]+:[^\s@\"']+@(?:tcp|unix|udp)\(", _userinfo),
    hidden(r"[^\s\"']+", SECRET, r"(?:-u|--user)[ \t]+[\"']?[^\s:\"']+:"),
)
_NAMED_SHAPES = (
    hidden(r"[A-Za-z0-9._%+'-]*[A-Za-z0-9_%+]@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", "EMAIL"),
    # Where a message was cut.
    hidden(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9.-]*\.\.\.", "EMAIL"),
    hidden(rf"{_EDGE}{_LABEL}(?:\.{_LABEL})+\.\.\.", "HOST"),
    Shape(rf"{_EDGE}[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3,}}(?:/[0-9]{{1,2}})?", _address),
    Shape(
        rf"(?:{_EDGE}(?:{_HEX4}:){{7}}{_HEX4}\b"
        rf"|(?:{_EDGE}{_HEX4}(?::{_HEX4}){{0,6}}|\B)::(?:{_HEX4}(?::{_HEX4}){{0,6}}\b)?(?::{_IPV4})?)"
        r"(?:%[A-Za-z0-9]+)?(?:/[0-9]{1,3})?",
        _address,
    ),
    hidden(rf"{_EDGE}(?:[0-9A-Fa-f]{{2}}[:-]){{5}}[0-9A-Fa-f]{{2}}", "MAC"),
    hidden(rf"{_EDGE}(?:ip-)?[0-9]{{1,3}}(?:-[0-9]{{1,3}}){{3}}", "IP", fits=lambda text: "--" not in text),
    hidden(rf"{_EDGE}[0-9A-Fa-f]{{8}}(?:[-_][0-9A-Fa-f]{{4}}){{3}}[-_][0-9A-Fa-f]{{12}}", "UID"),
    hidden(r"[0-9A-Fa-f]{6,}", "DIGEST", r"\b(?:sha1|sha256|sha512|md5)[:-]"),
    hidden(r"[0-9A-Fa-f]{6,}", "ID", r"\b(?:containerd|docker|cri-o|podman)://"),
    hidden(rf"{_EDGE}(?:i|vol|subnet|vpc|sg|eni|ami|snap|rtb|igw|nat|lt|tgw)-[0-9a-f]{{8,17}}", "ID"),
    hidden(r"\barn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:[0-9]*:[A-Za-z0-9_/.:*-]*[A-Za-z0-9_/*]", "ARN"),
    hidden(r"[^\s/\"':<>]*[^\s/\"':<>.,;)\]]", "USER", r"(?:/home|/Users|\\Users)[/\\]", _word),
    *(hidden(pattern, sort, head, messages.unspoken, doubt=2) for pattern, sort, head in messages.MENTIONS),
    *(hidden(pattern, sort, head, messages.unusual, doubt=2) for pattern, sort, head in messages.UNQUOTED),
    hidden(messages.USER, "USER", messages.USER_HEAD, lambda name: not name.startswith("system:"), doubt=2),
    Shape(messages.PAIR, messages.pair, doubt=2),
    Shape(messages.ASSIGNED, messages.assigned),
    Shape(messages.IMAGE, messages.image, doubt=2),
    Shape(messages.IMAGE_OF_ALL, messages.image_parts),
    Shape(messages.LOG_NAME, messages.log_name),
    Shape(messages.ACCOUNT, messages.account),
    Shape(rf"{_SCHEME}(?:[^\s/\"'<>]+@|[^\s:/@\"'<>]*:[^\s@\"'<>]+@)?{_LABEL}(?:\.{_LABEL})*", _url_host),
    Shape(rf"{_HOST_WORD}{_LABEL}(?:\.{_LABEL})*", _after_host_word, doubt=2),
    Shape(rf"{_EDGE}{_LABEL}(?:\.{_LABEL})*\.(?:[A-Za-z]{{2,}}|xn--[a-z0-9-]+)", _host, doubt=1),
    Shape(rf"{_EDGE}[0-9A-Fa-f]{{12,}}", _hex, doubt=1),
    Shape(rf"{_EDGE}[A-Za-z0-9+/_-]{{24,}}={{0,2}}|{_EDGE}[A-Za-z0-9+/]{{14,}}={{1,2}}", _base64, doubt=1),
)


@cache
def shapes() -> tuple[Shapes, ...]:
    """All of them, compiled once. Secrets are looked for by themselves, so that nothing else can hide one."""
    return Shapes(_SECRET_SHAPES), Shapes(_NAMED_SHAPES)
