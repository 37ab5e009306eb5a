"""What survives a restart of one process: rows of bytes by key, in one SQLite file; and what does not, in memory."""

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from kubewhy.errors import ConfigError

log = logging.getLogger(__name__)

# https://www.sqlite.org/pragma.html#pragma_application_id: "kubw", so that no other program's file is taken for ours.
_APPLICATION = 0x6B756277
_VERSION = 1
_BUSY_SECONDS = 2.0


class SqliteState:
    """One file, of which other processes may read, and write rows, but which only one may own.

    A damaged file, and one of another program or a newer version, is set aside with a warning. Raises ConfigError when
    there is nowhere to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _opened(path)

    def get(self, key: str) -> bytes | None:
        """The row of that key."""
        row = self._connection.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        """All or nothing; None deletes. Raises ConfigError when the disk takes no more."""
        if not rows:
            return
        put = [(key, value) for key, value in rows.items() if value is not None]
        gone = [(key,) for key, value in rows.items() if value is None]
        try:
            with self._connection:
                self._connection.executemany("REPLACE INTO rows VALUES (?, ?)", put)
                self._connection.executemany("DELETE FROM rows WHERE key = ?", gone)
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: cannot write the state ({error}); mend that, and start again") from None

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """All rows whose keys begin so, in the order of their keys."""
        # U+10FFFF comes after every key that goes on.
        query = "SELECT key, value FROM rows WHERE key >= ? AND key < ? ORDER BY key"
        yield from self._connection.execute(query, (prefix, prefix + "\U0010ffff"))

    def size(self) -> tuple[int, int]:
        """How many rows there are, and how many bytes they hold."""
        rows, held = self._connection.execute("SELECT count(*), sum(length(key) + length(value)) FROM rows").fetchone()
        return rows, held or 0

    def count_up(self, key: str) -> int:
        """One more than the last time, however often it was started since."""
        number = int(self.get(key) or b"0") + 1
        self.write({key: str(number).encode()})
        return number

    def close(self) -> None:
        """Writes what is left."""
        self._connection.close()


class MemoryState:
    """Rows that last as long as the process."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The row of that key."""
        return self._rows.get(key)

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        """None deletes."""
        for key, row in rows.items():
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row

    def scan(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """All rows whose keys begin so, in the order of their keys."""
        yield from sorted((key, row) for key, row in self._rows.items() if key.startswith(prefix))


def _opened(path: Path) -> sqlite3.Connection:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file for the state")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is no ordinary file; name another one for the state")
    try:
        # Only its owner may read what is broken in the cluster.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"{path}: cannot keep the state there ({error.strerror}); name another file") from None
    connection = _connected(path)
    try:
        why = _unfit(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise ConfigError(f"{path}: another process is writing this state; end it, or name another file") from None
        raise ConfigError(f"{path}: cannot keep the state there ({error}); name another file") from None
    except sqlite3.DatabaseError:
        why = "it is damaged, or no state of kubewhy"
    if why:
        connection.close()
        aside = _set_aside(path)
        log.warning("%s: %s; it is kept as %s, and what was told before may be told again", path, why, aside.name)
        return _opened(path)
    return connection


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    with suppress(sqlite3.DatabaseError):
        # A crash of the machine may lose the last second, and nothing else: then a finding is told again.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _unfit(connection: sqlite3.Connection) -> str | None:
    """Why this file cannot be used, if so. A new one is made ready."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and application in (0, _APPLICATION):
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            return None
        if application != _APPLICATION:
            return "it is another program's database"
        if version != _VERSION:
            return f"it is of version {version}, and this kubewhy knows {_VERSION} only"
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            return "it is damaged"
        return None


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}.aside")
    try:
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: no state of this kubewhy, and it cannot be set aside ({error.strerror})") from None
    return aside
