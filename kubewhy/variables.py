"""Settings from the environment: KUBEWHY__KAFKA__PREFIX says what `prefix` in `kafka` is, whatever the file says."""

from collections.abc import Mapping
from typing import Any

import yaml

from kubewhy.errors import ConfigError

PREFIX = "KUBEWHY__"
_PARTS = "__"

Place = tuple[int | str, ...]


def overridden(told: Any, environ: Mapping[str, str]) -> tuple[Any, dict[Place, str]]:
    """What a file says, with what variables say in its place, and by which of them. Raises ConfigError.

    A value is YAML; an empty one is as none. Of a list, a part is the number of an item that is there, from 0.
    """
    places: dict[Place, str] = {}
    if not isinstance(told, dict | None):
        return told, places  # that is no settings, and said so
    said = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value.strip()}
    # The whole before its parts.
    for name in sorted(said, key=lambda name: (name.count(_PARTS), name)):
        parts = name.removeprefix(PREFIX).split(_PARTS)
        if not all(parts):
            raise ConfigError(f"{name}: names no setting; write the keys with two underscores between them")
        told, place = _put(told, parts, _read(name, said[name]), name)
        places[place] = name
    return told, places


def source(fault: Place, places: Mapping[Place, str], file: str) -> str:
    """Who said what is at fault there: the variable, else the file, with the variables that have a part in it."""
    for end in range(len(fault), 0, -1):
        if name := places.get(fault[:end]):
            return name
    within = ", ".join(name for place, name in places.items() if place[: len(fault)] == fault)
    if file and within:
        return f"{file} with {within}"
    return file or within or "the environment"


def _read(name: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # a date that there is not
        raise ConfigError(f"{name}: not YAML; put it into quotes, or mend it") from None


def _put(told: Any, parts: list[str], value: Any, name: str) -> tuple[Any, Place]:
    part, rest = parts[0], parts[1:]
    key: int | str
    changed: Any
    if isinstance(told, list):
        if not part.isdecimal() or int(part) >= len(told):
            raise ConfigError(f"{name}: there is no item {part} among {len(told)}, counted from 0; give the whole list")
        key, changed, before = int(part), list(told), told[int(part)]
    else:
        changed = dict(told) if isinstance(told, dict) else {}
        key = next((each for each in changed if str(each).lower() == part.lower()), part.lower())
        before = changed.get(key)
    place: Place = ()
    changed[key], place = _put(before, rest, value, name) if rest else (value, ())
    return changed, (key, *place)
