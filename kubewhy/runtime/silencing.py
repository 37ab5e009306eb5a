"""Silences where they are kept: written by people, in settings or by a command, and read by what runs."""

import logging
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from explainer.matchers import Matchers, match_all, parse_all
from kubewhy.contracts import State
from kubewhy.errors import ConfigError
from kubewhy.records import Silence, SilenceChange, encode
from kubewhy.settings import Settings
from kubewhy.spelling import hint

log = logging.getLogger(__name__)

SILENCE = "silence\x1f"  # begins the keys of their rows
IN_SETTINGS = "settings-"  # begins the ids of those that stand in the settings
# So long those that have ended are kept, should the clock of what runs on them be behind.
KEPT = timedelta(days=5)


def silence_changes(
    state: State | None, seen: dict[str, bytes], in_settings: Iterable[Silence] = ()
) -> list[SilenceChange]:
    """What is otherwise than it was seen, by id; `seen` is brought up to date. One that is no more is told so.

    What cannot be read is said once, and changes nothing.
    """
    rows = {silence.id: encode(silence) for silence in in_settings}
    rows |= {key.removeprefix(SILENCE): row for key, row in state.scan(SILENCE)} if state else {}
    changed = [key for key, row in rows.items() if seen.get(key) != row]
    gone = [key for key in seen if key not in rows]
    seen.clear()
    seen.update(rows)
    changes = [change for key in changed if (change := _change(key, rows[key]))]
    return changes + [SilenceChange(id=key) for key in gone]


def already_seen(silences: Iterable[Silence]) -> dict[str, bytes]:
    """For `silence_changes`, where these are known from before a restart."""
    return {silence.id: encode(silence) for silence in silences}


def of_settings(settings: Settings) -> list[Silence]:
    """The silences of the settings, with ids that stay the same as long as they do."""
    return [
        Silence(
            id=IN_SETTINGS + sha256("\0".join((*each.matchers, each.until.isoformat())).encode()).hexdigest()[:8],
            matchers=tuple(map(str, parse_all(each.matchers))),
            ends_at=each.until,
            comment=each.comment,
        )
        for each in settings.silences
    ]


def kept(state: State, now: datetime) -> list[Silence]:
    """Those in the state that have not ended, the first to end first."""
    found = [silence for _, row in state.scan(SILENCE) if (silence := read(row)) and silence.ends_at > now]
    return sorted(found, key=lambda silence: (silence.ends_at, silence.id))


def add(
    state: State,
    matchers: Matchers,
    now: datetime,
    ends_at: datetime,
    *,
    starts_at: datetime | None = None,
    author: str = "",
    comment: str = "",
) -> Silence:
    """Raises ConfigError for one that would silence everything, or that has ended before it has begun."""
    if match_all(matchers):
        raise ConfigError('these matchers match everything; name what is to be silenced, as in namespace="shop"')
    if ends_at <= now:
        raise ConfigError(f"{_iso(ends_at)} is in the past; name a later end")
    if starts_at and ends_at <= starts_at:
        raise ConfigError(f"it ends at {_iso(ends_at)}, before it begins; name a later end")
    silence = Silence(
        id=secrets.token_hex(4),
        matchers=tuple(map(str, matchers)),
        starts_at=starts_at,
        ends_at=ends_at,
        author=author,
        comment=comment,
    )
    state.write({**_long_over(state, now), SILENCE + silence.id: encode(silence)})
    return silence


def expire(state: State, key: str, now: datetime) -> Silence:
    """Takes a silence back, which counts at once, whatever the clocks say. Raises ConfigError where there is none."""
    if key.startswith(IN_SETTINGS):
        raise ConfigError(f"silence {key} stands in the settings; remove it there, and start again")
    row = state.get(SILENCE + key)
    silence = read(row) if row is not None else None
    if silence is None or silence.ends_at <= now:
        known = [each.id for each in kept(state, now)]
        remedy = hint(key, known) or "; `kubewhy silence list` lists those there are"
        raise ConfigError(f"there is no silence {key}{' any more' if silence else ''}{remedy}")
    state.write({**_long_over(state, now), SILENCE + key: None})
    return silence


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _change(key: str, row: bytes) -> SilenceChange | None:
    silence = read(row)
    if silence is None or silence.id != key:
        log.warning("silence %s is of another version, or damaged; it silences nothing: add it again", key)
        return None
    return SilenceChange(id=key, silence=silence)


def read(row: bytes) -> Silence | None:
    """The silence of that row; nothing for what is none."""
    try:
        silence = msgspec.json.decode(row, type=Silence)
        parse_all(silence.matchers)
    except ValueError:  # as DecodeError and BadMatcher are
        return None
    return silence


def _long_over(state: State, now: datetime) -> dict[str, bytes | None]:
    """Rows that nobody needs any more, to be deleted."""
    found = ((key, read(row)) for key, row in state.scan(SILENCE))
    return {key: None for key, silence in found if silence and silence.ends_at + KEPT <= now}
