"""Appends each finding to a file, as one line of JSON."""

import asyncio
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import ConfigError, RetryLater
from kubewhy.records import Finding
from sinks.settings import FileSettings
from sinks.stdout import render

_MARK = "last"
_MENDED_BY_PEOPLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
}


class Mark(msgspec.Struct, frozen=True):
    """Where lines were about to go: the first one's position, which file it was, and how long before."""

    position: int
    device: int
    inode: int
    size: int


class _Id(msgspec.Struct):
    id: str


class FileSink:
    """Opens the file anew each time, so that one that was moved away is left alone, and another one begun."""

    manner = Manner(at_most=1000, worst_first=False)

    def __init__(self, settings: FileSettings) -> None:
        self._path = settings.path

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns when all lines are on the disk."""
        row = memo.get(_MARK)
        before = msgspec.json.decode(row, type=Mark) if row else None
        there = set[str]()
        if before and before.position == letters[0].position:
            there = await asyncio.to_thread(self._there, before)
        lines = b"".join(render(each.finding) for each in letters if each.finding.id not in there)
        written = not lines
        while not written:
            mark = await asyncio.to_thread(self._mark, letters[0].position)
            if not there:
                memo.put(_MARK, msgspec.json.encode(mark))
            written = await asyncio.to_thread(self._append, lines, mark)

    def preview(self, finding: Finding) -> str:
        """The line."""
        return render(finding).decode().rstrip("\n")

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """Nothing is kept open."""

    def _mark(self, position: int) -> Mark:
        with self._opened(self._path, os.O_WRONLY | os.O_CREAT) as file:
            told = os.fstat(file)
            return Mark(position, told.st_dev, told.st_ino, told.st_size)

    def _append(self, lines: bytes, mark: Mark) -> bool:
        """False where the file is another one by now."""
        with self._opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            told = os.fstat(file)
            if (told.st_dev, told.st_ino, told.st_size) != (mark.device, mark.inode, mark.size):
                return False
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fsync(file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, mark.size)
                raise
            return True

    def _there(self, mark: Mark) -> set[str]:
        """What an earlier try has written; half a line that it has left is cut off."""
        path = _found(self._path, mark)
        if not path:
            return set()
        with self._opened(path, os.O_RDWR) as file:
            tail = os.pread(file, os.fstat(file).st_size - mark.size, mark.size)
            whole, _, half = tail.rpartition(b"\n")
            if half:
                os.ftruncate(file, mark.size + len(tail) - len(half))
        return {found for line in whole.splitlines() if (found := _id(line))}

    @contextmanager
    def _opened(self, path: Path, flags: int) -> Iterator[int]:
        file = None
        try:
            # What is found in a cluster is for its owner's eyes. What is no file, as a pipe, must not keep us waiting.
            file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ConfigError(f"{self._path}: is no ordinary file; name another one")
            yield file
        except OSError as error:
            why = f"{self._path}: cannot be written ({error.strerror})"
            if error.errno in _MENDED_BY_PEOPLE:
                raise ConfigError(f"{why}; mend that, or name another file") from None
            raise RetryLater(why) from None
        finally:
            if file is not None:
                os.close(file)


def _found(path: Path, mark: Mark) -> Path | None:
    """Where that file is now, if more was written to it: others may have moved it aside meanwhile."""
    with suppress(OSError):
        for each in (path, *path.parent.iterdir()):
            with suppress(OSError):
                told = each.stat()
                if (told.st_dev, told.st_ino) == (mark.device, mark.inode) and told.st_size > mark.size:
                    return each
    return None


def _id(line: bytes) -> str:
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(line, type=_Id).id
    return ""
