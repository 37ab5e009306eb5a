"""How findings lie in an archive: the names of objects and what is in them, there and back. All of it is pure."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from kubewhy.contracts import Letter
from kubewhy.records import Finding, encode

MANIFEST = "_schema/kubewhy.finding.v1.json"

# cluster=…/date=…/hour=…/POSITION-DIGEST.ndjson.gz: folders as Athena, Spark and DuckDB know partitions.
_NAME = re.compile(r"cluster=([^/]+)/date=(\d{4}-\d\d-\d\d)/hour=(\d\d)/[^/]+\.ndjson\.gz")
LEVEL = 6  # 9 takes half as long again, for a thirtieth less
_LONGEST = 256 * 2**20  # of what an object holds: a few kilobytes can grow to as much as one likes

_decoder = msgspec.json.Decoder(Finding)


class Object(NamedTuple):
    """What is written at once: all of it, or nothing."""

    name: str
    body: bytes


class Damaged(Exception):
    """An object, or a line of it, is not what an archive holds."""


class Place(NamedTuple):
    """What an object's name tells: whose transitions it has, and from which hour."""

    cluster: str
    hour: datetime


def objects(letters: Sequence[Letter]) -> Iterator[Object]:
    """One for each cluster and hour. The same letters give the same names and bytes.

    A name has the first position, for people, and the digest of the lines, so that no other lines can ever come to have
    it: neither when a state is lost and positions begin anew, nor when an old one is brought back.
    """
    folders: dict[str, list[Letter]] = {}
    for letter in sorted(letters):
        folders.setdefault(_folder(letter.finding), []).append(letter)
    for folder, those in folders.items():
        lines = b"".join(encode(letter.finding) + b"\n" for letter in those)
        digest = blake2b(lines, digest_size=8).hexdigest()
        yield Object(f"{folder}{those[0].position:016d}-{digest}.ndjson.gz", gzip.compress(lines, LEVEL, mtime=0))


def _folder(finding: Finding) -> str:
    at = finding.at.astimezone(UTC)
    return f"{_of(finding.incident.cluster)}date={at:%Y-%m-%d}/hour={at:%H}/"


def _of(cluster: str) -> str:
    return f"cluster={quote(cluster, safe='')}/"


def within(cluster: str | None) -> str:
    """What the names begin with of all objects of that cluster, or of any."""
    return _of(cluster) if cluster else "cluster="


def place(name: str) -> Place | None:
    """None where no object of an archive is called so."""
    found = _NAME.search(name)
    if not found:
        return None
    try:
        return Place(unquote(found[1]), datetime.fromisoformat(f"{found[2]}T{found[3]}:00:00+00:00"))
    except ValueError:
        return None


def findings(body: bytes) -> Iterator[Finding | Damaged]:
    """What is in an object, line by line: damage in one line leaves the others."""
    for number, line in enumerate(_unpacked(body).splitlines(), 1):
        try:
            yield _decoder.decode(line)
        except msgspec.MsgspecError:
            yield Damaged(f"line {number} is no finding that this kubewhy knows")


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        lines = unpacker.decompress(body, _LONGEST)
    except zlib.error:
        raise Damaged("it is not compressed as an archive's objects are") from None
    if unpacker.unconsumed_tail:
        raise Damaged("it holds more than an object of an archive ever does")
    if not unpacker.eof or unpacker.unused_data:
        raise Damaged("it is cut short, or more was written behind its end")
    return lines


def once(told: Iterable[Finding]) -> list[Finding]:
    """Each of them once, by its id, in the order in which it happened."""
    first: dict[str, Finding] = {}
    for finding in told:
        first.setdefault(finding.id, finding)
    return sorted(first.values(), key=lambda each: (each.at, each.incident.id, each.revision))


class Final:
    """The last that is known of each incident, by its id: how it was in the end."""

    def __init__(self) -> None:
        self.last: dict[str, Finding] = {}

    def add(self, finding: Finding) -> None:
        """In any order, and as often as one likes."""
        before = self.last.get(finding.incident.id)
        if before is None or (before.revision, before.at) < (finding.revision, finding.at):
            self.last[finding.incident.id] = finding


def manifest() -> bytes:
    """What each line is, for whoever reads the archive without kubewhy."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Finding)}
    return json.dumps(schema, indent=2, sort_keys=True).encode() + b"\n"
