"""What a namespace may be called, and what someone may have meant who wrote a word that is not known."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# RFC 1123 label, as the API asks of namespaces.
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_namespace(name: str) -> bool:
    """Whether a namespace can be called so."""
    return _NAMESPACE.fullmatch(name) is not None


def hint(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known word, or nothing where none is near."""
    near = get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
