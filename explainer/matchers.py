"""Matchers on failures, in Alertmanager's words: `namespace="shop",severity!="info",name=~"web-.*"`. Pure.

The grammar is that of UTF-8 matchers (https://prometheus.io/docs/alerting/latest/configuration/#utf-8-strict-mode).
Regular expressions are RE2's, so that none can take more than linear time.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kubewhy.spelling import hint

# What a failure can be matched on; beside these, the labels of its object and of that object's namespace, by prefix.
NAMES = ("cluster", "namespace", "kind", "name", "rule", "severity")
LABEL, NAMESPACE_LABEL = "label:", "namespace-label:"

LONGEST = 4096  # characters of one string of matchers
_MEMORY = 1 << 20  # bytes that one regular expression may take
_SHOWN = 60

_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # White_Space of Unicode
_TOKEN = re.compile(
    rf"""[{_SPACE}]*(?:
        (?P<brace>[{{}}])
      | (?P<comma>,)
      | (?P<operator>=~|!~|!=|=)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<unquoted>[^{_SPACE}{{}}!=~,\\"'`]+)
      | (?P<end>\Z)
      | (?P<odd>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
# Those of a Go string in double quotes: https://go.dev/ref/spec#String_literals
_ESCAPE = re.compile(rb"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|())")
_ESCAPED = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class BadMatcher(ValueError):
    """Says in one line what is wrong, where, and how to mend it."""


class _Pattern(Protocol):
    def fullmatch(self, text: str) -> object | None: ...


@dataclass(frozen=True)
class Matcher:
    """One condition on one label. A label that is absent counts as empty."""

    name: str
    operator: str  # = != =~ or !~
    value: str
    _pattern: _Pattern | None = field(default=None, compare=False, repr=False)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels by these names fit."""
        found = labels.get(self.name, "")
        fits = found == self.value if self._pattern is None else self._pattern.fullmatch(found) is not None
        return fits == self.operator.startswith("=")

    def __str__(self) -> str:
        plain = re.fullmatch(r"[-\w.:/]+", self.name, re.ASCII)
        return f"{self.name if plain else _quoted(self.name)}{self.operator}{_quoted(self.value)}"


Matchers = tuple[Matcher, ...]


def fit(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether all of them match. None at all match everything."""
    return all(matcher.matches(labels) for matcher in matchers)


def match_all(matchers: Iterable[Matcher]) -> bool:
    """Whether they fit also what has no labels at all."""
    return fit(matchers, {})


def parse_all(texts: Iterable[str]) -> Matchers:
    """The matchers of several strings."""
    return tuple(matcher for text in texts for matcher in parse(text))


def parse(text: str) -> Matchers:
    """One or more matchers, separated by commas, with or without braces around them. Raises BadMatcher."""
    if len(text) > LONGEST:
        raise BadMatcher(f"{_shown(text)} has {len(text)} characters; say it in {LONGEST} at most")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _bad(text, error.start, "what is no UTF-8", "write it in UTF-8") from None
    return tuple(_parsed(text, _tokens(text)))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while match := _TOKEN.match(text, at):
        kind = match.lastgroup or "end"
        yield _Token(kind, match[kind], match.start(kind))
        at = match.end()


def _parsed(text: str, tokens: Iterator[_Token]) -> Iterator[Matcher]:
    token = next(tokens)
    braced = token.text == "{" and token.kind == "brace"
    if braced:
        token = next(tokens)
    while not _closes(token):
        name = _named(text, token)
        operator = next(tokens)
        if operator.kind != "operator":
            raise _bad(text, operator.at, "an operator is missing", f"write = != =~ or !~ after {_shown(token.text)}")
        yield _made(text, name, operator.text, next(tokens))
        token = next(tokens)
        if token.kind == "comma":
            token = next(tokens)
        elif not _closes(token):
            raise _bad(text, token.at, "a comma is missing", "put one between two matchers, and quote what has spaces")
    if braced and token.text != "}":
        raise _bad(text, token.at, "the brace is not closed", "end with }, or leave both out")
    if not braced and token.text == "}":
        raise _bad(text, token.at, "no brace was opened", "begin with {, or leave both out")
    after = next(tokens) if token.text == "}" else token
    if after.kind != "end":
        raise _bad(text, after.at, "there is more after the brace", "separate matchers by commas within it")


def _closes(token: _Token) -> bool:
    return token.kind == "end" or (token.kind == "brace" and token.text == "}")


def _named(text: str, token: _Token) -> str:
    if token.kind not in ("quoted", "unquoted"):
        raise _bad(text, token.at, "a label name is missing", 'write name="value"')
    name = _unquoted(text, token)
    if name in NAMES or any(name.startswith(prefix) and name != prefix for prefix in (LABEL, NAMESPACE_LABEL)):
        return name
    known = ", ".join((*NAMES, f"{LABEL}KEY", f"{NAMESPACE_LABEL}KEY"))
    raise _bad(text, token.at, f"nothing is called {_shown(name)}", f"known are {known}{hint(name, NAMES)}")


def _made(text: str, name: str, operator: str, token: _Token) -> Matcher:
    if token.kind not in ("quoted", "unquoted"):
        remedy = 'put it in double quotes, where one within is written \\"'
        raise _bad(text, token.at, f"the value of {name} is missing or cannot stand so", remedy)
    value = _unquoted(text, token)
    if operator in ("=", "!="):
        return Matcher(name, operator, value)
    try:
        return Matcher(name, operator, value, _compiled(value))
    except _BadPattern as error:
        raise _bad(text, token.at, f"this is no regular expression ({error})", "mend it: RE2 has its syntax") from None


class _BadPattern(Exception):
    pass


def _compiled(pattern: str) -> _Pattern:
    import re2  # not before somebody writes a regular expression: it takes time and memory

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        compiled: _Pattern = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0]
        raise _BadPattern(_cut(said.decode(errors="replace") if isinstance(said, bytes) else str(said))) from None
    return compiled


def _unquoted(text: str, token: _Token) -> str:
    """What a token stands for: escapes may also write the bytes of a character one by one."""
    if token.kind == "unquoted":
        return token.text
    within = token.text[1:-1]
    if "\n" in within:
        raise _bad(text, token.at + 1 + within.index("\n"), "a line ends within quotes", "write it as \\n")
    try:
        return _ESCAPE.sub(_meant, within.encode()).decode()
    except UnicodeDecodeError:
        raise _bad(text, token.at, "the escapes make no UTF-8", "write the characters themselves") from None
    except _BadEscape as error:
        at = token.at + 1 + len(within.encode()[: error.at].decode())
        raise _bad(text, at, "no such escape within double quotes", "write a backslash as \\\\") from None


class _BadEscape(Exception):
    def __init__(self, at: int) -> None:
        self.at = at


def _meant(match: re.Match[bytes]) -> bytes:
    letter, byte, short, long, octal, _ = match.groups()
    if letter:
        return _ESCAPED.get(letter, letter)
    try:
        if byte or octal:
            return bytes([int(byte, 16) if byte else int(octal, 8)])
        return chr(int(short or long, 16)).encode()
    except (TypeError, ValueError, OverflowError):
        raise _BadEscape(match.start()) from None


def _quoted(text: str) -> str:
    """In double quotes, so that it is read again as the same."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else _escape(char) for char in escaped) + '"'


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _bad(text: str, at: int, problem: str, remedy: str) -> BadMatcher:
    where = f"at character {at + 1}, {_shown(text[at:])}" if at < len(text) else "at the end"
    return BadMatcher(f"{_shown(text)}: {problem} {where}; {remedy}")


def _shown(text: str) -> str:
    """Within single quotes, on one line, and not too long."""
    return "'" + "".join(char if char.isprintable() else _escape(char) for char in _cut(text)) + "'"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
