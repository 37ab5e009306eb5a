"""Takes the sting out of text that others write: before a model reads it, and before people read what a model says."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable

from explainer import readonly
from explainer.masking.hosts import private

_ANSWER = 4000  # characters of one part of an answer
_PASSES = 9
LINK, COMMAND = "(link removed)", "(command removed)"

# ECMA-48: control sequences, strings such as the title of a window, and single escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_BLANK = dict.fromkeys(map(ord, "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"), " ")  # letters that show nothing
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # they show nothing, and can carry any bytes
_MARK = r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARKS = re.compile(rf"({_MARK}{{2}}){_MARK}+")  # heaps of them hide what stands below


def clean(text: str) -> str:
    """Only what shows: no control but tab and newline, nothing of no width, nothing that turns the direction around."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    text = unicodedata.normalize("NFKC", _shown(text))
    return _MARKS.sub(r"\1", _shown(text))


def _shown(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown_letter, _SELECTORS.sub("", text.translate(_BLANK))))


def _shown_letter(letter: str) -> str:
    if letter in "\n\t":
        return letter
    category = unicodedata.category(letter)
    if letter in "\r\x0b\x0c\x85" or category in {"Zl", "Zp"}:
        return "\n"  # it would begin a line anew, over what stands there
    if category == "Zs":
        return " "
    return "" if category[0] == "C" else letter


def cut(text: str, limit: int) -> str:
    """At most so many characters, the middle left out: beginnings say what it is, and ends how it went."""
    if len(text) <= limit:
        return text
    mark = f" [... {len(text) - limit} characters left out ...] "
    kept = max(limit - len(mark), 0)
    ahead = kept - kept // 2
    return (text[:ahead] + mark + text[len(text) - kept // 2 :])[:limit]


def boundary(texts: Iterable[str], draw: Callable[[], str]) -> str:
    """What encloses these texts and stands in none of them. `draw` gives something that nobody can foresee."""
    lowered = [text.lower() for text in texts]
    while True:
        drawn = draw()
        if not re.fullmatch(r"[A-Za-z0-9]{8,}", drawn):
            raise ValueError("a boundary needs at least eight letters and digits")
        if not any(drawn.lower() in text for text in lowered):
            return drawn


def enclose(name: str, text: str, mark: str) -> str:
    """One piece of data in its frame. The name is ours."""
    return f"<{name} {mark}>\n{text}\n</{name} {mark}>"


_SCHEMES = r"(?:[a-z][a-z0-9+.-]{0,20}://|(?<![A-Za-z0-9])(?:javascript|data|vbscript|mailto|tel|file|blob|about|ms-[a-z-]+):(?=\S))"
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\](?:\([^)\n]*\)?|\[[^\]\n]*\])")
_REFERENCE = re.compile(r"^[ ]{0,3}\[[^\]\n]+\]:[^\n]*$", re.MULTILINE)
_LINKED = re.compile(r"\[([^\[\]\n]*)\]\(\s*<?([^)\s>]*)>?[^)\n]*\)?|\[([^\[\]\n]+)\]\[[^\[\]\n]*\]")
_SLACK = re.compile(rf"<({_SCHEMES}[^|>\s]*)(?:\|([^>\n]*))?>", re.IGNORECASE)
_TAG = re.compile(r"<(?!(?:none|nil|unknown|invalid|unset|pending|no value)>)[/!@#?a-z][^>\n]*>?", re.IGNORECASE)
_ADDRESS = re.compile(rf"(?:{_SCHEMES}|(?<![A-Za-z0-9])www\.)[^\s<>\"'`)\]]*", re.IGNORECASE)
_MENTION = re.compile(r"@{2,}+|(?<![A-Za-z0-9])@(?=[A-Za-z0-9_])")
_BARE_HOST = re.compile(r"(?<![A-Za-z0-9.-])((?:[A-Za-z0-9-]+\.)+)([A-Za-z]{2,})(?![A-Za-z0-9-]|\.\w)")
_ENTITY = re.compile(r"&(?:#\d+;?|#x[0-9a-f]+;?|[a-z]{2,8};)", re.IGNORECASE)


def defuse(
    answer: str, links: Collection[str] = (), hosts: Collection[str] = (), commands: Collection[str] = ()
) -> str:
    """What a model says, without what could be clicked, call somebody, load something, or be run.

    What is ours stays: links as a whole, hosts by name, commands as they are written; so do read-only kubectl commands.
    """
    text = clean(cut(answer, _ANSWER))
    for _ in range(_PASSES):  # what is taken out may bring together what was apart
        disarmed = _disarmed(text, links, hosts, commands)
        if disarmed == text:
            return text
        text = disarmed
    return re.sub(r"[<>@\[\]()/:]", " ", text)


def _disarmed(text: str, links: Collection[str], hosts: Collection[str], commands: Collection[str]) -> str:
    def linked(found: re.Match[str]) -> str:
        words, target = found[1] if found[1] is not None else found[3], found[2] or ""
        return f"{words} ({target})" if target in links else words

    text = _REFERENCE.sub("", _IMAGE.sub(r"\1", _ENTITY.sub("", text)))
    text = _LINKED.sub(linked, text)
    text = _SLACK.sub(lambda found: found[1] if found[1] in links else found[2] or LINK, text)
    text = _TAG.sub("", text).replace("](", "] (")  # half of a link would take its other half from what stands before
    text = readonly.without_commands(text, commands, COMMAND)
    text = _MENTION.sub("", _ADDRESS.sub(lambda found: _ours(found[0], links), text))
    return _BARE_HOST.sub(lambda found: _unlinked(found, links, hosts), text)


def _ours(address: str, links: Collection[str]) -> str:
    plain = address.rstrip(".,;:!?")
    return address if plain in links else LINK + address[len(plain) :]


def _unlinked(found: re.Match[str], links: Collection[str], hosts: Collection[str]) -> str:
    host = f"{found[1]}{found[2]}".lower()
    if host in hosts or any(host in link for link in links) or not private(host):
        return found[0]
    return found[0].replace(".", "[.]")
