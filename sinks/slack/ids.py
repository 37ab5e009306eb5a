"""Channels, people and addresses, as settings have them."""

import re
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from kubewhy.addresses import parts, plain

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
    none = "is no address; write https://host/path?for={incident}"
    try:
        found = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError:
        raise ValueError(none) from None
    if set(parts(text, none).netloc) & set("{}"):
        raise ValueError(none)
    if any(name not in PLACEHOLDERS or spec or conversion for name, spec, conversion in found):
        raise ValueError("knows only {" + "}, {".join(PLACEHOLDERS) + "}")
    return text


Base = Annotated[str, AfterValidator(lambda text: f"{plain(text)}/")]
Button = Annotated[str, AfterValidator(_button)]
Channel = Annotated[str, AfterValidator(_channel)]
Label = Annotated[str, Field(min_length=1, max_length=75)]
Member = Annotated[str, AfterValidator(_member)]
