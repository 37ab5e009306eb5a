"""Text of others in Slack's mark-up: it formats nothing, links nothing, calls nobody, and fits.

Slack counts what is sent, in which three characters are entities (https://docs.slack.dev/messaging/formatting-message-text).
Whether it counts letters beyond the basic plane as one or as two it does not say: here they are two.
"""

import re
from collections.abc import Sequence

from kubewhy.plain import clean

MORE = "…"

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What begins or ends a word may begin or end bold, italic and struck text; within a word it may not.
_FORMATS = re.compile(r"(?<!\w)[*_~]|[*_~](?!\w)|`")
_EMOJI = re.compile(r":(?=[a-z0-9_+'-]*[a-z][a-z0-9_+'-]*:)")
_CALLS = re.compile(r"@(?=(?:here|channel|everyone|group)\b)", re.IGNORECASE)
# Each has the look of what it stands for, and no meaning.
_LOOKALIKES = {"*": "\u2217", "_": "\uff3f", "~": "\u223c", "`": "\u02cb", "@": "\uff20", ":": "\ua789"}


def prose(text: str, limit: int) -> str:
    """One line of somebody else's, for where mark-up is heeded."""
    plain = _FORMATS.sub(_lookalike, _EMOJI.sub(_lookalike, _unlinked(text)))
    return fit(" ".join(plain.split()), limit)


def verbatim(text: str, limit: int) -> str:
    """One line of somebody else's, to stand between backticks."""
    return fit(_unlinked(text).replace("`", _LOOKALIKES["`"]), limit)


def unformatted(text: str, limit: int) -> str:
    """One line of somebody else's, for where Slack heeds no mark-up and no entities."""
    return _cut(" ".join(_unlinked(text).split()), limit, entities=False)


def fit(text: str, limit: int) -> str:
    """The text with entities, so much of it as fits."""
    return escaped(_cut(text, limit, entities=True))


def escaped(text: str) -> str:
    """What Slack would take for control sequences, as it is to be seen."""
    return "".join(_ENTITIES.get(letter, letter) for letter in text)


def size(text: str) -> int:
    """How long Slack may think it is."""
    return len(text) + sum(letter > "\uffff" for letter in text)


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


def _cut(text: str, limit: int, *, entities: bool) -> str:
    used, last = 0, 0  # `last` is where to cut, should it not fit
    for at, letter in enumerate(text):
        used += size(_ENTITIES.get(letter, letter) if entities else letter)
        if used <= limit - len(MORE):
            last = at + 1
        if used > limit:
            return text[:last].rstrip() + MORE
    return text
