"""Rows of a partition, kept as the records of a compacted topic. Pure."""

from collections.abc import Mapping
from typing import NamedTuple


class Mark(NamedTuple):
    """How far rows go: everything before that offset is in them. `at` is when the last such record was appended, in
    milliseconds: a topic that was made anew begins again with the first offset, but later.
    """

    offset: int = 0
    at: int = 0

    def covers(self, offset: int, at: int) -> bool:
        return offset < self.offset and at <= self.at


class Rows:
    """The rows of one partition, from the records of its changelog.

    Each write ends with a mark, under the empty key, and counts as a whole only then: what a worker that died left
    unfinished does not, nor does what one wrote that had lost the partition without knowing. Compaction would take away
    what tells them apart, so whoever takes over writes such rows again as they should be.
    """

    def __init__(self, partition: int) -> None:
        self.rows: dict[str, bytes] = {}
        self.mark = Mark()
        self.read = -1  # the last mark
        self._end = -1  # the last record
        self._prefix = f"{partition}/"
        self._open: dict[str, bytes | None] = {}
        self._wrong: set[str] = set()

    def take(self, offset: int, key: bytes, value: bytes | None) -> None:
        """One record of the changelog, in order; again does no harm."""
        if offset <= self.read:
            return
        self._end = max(self._end, offset)
        name = key.decode().removeprefix(self._prefix)
        if name:
            self._open[name] = value
            return
        mark = Mark(*map(int, (value or b"0 0").split()))
        if mark == self.mark or not self.mark.covers(mark.offset, mark.at):
            self._put(self._open, mark)
        else:
            self._wrong |= self._open.keys()
        self._open = {}
        self.read = offset

    def amends(self) -> dict[str, bytes | None]:
        """The rows of which the changelog's last record does not count, as they are."""
        return {name: self.rows.get(name) for name in sorted(self._wrong | self._open.keys())}

    def records(self, rows: Mapping[str, bytes | None], mark: Mark) -> list[tuple[bytes, bytes | None]]:
        """What is to be appended to the changelog."""
        told = [(f"{self._prefix}{name}".encode(), row) for name, row in rows.items()]
        return [*told, (self._prefix.encode(), b"%d %d" % mark)]

    def wrote(self, rows: Mapping[str, bytes | None], mark: Mark, offset: int) -> bool:
        """The changelog has them, with the mark at that offset of it. Tells whether nobody else has written."""
        alone = offset == self._end + len(rows) + 1
        self._put(rows, mark)
        self._open = {}
        self.read = self._end = max(self._end, offset)
        return alone

    def _put(self, rows: Mapping[str, bytes | None], mark: Mark) -> None:
        self.mark = mark
        self._wrong -= rows.keys()
        for name, row in rows.items():
            if row is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = row
