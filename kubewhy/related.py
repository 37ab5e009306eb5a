"""What an analyzer may ask of its evidence."""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from kubewhy.kube.core import Event
from kubewhy.kube.meta import Object
from kubewhy.records import Evidence, Ref

Obj = TypeVar("Obj", bound=Object)


class Related:
    """What an analyzer may ask of its evidence. A lookup has three answers: found, absent, and unknown."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._attached = {each.view: each for each in evidence.related}
        self._decoded: dict[type[Object], list[Object]] = {}  # rules ask for the same more than once

    def known(self, view: type[Object]) -> bool:
        """Whether we may read that kind and have it in full. If not, nothing of it is ever missing."""
        attached = self._attached.get(view.__name__)
        return attached is not None and attached.known

    def all(self, view: type[Obj]) -> list[Obj]:
        """All that were found, in the order of their names. Fewer than `count` where the evidence was cut."""
        decoded = self._decoded.get(view)
        if decoded is None:
            attached = self._attached.get(view.__name__)
            decoded = [decode_object(raw, view) for raw in attached.objects] if attached else []
            self._decoded[view] = decoded
        return list(decoded)  # type: ignore[arg-type]

    def count(self, view: type[Object]) -> int:
        """How many there are, also those cut for size."""
        attached = self._attached.get(view.__name__)
        return attached.count if attached else 0

    def first(self, view: type[Obj]) -> Obj | None:
        """The only one, where at most one is asked for."""
        return next(iter(self.all(view)), None)

    def named(self, view: type[Obj], name: str) -> Obj | None:
        """The one of that name. None says absent or unknown: see `absent`."""
        return next((each for each in self.all(view) if each.metadata.name == name), None)

    def absent(self, view: type[Object], name: str) -> bool:
        """True only if it was looked up, may be read, and is not there."""
        attached = self._attached.get(view.__name__)
        return attached is not None and attached.known and name in attached.missing

    def events(self, *reasons: str) -> Iterator[Event]:
        """The Events about the object with one of these reasons, newest first."""
        return (event for event in self._evidence.events if event.reason in reasons)

    def newest_event(self, *reasons: str) -> Event | None:
        return next(self.events(*reasons), None)

    @property
    def root(self) -> Ref | None:
        """The workload at the top of its owners; None when the object has no owner."""
        return self._evidence.root

    @property
    def server(self) -> str:
        """The API server's version, empty when unknown."""
        return self._evidence.server


_decoders: dict[type[Object], msgspec.json.Decoder[Object]] = {}


def decode_object(raw: Raw | bytes, view: type[Obj]) -> Obj:
    """A typed object from its JSON. Raises msgspec.ValidationError when a field has another type than the API says."""
    decoder = _decoders.get(view)
    if decoder is None:
        decoder = _decoders[view] = msgspec.json.Decoder(view)
    try:
        return decoder.decode(raw)  # type: ignore[return-value]
    except msgspec.ValidationError:
        # To the API a null is a field left out, and an empty list of Go may be written as one.
        plain = msgspec.json.decode(raw)
        whole = _without_nulls(plain)
        if whole == plain:
            raise
        return decoder.decode(msgspec.json.encode(whole))  # type: ignore[return-value]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value if each is not None]
    return value
