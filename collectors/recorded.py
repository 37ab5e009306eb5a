"""Recordings: what was read of a cluster, in a file, with its timing.

A file is one zstd stream of JSON lines: a header, one line for each call of a `Target`, and a last line that says the
recording is whole. Only declared fields are in it, unless it was made raw.
"""

import json
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BufferedWriter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import zstandard
from msgspec import Raw

from collectors.decoding import identify
from collectors.target import Target
from kubewhy import __version__
from kubewhy.errors import ConfigError
from kubewhy.kube import KINDS
from kubewhy.kube.meta import Object, Resource
from kubewhy.records import ABSENT
from kubewhy.related import decode_object

log = logging.getLogger(__name__)

SCHEMA = "kubewhy.recording/v1"
SUFFIX = ".kwrec"
_END = b'{"do":"end"'
_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
# While a LIST comes in, so many lines may be lost to a kill; after it, none.
_FLUSH_LINES = 500
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
Time = Annotated[datetime, msgspec.Meta(tz=True)]

_VIEWS = {(view.resource.group, view.resource.kind): view for view in KINDS}


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the recording is of. Newer kubewhys may say more."""

    schema: str
    kubewhy: str
    cluster: str  # the id
    name: str = ""
    server: str = ""
    raw: bool = False


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a target. `object` has declared fields only, `raw` is as the API server sent it."""

    at: Time
    do: Literal["begin", "put", "remove", "synced", "refused"]
    kind: str
    group: str = ""
    namespace: str | None = None
    name: str = ""
    reason: str = ""
    object: Raw = ABSENT
    raw: Raw = ABSENT


class End(msgspec.Struct, frozen=True, tag_field="do", tag="end"):
    """The last line. Without it a recording counts as cut off."""

    at: Time | None = None


_Dated = TypeVar("_Dated", Entry, End)


class Recorder:
    """A target that writes what it is told. Close it, or the recording counts as cut off."""

    def __init__(self, path: Path, header: Header, *, overwrite: bool = False) -> None:
        """Makes the file, readable by its owner alone. Raises ConfigError where it cannot, or where one is there."""
        self._path = path
        self._file = _create(path, overwrite)
        self._stream = zstandard.ZstdCompressor(level=6, write_checksum=True).stream_writer(self._file, closefd=True)
        self._encoder = msgspec.json.Encoder()
        self._listing: set[tuple[Resource, str | None]] = set()
        self._unflushed = 0
        self._broken: ConfigError | None = None
        self._raw = header.raw
        self._raws: dict[tuple[Resource, str | None, str], Raw] = {}
        if header.raw:
            log.warning(
                "a raw recording holds whole objects, with environment values and whatever else is in them",
                extra={"file": str(path)},
            )
        self._line(self._encoder.encode(header), flush=True)

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self._listing.add((resource, namespace))
        self._call(resource, at, do="begin", namespace=namespace)

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        raw = self._raws.pop((resource, subject.namespace, subject.name), None)
        if raw is None:
            self._call(resource, at, do="put", object=Raw(self._encoder.encode(subject)))
        else:
            self._call(resource, at, do="put", raw=raw)

    def on_raw(self, resource: Resource, event: str, raw: bytes) -> None:
        """Hears of an object just before it is put, and makes a raw recording of it. `event` is DELETED or another."""
        if self._raw and event != "DELETED":
            meta = identify(raw)
            # On one line: an API server may be asked to indent.
            self._raws[resource, meta.namespace, meta.name] = Raw(msgspec.json.format(raw, indent=-1))

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        self._call(resource, at, do="remove", namespace=namespace, name=name)

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self._listing.discard((resource, namespace))
        self._call(resource, at, do="synced", namespace=namespace)

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        self._listing.discard((resource, namespace))
        self._call(resource, at, do="refused", namespace=namespace, reason=reason)

    def close(self, at: datetime | None = None) -> None:
        """Says that the recording is whole, and lasted until then, and closes the file."""
        if self._file.closed:
            return
        self._line(self._encoder.encode(End(at)), flush=True)
        try:
            self._stream.close()  # type: ignore[no-untyped-call]
        except OSError as error:
            raise self._failed(error) from None

    def discard(self) -> None:
        """Removes the file, for nothing could be read. One that broke off is kept, and so is what is no file."""
        if not self._broken and self._path.is_file():
            self.close()
            self._path.unlink()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _call(self, resource: Resource, at: datetime, **told: Any) -> None:
        listing = any(each == resource for each, _ in self._listing)
        entry = Entry(at=at, kind=resource.kind, group=resource.group, **told)
        self._line(self._encoder.encode(entry), flush=not listing or self._unflushed >= _FLUSH_LINES)

    def _line(self, line: bytes, *, flush: bool) -> None:
        if self._broken:
            raise self._broken
        try:
            self._stream.write(line + b"\n")
            self._unflushed += 1
            if flush:
                self._stream.flush(zstandard.FLUSH_BLOCK)
                self._file.flush()
                self._unflushed = 0
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> ConfigError:
        # Else the interpreter would try once more to write what is left, and complain.
        self._file.raw.close()
        self._broken = ConfigError(
            f"{self._path}: the recording broke off ({error.strerror}); what was written can be read"
        )
        return self._broken


def _create(path: Path, overwrite: bool) -> BufferedWriter:
    existing = os.O_TRUNC if overwrite else os.O_EXCL
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | existing, 0o600)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)  # a file that was there keeps its mode otherwise
    except FileExistsError:
        raise ConfigError(f"{path}: there is a file already; name another, or give --overwrite") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot write there ({error.strerror}); name another file") from None
    return os.fdopen(descriptor, "wb")


@dataclass(frozen=True)
class Recording:
    """A recording being read. `entries` reads the file as it goes, once."""

    header: Header
    entries: Iterator[Entry | End]


def read(path: Path) -> Recording:
    """Opens a recording. Raises ConfigError for what is none, and for one that a newer kubewhy made."""
    lines = _lines(path)
    head = next(lines, None)
    if head is None:
        raise ConfigError(f"{path}: the recording is cut off before its header; record it again")
    return Recording(_header(path, head), _entries(path, lines))


def replay(recording: Recording, target: Target) -> Iterator[datetime]:
    """Tells the target all that was recorded, in order. Gives each call's time just before it: the caller paces."""
    unread: set[str] = set()
    if recording.header.raw:
        log.warning("this recording is raw: it holds more than kubewhy reads; keep it as you would keep a Secret")
    for entry in recording.entries:
        if isinstance(entry, End):
            if entry.at:
                yield entry.at
            return
        view = _VIEWS.get((entry.group, entry.kind))
        if view is None:
            if entry.kind not in unread:
                unread.add(entry.kind)
                log.warning("the recording holds a kind that this version does not read", extra={"kind": entry.kind})
            continue
        yield entry.at
        _tell(entry, view, target)


def _tell(entry: Entry, view: type[Object], target: Target) -> None:
    resource = view.resource
    match entry.do:
        case "begin":
            target.begin(resource, entry.namespace, entry.at)
        case "put":
            raw = entry.object if entry.object != ABSENT else entry.raw
            try:
                subject = decode_object(raw, view)
            except msgspec.ValidationError as error:
                log.warning("recorded object not readable", extra={"kind": entry.kind, "error": str(error)})
            else:
                target.put(resource, subject, entry.at)
        case "remove":
            target.remove(resource, entry.namespace, entry.name, entry.at)
        case "synced":
            target.synced(resource, entry.namespace, entry.at)
        case "refused":
            target.refused(resource, entry.namespace, entry.reason, entry.at)


def _lines(path: Path) -> Iterator[bytes]:
    """Whole lines. What follows the last flush of a killed recording is not one."""
    try:
        with path.open("rb") as file:
            start = file.peek(len(_MAGIC))[: len(_MAGIC)]
            if start != _MAGIC:
                what = "is empty" if not start else "is no recording"
                raise ConfigError(f"{path}: {what}; name a file that `kubewhy record` wrote")
            rest = b""
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
                while chunk := _more(path, stream):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recording ({error.strerror}); name another file") from None


def _more(path: Path, stream: zstandard.ZstdDecompressionReader) -> bytes:
    """Where the file is cut off this is an end like any other; only where it is damaged is it an error."""
    try:
        return stream.read(1 << 20)
    except zstandard.ZstdError:
        raise ConfigError(f"{path}: the recording is damaged; record it again") from None


def _header(path: Path, line: bytes) -> Header:
    try:
        told = json.loads(line)
        schema = str(told["schema"])
    except (ValueError, TypeError, LookupError):
        raise ConfigError(f"{path}: is no recording; name a file that `kubewhy record` wrote") from None
    if schema != SCHEMA:
        if not schema.startswith("kubewhy.recording/"):
            raise ConfigError(f"{path}: is no recording; name a file that `kubewhy record` wrote")
        maker = str(told.get("kubewhy", "unknown"))
        raise ConfigError(f"{path}: made by kubewhy {maker} as {schema}; this is {__version__}: update it")
    try:
        return msgspec.convert(told, Header)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: its header is damaged ({error}); record it again") from None


def _dated(entry: _Dated) -> _Dated:
    """Raises ValueError for a time that no cluster has seen."""
    if entry.at and not _FIRST_YEAR <= entry.at.year <= _LAST_YEAR:
        raise ValueError(f"it is of the year {entry.at.year}")
    return entry


def _entries(path: Path, lines: Iterator[bytes]) -> Iterator[Entry | End]:
    decoder = msgspec.json.Decoder(Entry)
    for number, line in enumerate(lines, start=2):
        try:
            if line.startswith(_END):
                for _ in lines:  # to where the checksum is
                    pass
                yield _dated(msgspec.json.decode(line, type=End))
                return
            entry = _dated(decoder.decode(line))
        except (msgspec.MsgspecError, ValueError) as error:
            raise ConfigError(f"{path}: line {number} is damaged ({error}); record it again") from None
        yield entry
    log.warning("the recording is cut off; what is readable of it is used", extra={"file": str(path)})
