"""Regular expressions over bytes, by the longest match and in linear time, whatever stands in the text."""

from collections.abc import Iterator, Sequence
from typing import Any

_UNDERSCORE = ord("_")
_MEMORY = 64 << 20  # bytes that one may take: enough for thousands of names


class Scanner:
    """Finds what one pattern matches, from left to right: of what begins at the same place, the longest."""

    def __init__(self, pattern: str, *, longest: bool = True) -> None:
        import re2  # it takes time and memory, and is only needed where something is masked

        self._pattern = re2.compile(pattern.encode("utf-8", "surrogatepass"), _options(longest))

    def spans(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where it matches. An underscore at the end of one match may begin the next."""
        at: int | None = 0
        while at is not None:
            begun, at = at, None
            for found in self._pattern.finditer(text, begun):
                start, end = found.span()
                if start < end:
                    yield start, end
                if end - 1 > start and text[end - 1] == _UNDERSCORE:
                    at = end - 1
                    break

    def after(self, text: bytes, at: int, end: int | None = None) -> tuple[int, int] | None:
        """The first match from there on, before an end."""
        for found in self._pattern.finditer(text, at, end):
            span: tuple[int, int] = found.span()
            return span
        return None

    def head(self, text: bytes) -> int:
        """How much of the text's beginning it matches."""
        found = self._pattern.match(text)
        return int(found.end()) if found else 0


class Sorter:
    """Says which of some patterns matches the whole of a text."""

    def __init__(self, patterns: Sequence[str]) -> None:
        import re2

        self._set = re2.Set.FullMatchSet(_options(longest=False))
        for pattern in patterns:
            self._set.Add(pattern.encode("utf-8", "surrogatepass"))
        self._set.Compile()

    def matching(self, text: bytes) -> list[int]:
        """The numbers of those that do, the first one first."""
        return sorted(self._set.Match(text) or ())


def _options(longest: bool) -> Any:
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes are matched, so that offsets are theirs
    options.longest_match = longest
    options.log_errors = False
    options.max_mem = _MEMORY
    return options
