"""Times as people write them, and lengths of time: 90s, 15m, 1h30m, 7d."""

import re
from datetime import UTC, datetime, timedelta

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


def parse_time(text: str) -> datetime:
    """A moment of ISO 8601, in UTC. Raises ValueError for anything else, and where the time zone is missing."""
    try:
        told = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2026-12-01T08:00:00Z") from None
    return utc(told)


def utc(told: datetime) -> datetime:
    """The same moment in UTC. Raises ValueError where the time zone is missing."""
    try:
        if told.tzinfo is not None:
            return told.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{told.isoformat()} is beyond all calendars; write 2026-12-01T08:00:00Z") from None
    raise ValueError(f"{told.isoformat()} has no time zone; write {told:%Y-%m-%dT%H:%M:%S}Z or +01:00 after it")
