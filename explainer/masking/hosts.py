"""Which dotted names are hosts of somebody's own, and which are file names, fields, API groups or known to all."""

import ipaddress
import re

from explainer.masking.commonplace import CODE, DOMAINS, ENDINGS, EVERYWHERE, SHARED, WORDS

Part = tuple[int, int, str]  # from, to, and of which sort

_BELOW = tuple(f".{each}" for each in SHARED)
_COUNTRIES = {"cc", "md", "pl", "py", "rs", "sc", "sh", "so"}  # of which files have the endings, too
_FOUR = re.compile(r"\d+(?:\.\d+){3}")
_NUMBERS = re.compile(r"v?\d+(?:\.\d+)*")


def private(host: str, *, sure: bool = False) -> bool:
    """Whether it is to be masked. `sure`: the text says that it is a host, so that it needs no known domain."""
    name = host.lower().rstrip(".")
    labels = name.split(".")
    if name in EVERYWHERE or name in SHARED or name.endswith(_BELOW):
        return False
    if sure:
        return name not in WORDS and _NUMBERS.fullmatch(name) is None
    last = labels[-1]
    if last in ENDINGS and (len(labels) < 3 or last not in _COUNTRIES):
        return False
    if last not in DOMAINS and not (len(last) == 2 and last.isalpha()):
        return False
    return not (last in CODE and len(labels) < 3) and _NUMBERS.fullmatch(name) is None


def address(text: str) -> list[Part]:
    """An IP address without its zone or the length of its network; the loopback and the unspecified one stay."""
    whole, _, length = text.partition("/")
    plain = whole.partition("%")[0]
    try:
        found = ipaddress.ip_address(plain)
    except ValueError:
        # Zeros in front make no IP address, and hide nothing.
        four = [part for part in plain.split(".") if part.isdigit() and int(part) < 256]
        return [(0, len(plain), "IP")] if len(four) == 4 and plain.count(".") == 3 else []
    mapped = getattr(found, "ipv4_mapped", None) or found
    if mapped.is_loopback or (mapped.is_unspecified and length in {"", "0"}) or plain == "255.255.255.255":
        return []
    return [(0, len(plain), "IP")]


def parts(host: str, *, sure: bool = False) -> list[Part]:
    """What of it is hidden. Names within the cluster are hidden label by label, so that they stay related."""
    if _FOUR.fullmatch(host):
        return address(host)
    labels = host.split(".")
    lowered = [label.lower() for label in labels]
    middle = next((each for each in ("svc", "pod") if each in lowered[1:]), None)
    if middle is None or len(labels) < 3:
        return [(0, len(host.rstrip(".")), "HOST")] if private(host, sure=sure) else []
    at = lowered.index(middle, 1)
    domain = lowered[at + 1 :]
    if domain and domain[-1:] == [""]:
        domain = domain[:-1]
    if middle == "pod" and domain[:1] != ["cluster"]:
        return [(0, len(host.rstrip(".")), "HOST")] if private(host, sure=sure) else []
    sorts = [*["HOST"] * (at - 2), "SERVICE" if middle == "svc" else "IP", "NAMESPACE"][-at:]
    found, start = [], 0
    for label, sort in zip(labels, sorts, strict=False):
        if label and label.lower() not in EVERYWHERE:
            found.append((start, start + len(label), sort))
        start += len(label) + 1
    if domain and domain != ["cluster", "local"]:
        start = len(".".join(labels[: at + 1])) + 1
        found.append((start, start + len(".".join(domain)), "HOST"))
    return found
