"""Text of others in Slack's mark-up: it formats nothing, links nothing, calls nobody, and fits.

Slack counts what is sent, in which three characters are entities (https://docs.slack.dev/messaging/formatting-message-text).
Whether it counts letters beyond the basic plane as one or as two it does not say: here they are two.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence

from kubewhy.plain import clean

MORE = "…"
TEXT = 3000  # what one text may take

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# What begins or ends a word may begin or end bold, italic and struck text; within a word it may not.
_FORMATS = re.compile(r"(?<!\w)[*_~]|[*_~](?!\w)|`")
_EMOJI = re.compile(r":(?=[a-z0-9_+'-]*[a-z][a-z0-9_+'-]*:)")
_CALLS = re.compile(r"@(?=here|channel|everyone|group)", re.IGNORECASE)
# Each has the look of what it stands for, and no meaning.
_LOOKALIKES = {"*": "\u2217", "_": "\uff3f", "~": "\u223c", "`": "\u02cb", "@": "\uff20", ":": "\ua789"}
_NO_ENTITIES = str.maketrans({"&": "\uff06", "<": "\u2039", ">": "\u203a"})


def prose(text: str, limit: int) -> str:
    """One line of somebody else's, for where mark-up is heeded."""
    plain = _FORMATS.sub(_lookalike, _EMOJI.sub(_lookalike, _unlinked(text)))
    return _fit(" ".join(plain.split()), limit)


def verbatim(text: str, limit: int) -> str:
    """One line of somebody else's, to stand between backticks."""
    return _fit(_unlinked(text).replace("`", _LOOKALIKES["`"]), limit)


def unformatted(text: str, limit: int) -> str:
    """One line of somebody else's, for plain text, in which entities may or may not be shown as what they stand for."""
    return _fit(" ".join(_unlinked(text).translate(_NO_ENTITIES).split()), limit)


def size(text: str) -> int:
    """How long Slack may think it is."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def lines(each: Sequence[str], limit: int, more: str = "and {} more") -> str:
    """So many whole lines as fit, and how many there are besides."""
    kept, used = list[str](), 0
    for at, line in enumerate(each):
        rest = len(each) - at
        note = size(more.format(rest)) + 1
        if used + size(line) + 1 + (note if rest > 1 else 0) > limit:
            kept.append(more.format(rest))
            break
        kept.append(line)
        used += size(line) + 1
    return "\n".join(kept)


def _unlinked(text: str) -> str:
    return _CALLS.sub(_lookalike, clean(text))


def _lookalike(found: re.Match[str]) -> str:
    return _LOOKALIKES[found[0]]


def _fit(text: str, limit: int) -> str:
    """So much of it as fits, with entities for what Slack would take for control characters."""
    whole = text.translate(_ENTITIES)
    if size(whole) <= limit:
        return whole
    most = limit - len(MORE)
    kept = bisect_right(range(most + 1), most, key=lambda count: size(text[:count].translate(_ENTITIES))) - 1
    return text[:kept].translate(_ENTITIES).rstrip() + MORE
