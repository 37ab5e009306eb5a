"""What models have answered, still masked, in one SQLite file that can be lost at any time."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from explainer.prompts import VERSION
from kubewhy.contracts import Completion

Result = TypeVar("Result")

log = logging.getLogger(__name__)

# https://www.sqlite.org/pragma.html#pragma_application_id: "kwan".
_APPLICATION = 0x6B77616E
_FORMAT = 1
_BUSY_SECONDS = 2.0
AGE = timedelta(days=30)
BYTES = 50 * 2**20
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, backend TEXT, model TEXT, language TEXT, made REAL, used REAL,
    text TEXT, by TEXT, input_tokens INTEGER, output_tokens INTEGER) WITHOUT ROWID"""


@dataclass(frozen=True)
class Entry:
    """One answer. `model` is what was asked, `by` what the vendor says has answered."""

    key: str
    backend: str
    model: str
    language: str
    made: datetime
    used: datetime
    text: str
    by: str
    input_tokens: int
    output_tokens: int


def key_of(backend: str, model: str, language: str, told: str) -> str:
    """What an answer is found by. Blanks make no difference."""
    words = " ".join(told.split())
    return sha256("\0".join((str(VERSION), backend, model, language.lower(), words)).encode()).hexdigest()


class Answers:
    """Nothing raises out of it: whatever is wrong with the file is said once, and it goes on without."""

    def __init__(self, path: Path, clock: Callable[[], datetime], *, age: timedelta = AGE, limit: int = BYTES) -> None:
        self.path, self._clock, self._age, self._limit = path, clock, age, limit
        self._connection: sqlite3.Connection | None = None
        self._given_up = False

    async def get(self, backend: str, model: str, language: str, told: str) -> Completion | None:
        """What was answered to this before."""
        now, key = self._clock(), key_of(backend, model, language, told)

        def look(database: sqlite3.Connection) -> Completion | None:
            columns = "text, by, input_tokens, output_tokens"
            asked = (key, (now - self._age).timestamp())
            found = database.execute(f"SELECT {columns} FROM answers WHERE key = ? AND made > ?", asked).fetchone()
            if found:
                database.execute("UPDATE answers SET used = ? WHERE key = ?", (now.timestamp(), key))
            return Completion(*found) if found else None

        return self._with(look, None)

    async def put(self, backend: str, model: str, language: str, told: str, answer: Completion) -> None:
        """Remembers it, and forgets what is too old, and what was used the longest ago where there is too much."""
        now, key = self._clock().timestamp(), key_of(backend, model, language, told)
        row = (key, backend, model, language, now, now, answer.text, answer.model)

        def keep(database: sqlite3.Connection) -> None:
            values = (*row, answer.input_tokens, answer.output_tokens)
            database.execute("REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            database.execute("DELETE FROM answers WHERE made <= ?", (now - self._age.total_seconds(),))
            _shrink(database, self._limit)

        self._with(keep, None)

    async def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def entries(self) -> list[Entry]:
        """The newest first."""
        query = "SELECT * FROM answers ORDER BY made DESC, key"
        return self._with(lambda database: [_entry(row) for row in database.execute(query)], [])

    def purge(self, keys: Iterable[str]) -> int:
        """How many there were."""
        query = "DELETE FROM answers WHERE key = ?"
        return self._with(lambda database: sum(database.execute(query, (key,)).rowcount for key in keys), 0)

    def _with(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        if self._given_up:
            return otherwise
        try:
            if self._connection is None:
                self._connection = _connected(self.path)
            return work(self._connection)
        except (OSError, sqlite3.Error) as error:
            self._given_up = True
            log.warning("%s: no cache of answers (%s): models are asked each time; mend or remove it", self.path, error)
            return otherwise


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    told = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and told != [_APPLICATION, _FORMAT]:
        raise OSError("it is another program's, or of another version")
    if empty:
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute(_TABLE)
    return connection


def _shrink(database: sqlite3.Connection, limit: int) -> None:
    size = database.execute("SELECT sum(length(text)) FROM answers").fetchone()[0] or 0
    for key, length in _oldest(database) if size > limit else ():
        if size <= limit:
            return
        database.execute("DELETE FROM answers WHERE key = ?", (key,))
        size -= length


def _oldest(database: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    yield from database.execute("SELECT key, length(text) FROM answers ORDER BY used, key").fetchall()


def _entry(row: tuple[str, str, str, str, float, float, str, str, int, int]) -> Entry:
    key, backend, model, language, made, used, *rest = row
    return Entry(key, backend, model, language, _time(made), _time(used), *rest)  # type: ignore[arg-type]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
