"""Addresses that people write into settings."""

from urllib.parse import SplitResult, urlsplit

NONE = "is no address; write https://host/path"


def parts(text: str, none: str = NONE) -> SplitResult:
    """Of an address of HTTP. Raises ValueError, which says `none`, where it is no such."""
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError:
        raise ValueError(none) from None
    if found.scheme not in ("http", "https") or not found.hostname or port == 0:
        raise ValueError(none)
    return found


def plain(text: str, remedy: str = "") -> str:
    """A base address that may be shown: it holds no secret. Raises ValueError where it may."""
    found = parts(text)
    if found.username or found.password or found.query or found.fragment:
        raise ValueError(f"must have neither user nor password nor ? nor #{remedy}")
    return text.rstrip("/")
