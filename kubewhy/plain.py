"""Text of others as people may be shown it, and lengths of time as they say them."""

import re
import unicodedata
from datetime import datetime

# ECMA-48: control sequences, and strings up to their terminator, each also in its 8-bit form. An unended string takes
# only its introducer, so that nothing after it can be hidden.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
# Invisible, although Unicode does not call them format characters: fillers, joiners and variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SPACES = {"Zl", "Zp"}
_DROPPED = {"Cc", "Cf", "Cs", "Co", "Cn"}


class _Shown(dict[int, str]):
    """What is shown of each letter, by its code point, as `str.translate` asks for it."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        category = unicodedata.category(letter)
        if letter in "\t\n\r\v\f\x85" or category in _SPACES:
            shown = " "
        else:
            shown = "" if category in _DROPPED else letter
        self[code] = shown
        return shown


_SHOWN = _Shown()


def clean(text: str) -> str:
    """One line a terminal shows as it is: no control, escape, bidi or invisible characters."""
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub("", _ESCAPE.sub("", text)).translate(_SHOWN)


def age(since: datetime, now: datetime) -> str:
    """How long, as kubectl says it: the two largest units while small."""
    seconds = max(0, int((now - since).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 2:
        return f"{seconds}s"
    if hours < 2:
        return f"{minutes}m"
    if days < 2:
        return f"{hours}h{minutes % 60}m" if hours < 10 and minutes % 60 else f"{hours}h"
    return f"{days}d"
