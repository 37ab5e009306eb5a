"""Addresses, headers and labels, as settings have them."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from kubewhy.addresses import parts
from kubewhy.keys import Key


def _address(text: str) -> str:
    """Where to post. It may hold a secret in its path or query, so it is never shown whole."""
    found = parts(text)
    if found.username or found.password:
        raise ValueError("must not hold a user or password: use `basic` or `bearer`, or tell where it is by `url_key`")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("has characters that no address has; write them as %XX")
    return text


def _base(text: str) -> str:
    """An address that others are made of."""
    if "?" in text or "#" in text:
        raise ValueError("must have neither ? nor #")
    return text.rstrip("/")


def _name(told: object) -> object:
    if isinstance(told, str) and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", told):
        raise ValueError("is no name of a header: write letters, digits and -, as in X-Team")
    if isinstance(told, str) and told.lower() in _OURS:
        raise ValueError(f"{told} is set by kubewhy itself")
    return told


def _value(told: object) -> object:
    if isinstance(told, str) and not (told.isascii() and told.isprintable()):
        raise ValueError("a header is one line of plain ASCII")
    return told


def _label(told: object) -> object:
    if isinstance(told, str) and not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]{0,99}", told):
        raise ValueError("is no name of a label: write letters, digits and _, as in team_name")
    if told in _RESERVED:
        raise ValueError(f"{told} is set by kubewhy itself; choose another name")
    return told


_OURS = {
    *("content-length", "content-type", "cookie", "host", "transfer-encoding", "connection", "accept-encoding"),
    *("user-agent", "idempotency-key", "x-kubewhy-timestamp", "x-kubewhy-signature"),
}
# What kubewhy itself says of each incident.
_RESERVED = {"alertname", "severity", "cluster", "namespace", "kind", "name", "incident"}
Address = Annotated[str, AfterValidator(_address)]
BaseAddress = Annotated[Address, AfterValidator(_base)]
HeaderName = Annotated[str, BeforeValidator(_name)]
_Text = Annotated[str, BeforeValidator(_value), Field(max_length=4000), Tag("{text}")]
HeaderValue = Annotated[
    _Text | Annotated[Key, Tag("{place}")], Discriminator(lambda told: "{text}" if isinstance(told, str) else "{place}")
]
LabelName = Annotated[str, BeforeValidator(_label)]
