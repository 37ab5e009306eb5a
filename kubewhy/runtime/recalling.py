"""Findings back from an archive: from a bucket, or from a folder of objects that were downloaded."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from kubewhy.buckets import BucketSettings
from kubewhy.errors import ConfigError, RetryLater
from kubewhy.records import Finding
from sinks.archive import Damaged, findings, place, within

log = logging.getLogger(__name__)

AT_ONCE = 8
PAUSES = (1.0, 4.0)  # seconds before what may pass is tried again
_ADDRESS = re.compile(r"s3://([^/]+)/?(.*)")


class Archive(Protocol):
    """Objects by name."""

    def names(self, cluster: str | None) -> AsyncIterator[str]: ...

    async def read(self, name: str) -> bytes | None:
        """None where it is no longer there. Raises Damaged where it cannot be read."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Wanted:
    """Which transitions: of one cluster or all, from `since` on and before `until`, if these are told."""

    cluster: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def may_be_in(self, name: str) -> bool:
        """Whether an object of that name can have any of them."""
        told = place(name)
        if told is None or (self.cluster and told.cluster != self.cluster):
            return False
        since = self.since and self.since.replace(minute=0, second=0, microsecond=0)
        return self._is_within(told.hour, since)

    def fits(self, finding: Finding) -> bool:
        """Whether it is one of them."""
        return self._is_within(finding.at, self.since)

    def _is_within(self, at: datetime, since: datetime | None) -> bool:
        return (since is None or since <= at) and (self.until is None or at < self.until)


async def recall(archive: Archive, wanted: Wanted, damaged: Callable[[str, str], None]) -> AsyncIterator[Finding]:
    """All of them, some perhaps twice. What cannot be read is told to `damaged`, by name and reason, and left out."""
    try:
        names = sorted([name async for name in archive.names(wanted.cluster) if wanted.may_be_in(name)])
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            for name, told in zip(some, await asyncio.gather(*(_read(archive, name) for name in some)), strict=True):
                for each in told:
                    if isinstance(each, Damaged):
                        damaged(name, str(each))
                    elif wanted.fits(each):
                        yield each
    finally:
        await archive.close()


async def _read(archive: Archive, name: str) -> list[Finding | Damaged]:
    try:
        body = await archive.read(name)
        return [] if body is None else await asyncio.to_thread(lambda: list(findings(body)))
    except Damaged as error:
        return [error]


def opened(where: str) -> Archive:
    """The archive at s3://BUCKET/PREFIX, or in that folder. Raises ConfigError where it cannot be one."""
    if "://" not in where:
        return Folder(Path(where))
    found = _ADDRESS.fullmatch(where)
    if not found:
        raise ConfigError(f"{where}: is no place of an archive: write s3://BUCKET/PREFIX, or a folder")
    try:
        return in_bucket(BucketSettings(bucket=found[1], prefix=found[2]))
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {said}") from None


def in_bucket(settings: BucketSettings) -> Archive:
    """The archive that a sink of these settings writes."""
    try:
        from kubewhy.s3 import Bucket
    except ImportError as error:
        raise ConfigError(
            f"archives on S3 need a package that is not there ({error.name}): pip install 'kubewhy[s3]'"
        ) from None
    return Objects(Bucket(settings), settings.prefix)


class Store(Protocol):
    """What is needed of a bucket."""

    def keys(self, prefix: str) -> AsyncIterator[str]: ...

    async def get(self, key: str) -> bytes | None: ...

    async def close(self) -> None: ...


class Objects:
    """An archive in a bucket. What may pass is tried again a few times; after that a person has to say when."""

    def __init__(self, bucket: Store, prefix: str, pauses: Sequence[float] = PAUSES) -> None:
        self._bucket, self._prefix, self._pauses = bucket, prefix, pauses

    async def names(self, cluster: str | None) -> AsyncIterator[str]:
        # Who names a cluster's folder, or one in it, has chosen already.
        inside = "" if "cluster=" in self._prefix else within(cluster)
        try:
            async for key in self._bucket.keys(f"{self._prefix}{inside}"):
                yield key
        except RetryLater as error:
            raise ConfigError(f"{error}; try again later") from None

    async def read(self, name: str) -> bytes | None:
        for pause in (*self._pauses, None):
            try:
                return await self._bucket.get(name)
            except RetryLater as error:
                if pause is None:
                    raise ConfigError(f"{error}; try again later") from None
                await asyncio.sleep(pause if error.after is None else error.after)
        raise AssertionError

    async def close(self) -> None:
        await self._bucket.close()


class Folder:
    """An archive as it was downloaded, from `cluster=...` on or further up."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigError(f"{root}: no such folder; name one with objects of an archive, or s3://BUCKET/PREFIX")
        self._root = root

    async def names(self, cluster: str | None) -> AsyncIterator[str]:
        for path in await asyncio.to_thread(lambda: list(self._root.resolve().rglob("*.ndjson.gz"))):
            yield path.as_posix()

    async def read(self, name: str) -> bytes | None:
        try:
            return await asyncio.to_thread(Path(name).read_bytes)
        except OSError as error:
            raise Damaged(f"it cannot be read ({error.strerror})") from None

    async def close(self) -> None:
        """Nothing is open."""
