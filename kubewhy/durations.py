"""Lengths of time as people write them: 90s, 15m, 1h30m, 7d."""

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_WHOLE = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?")


def parse_duration(text: str) -> timedelta:
    """Raises ValueError for anything else."""
    found = _WHOLE.fullmatch(text.strip())
    if not text.strip() or not found:
        raise ValueError(f"{text!r} is no length of time; write 90s, 15m, 1h30m or 7d")
    return timedelta(
        **{_UNITS[unit]: int(number) for unit, number in zip("dhms", found.groups(), strict=True) if number}
    )
