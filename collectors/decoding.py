"""Turns the API server's bytes into typed objects, and lets one odd object spoil nothing but itself."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from kubewhy.kube.meta import Object, Resource
from kubewhy.related import decode_object

Item = TypeVar("Item")
Obj = TypeVar("Obj", bound=Object)

OnRaw = Callable[[Resource, str, bytes], None]
"""Takes the kind, LISTED or the event's type, and the object's JSON as the server sent it."""


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    next: str = msgspec.field(default="", name="continue")


class Listing(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """What lacks `items` is no list: taken for an empty one, it would say that everything is gone."""

    metadata: ListMeta = ListMeta()
    items: list[Item] | None


class IdentityMeta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str | None = None
    resource_version: str = ""


class Identity(msgspec.Struct, frozen=True):
    """What is read of every object, however odd the rest of it. The typed classes have no resourceVersion."""

    metadata: IdentityMeta = IdentityMeta()


class Envelope(msgspec.Struct, frozen=True):
    """One line of a WATCH."""

    type: str
    object: Raw


class Odd(NamedTuple):
    """An object that could not be decoded: whose name, and which field."""

    name: str
    why: str


class Decoded(NamedTuple):
    metadata: ListMeta
    objects: list[Any]
    odd: list[Odd]


_identity = msgspec.json.Decoder(Identity)
_envelope = msgspec.json.Decoder(Envelope)
_raw_listing = msgspec.json.Decoder(Listing[Raw])
_listings: dict[type[Object], msgspec.json.Decoder[Any]] = {}


def decode_page(body: bytes, view: type[Object], on_raw: OnRaw | None = None) -> Decoded:
    """One page of a LIST. Raises msgspec.DecodeError when it is no list at all."""
    if on_raw is None:
        decoder = _listings.get(view)
        if decoder is None:
            decoder = _listings[view] = msgspec.json.Decoder(Listing[view])  # type: ignore[valid-type]
        try:
            listing = decoder.decode(body)
        except msgspec.ValidationError:
            pass
        else:
            return Decoded(listing.metadata, listing.items or [], [])
    return _decode_one_by_one(body, view, on_raw)


def decode_event(line: bytes) -> tuple[str, bytes]:
    """Its type and the object's JSON. Raises msgspec.DecodeError when the line is no watch event."""
    envelope = _envelope.decode(line)
    return envelope.type, bytes(envelope.object)


def identify(raw: Raw | bytes) -> IdentityMeta:
    """Name and version. Empty for what has neither."""
    try:
        return _identity.decode(raw).metadata
    except msgspec.DecodeError:
        return IdentityMeta()


def decode_one(raw: Raw | bytes, view: type[Obj]) -> Obj | Odd:
    """The typed object, or what is wrong with it."""
    try:
        return decode_object(raw, view)
    except msgspec.DecodeError as error:
        # msgspec names the types and the path, never the value.
        found = identify(raw)
        return Odd(f"{found.namespace}/{found.name}" if found.namespace else found.name, str(error))


def _decode_one_by_one(body: bytes, view: type[Object], on_raw: OnRaw | None) -> Decoded:
    listing = _raw_listing.decode(body)
    objects: list[Object] = []
    odd: list[Odd] = []
    for raw in listing.items or []:
        if on_raw:
            on_raw(view.resource, "LISTED", bytes(raw))
        one = decode_one(raw, view)
        if isinstance(one, Odd):
            odd.append(one)
        else:
            objects.append(one)
    return Decoded(listing.metadata, objects, odd)
