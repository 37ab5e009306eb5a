"""A Slack message as lines for a terminal, where nobody has a Slack at hand. Pure."""

import html
import re
from collections.abc import Iterator
from typing import Any

from sinks.slack.blocks import Message

_INDENT = "    "
# Links and dates by what they show, then what is bold, slanted or verbatim.
_LINK = re.compile(r"<(?:[^<>|]*\|)?([^<>]*)>")
_STYLE = re.compile(r"(?<!\w)([*_`])(?=\S)([^\n]*?\S)\1(?!\w)")


def shown(message: Message) -> str:
    """What stands beside the bar is indented."""
    head = [line for block in message.get("blocks", ()) for line in _lines(block)]
    body = [line for each in message.get("attachments", ()) for block in each["blocks"] for line in _lines(block)]
    return "\n".join([*head, *(f"{_INDENT}{line}" for line in body)])


def beneath(message: Message) -> str:
    """In the thread."""
    return "\n".join(f"{_INDENT}> {line}" for line in shown(message).splitlines())


def _lines(block: dict[str, Any]) -> Iterator[str]:
    if "fields" in block:
        yield from (_plain(each["text"]).replace("\n", ": ", 1) for each in block["fields"])
    elif block["type"] == "actions":
        yield " ".join(f"[{each['text']['text']}]" for each in block["elements"])
    elif "elements" in block:
        yield from (_plain(each["text"]) for each in block["elements"])
    elif block["text"]["type"] == "plain_text":
        yield block["text"]["text"]
    else:
        yield from (_plain(line) for line in block["text"]["text"].splitlines() if line != "```")


def _plain(markup: str) -> str:
    return html.unescape(_STYLE.sub(r"\2", _LINK.sub(r"\1", markup)))
