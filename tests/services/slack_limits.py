"""What Slack takes, by its documentation: https://docs.slack.dev/reference/block-kit and /messaging, as of 2026.

Where that leaves room, the narrower reading holds here: lengths are counted in UTF-16, texts are never empty, and keys
that are not documented are refused, though Slack ignores some.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

MESSAGE_BLOCKS = 50
ALL = 12_000
TEXT = 4_000  # of 40 000, from which on Slack cuts; from 4 000 on it may split a message
ATTACHMENTS = 20
METADATA = 8_000

_ENTITY = re.compile(r"&(?!amp;|lt;|gt;)")
_SEQUENCE = re.compile(r"<([^<>]*)>")
_DATE = re.compile(r"!date\^-?\d+\^[^|^]*(\^[^|]*)?\|.+")
_LINK = re.compile(r"(https?://|mailto:)[^|\s]+(\|.+)?")
_CALL = re.compile(
    r"@[UW][A-Z0-9]+(\|.*)?|!subteam\^S[A-Z0-9]+(\|.*)?|!(here|channel|everyone|group)(\|.*)?|#C[A-Z0-9]+(\|.*)?"
)
_PLAIN_CALL = re.compile(r"@(here|channel|everyone|group)\b", re.IGNORECASE)


class Unfit(Exception):
    """The code by which Slack refuses a message, and why."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


def check(message: Mapping[str, Any]) -> None:
    """Raises Unfit for a message that Slack would refuse, cut, or show otherwise than it was meant."""
    text, blocks, attachments = message.get("text"), message.get("blocks", []), message.get("attachments", [])
    if not isinstance(text, str) or not text.strip():
        raise Unfit("no_text", "notifications would be empty")
    if _length(text) > TEXT:
        raise Unfit("msg_too_long", f"text of {_length(text)}")
    _mrkdwn(text, "text")
    _blocks(blocks, "blocks", "invalid_blocks")
    if not isinstance(attachments, list) or len(attachments) > ATTACHMENTS:
        raise Unfit("too_many_attachments", str(attachments)[:100])
    for at, each in enumerate(attachments):
        _attachment(each, f"attachments[{at}]")
    count = len(blocks) + sum(len(each.get("blocks", [])) for each in attachments)
    if count > MESSAGE_BLOCKS:
        raise Unfit("invalid_blocks", f"{count} blocks in all")
    total = sum(map(_length, _texts(blocks))) + sum(map(_length, _texts(attachments)))
    if total > ALL:
        raise Unfit("msg_blocks_too_long", f"{total} characters in all")
    if "metadata" in message:
        _metadata(message["metadata"])


def calls(message: Mapping[str, Any]) -> list[str]:
    """Who is called by it: everything that Slack would show as a mention, in whatever part of the message."""
    found = list[str]()
    for text, heeds_markup in marked({"text": message.get("text", ""), "blocks": message.get("blocks", [])}):
        found += _calls(text, heeds_markup)
    for text, heeds_markup in marked(message.get("attachments", [])):
        found += _calls(text, heeds_markup)
    return found


def _calls(text: str, heeds_markup: bool) -> Iterator[str]:
    if heeds_markup:
        yield from (found for found in _SEQUENCE.findall(text) if _CALL.fullmatch(found))
    # Some clients and settings make these of plain text.
    yield from (found[0] for found in _PLAIN_CALL.finditer(text))


def marked(part: Any) -> Iterator[tuple[str, bool]]:
    """Each text, and whether mark-up is heeded in it."""
    if isinstance(part, list):
        for each in part:
            yield from marked(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in ("text", "fallback", "pretext", "title") and isinstance(value, str):
                yield value, part.get("type") != "plain_text"
            else:
                yield from marked(value)


def _texts(part: Any) -> Iterator[str]:
    """All strings that people see, and addresses."""
    if isinstance(part, list):
        for each in part:
            yield from _texts(each)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in ("text", "url", "alt_text", "value") and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _keys(part: Any, place: str, code: str, needed: set[str], allowed: set[str]) -> None:
    if not isinstance(part, dict):
        raise Unfit(code, f"{place} is no object")
    if missing := needed - part.keys():
        raise Unfit(code, f"{place} lacks {sorted(missing)}")
    if more := part.keys() - needed - allowed:
        raise Unfit(code, f"{place} has {sorted(more)}")


def _attachment(part: Any, place: str) -> None:
    code = "invalid_attachments"
    _keys(part, place, code, {"blocks"}, {"color", "fallback"})
    if not re.fullmatch(r"good|warning|danger|#[0-9a-fA-F]{6}", part.get("color", "good")):
        raise Unfit(code, f"{place}.color is {part['color']}")
    _blocks(part["blocks"], f"{place}.blocks", code)


def _blocks(blocks: Any, place: str, code: str) -> None:
    if not isinstance(blocks, list):
        raise Unfit("invalid_blocks_format", f"{place} is no list")
    if len(blocks) > MESSAGE_BLOCKS:
        raise Unfit(code, f"{place} has {len(blocks)}")
    names = [each["block_id"] for each in blocks if isinstance(each, dict) and "block_id" in each]
    if len(names) != len(set(names)) or any(len(name) > 255 for name in names):
        raise Unfit(code, f"{place} has ids that are too long, or twice")
    for at, block in enumerate(blocks):
        _block(block, f"{place}[{at}]", code)


def _block(block: Any, place: str, code: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    match kind:
        case "header":
            _keys(block, place, code, {"type", "text"}, {"block_id"})
            _text(block["text"], f"{place}.text", code, 150, {"plain_text"})
        case "divider":
            _keys(block, place, code, {"type"}, {"block_id"})
        case "section":
            _section(block, place, code)
        case "context":
            _keys(block, place, code, {"type", "elements"}, {"block_id"})
            for at, each in enumerate(_some(block["elements"], 10, f"{place}.elements", code)):
                _text(each, f"{place}.elements[{at}]", code, 3000, {"plain_text", "mrkdwn"})
        case "actions":
            _keys(block, place, code, {"type", "elements"}, {"block_id"})
            elements = _some(block["elements"], 25, f"{place}.elements", code)
            for at, each in enumerate(elements):
                _button(each, f"{place}.elements[{at}]", code)
            names = [each.get("action_id") for each in elements]
            if len(names) != len(set(names)):
                raise Unfit(code, f"{place} has an action_id twice")
        case _:
            raise Unfit(code, f"{place} is a {kind}, which no message of ours needs")


def _section(block: Any, place: str, code: str) -> None:
    _keys(block, place, code, {"type"}, {"block_id", "text", "fields", "expand"})
    if "text" not in block and "fields" not in block:
        raise Unfit(code, f"{place} is empty")
    if "text" in block:
        _text(block["text"], f"{place}.text", code, 3000, {"plain_text", "mrkdwn"})
    if "fields" in block:
        for at, each in enumerate(_some(block["fields"], 10, f"{place}.fields", code)):
            _text(each, f"{place}.fields[{at}]", code, 2000, {"plain_text", "mrkdwn"})


def _some(each: Any, most: int, place: str, code: str) -> list[Any]:
    if not isinstance(each, list) or not 1 <= len(each) <= most:
        raise Unfit(code, f"{place} must be a list of 1 to {most}")
    return each


def _button(button: Any, place: str, code: str) -> None:
    _keys(button, place, code, {"type", "text"}, {"action_id", "url", "value", "style", "accessibility_label"})
    if button["type"] != "button":
        raise Unfit(code, f"{place} is a {button['type']}")
    _text(button["text"], f"{place}.text", code, 75, {"plain_text"})
    if not 1 <= len(button.get("action_id", "x")) <= 255:
        raise Unfit(code, f"{place}.action_id is too long")
    url = button.get("url", "https://x")
    if _length(url) > 3000 or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise Unfit(code, f"{place}.url is no address")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Unfit(code, f"{place}.url has odd characters")


def _text(part: Any, place: str, code: str, most: int, kinds: set[str]) -> None:
    plain = isinstance(part, dict) and part.get("type") == "plain_text"
    _keys(part, place, code, {"type", "text"}, {"emoji"} if plain else {"verbatim"})
    if part["type"] not in kinds:
        raise Unfit(code, f"{place} is {part['type']}")
    text = part["text"]
    if not isinstance(text, str) or not text.strip():
        raise Unfit(code, f"{place} is empty")
    if _length(text) > most:
        raise Unfit(code, f"{place} must be less than {most + 1} characters")
    if part["type"] == "mrkdwn":
        _mrkdwn(text, place)


def _mrkdwn(text: str, place: str) -> None:
    """No control character that is not part of a sequence: it would be shown as something else."""
    if _ENTITY.search(text):
        raise Unfit("unescaped", f"{place} has a bare &")
    for found in _SEQUENCE.findall(text):
        if not (_DATE.fullmatch(found) or _LINK.fullmatch(found) or _CALL.fullmatch(found)):
            raise Unfit("unescaped", f"{place} has <{found}>")
    if set("<>") & set(_SEQUENCE.sub("", text)):
        raise Unfit("unescaped", f"{place} has a bare < or >")


def _metadata(metadata: Any) -> None:
    code = "invalid_metadata_format"
    _keys(metadata, "metadata", code, {"event_type", "event_payload"}, set())
    if not re.fullmatch(r"[A-Za-z0-9_]{1,255}", metadata["event_type"]):
        raise Unfit(code, "metadata.event_type has odd characters")
    payload = metadata["event_payload"]
    if not isinstance(payload, dict) or not all(isinstance(value, str | int | bool) for value in payload.values()):
        raise Unfit("invalid_metadata_schema", "metadata.event_payload must hold plain values")
    if len(json.dumps(payload)) > METADATA:
        raise Unfit("metadata_too_large", str(len(json.dumps(payload))))
