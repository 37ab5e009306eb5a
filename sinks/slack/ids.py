"""Channels, people and addresses, as settings have them."""

import re
from string import Formatter
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

PLACEHOLDERS = ("cluster", "namespace", "kind", "name", "incident", "rule")


def _channel(text: str) -> str:
    if re.fullmatch("[CGD][A-Z0-9]{2,20}", text):
        return text
    raise ValueError("write the channel's ID, as in C0123456789: Slack shows it at the end of the channel's details")


def _member(text: str) -> str:
    if re.fullmatch("[UWS][A-Z0-9]{2,20}", text):
        return text
    raise ValueError("write the ID of a member or of a user group, as in U0123456789 or S0123456789")


def _button(text: str) -> str:
    """An address with placeholders, so that it leads to just this incident."""
    try:
        found = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is no address; write https://host/path?for={incident}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or set(parts.netloc) & set("{}"):
        raise ValueError("is no address; write https://host/path?for={incident}")
    if any(name not in PLACEHOLDERS or spec or conversion for name, spec, conversion in found):
        raise ValueError("knows only {" + "}, {".join(PLACEHOLDERS) + "}")
    return text


def _base(text: str) -> str:
    """An address that may be shown: it holds no secret."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is no address; write https://host/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("is no address; write https://host/path")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have neither user nor password nor ? nor #")
    return text


Base = Annotated[str, AfterValidator(_base)]
Button = Annotated[str, AfterValidator(_button)]
Channel = Annotated[str, AfterValidator(_channel)]
Label = Annotated[str, Field(min_length=1, max_length=75)]
Member = Annotated[str, AfterValidator(_member)]
