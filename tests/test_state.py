"""State survives, and what cannot be used as state is set aside or refused in one line."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubewhy.errors import ConfigError
from kubewhy.runtime.state import SqliteState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubewhy.state"


@pytest.fixture
def state(path: Path) -> Iterator[SqliteState]:
    state = SqliteState(path)
    yield state
    state.close()


def test_its_size_is_told(state: SqliteState) -> None:
    assert state.size() == (0, 0)
    state.write({"a": b"12", "bc": b"3"})
    assert state.size() == (2, 6)


def test_rows_survive_and_only_their_owner_may_read_them(path: Path, state: SqliteState) -> None:
    state.write({"a": b"1", "b": b"2"})
    state.write({"a": None, "c": b"\x00"})
    state.close()
    again = SqliteState(path)
    assert dict(again.scan()) == {"b": b"2", "c": b"\x00"}
    assert again.get("a") is None
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_scan_is_in_order_and_keeps_to_its_prefix(state: SqliteState) -> None:
    state.write(dict.fromkeys(["b\x1f2", "b\x1f1", "bb", "a", "b\x1f\u00e9"], b""))
    assert [key for key, _ in state.scan("b\x1f")] == ["b\x1f1", "b\x1f2", "b\x1f\u00e9"]


def test_a_write_is_all_or_nothing(state: SqliteState) -> None:
    bad: dict[str, bytes | None] = {"a": b"1", "b": {}}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"cannot write the state .*; mend that"):
        state.write(bad)
    assert state.get("a") is None


def test_a_counter_goes_on_after_a_restart(path: Path, state: SqliteState) -> None:
    assert [state.count_up("term"), state.count_up("term")] == [1, 2]
    state.close()
    again = SqliteState(path)
    assert again.count_up("term") == 3
    again.close()


def test_another_process_may_read_and_write_rows_meanwhile(path: Path, state: SqliteState) -> None:
    state.write({"a": b"1"})
    other = SqliteState(path)
    other.write({"silence": b"2"})
    other.close()
    assert state.get("silence") == b"2"


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\x00" + b"\xff" * 4096, b"{}" * 5000])
def test_what_is_damaged_is_set_aside_and_told(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(content)
    state = SqliteState(path)
    state.write({"a": b"1"})
    state.close()
    (aside,) = path.parent.glob("*.aside")
    assert aside.read_bytes() == content
    assert len(caplog.records) == 1
    assert f"is kept as {aside.name}" in caplog.text


def test_a_file_that_was_cut_off_is_set_aside(path: Path, state: SqliteState, caplog: pytest.LogCaptureFixture) -> None:
    state.write({f"{number}": os.urandom(500) for number in range(200)})
    state.close()
    path.write_bytes(path.read_bytes()[:20_000])
    again = SqliteState(path)
    assert dict(again.scan()) == {}
    assert "it is damaged" in caplog.text
    again.close()


@pytest.mark.parametrize(
    ("pragma", "why"),
    [("application_id = 7", "another program's database"), ("user_version = 99", "it is of version 99")],
)
def test_what_is_not_for_us_is_set_aside(
    path: Path, state: SqliteState, pragma: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    state.close()
    with sqlite3.connect(path) as foreign:
        foreign.execute(f"PRAGMA {pragma}")
    foreign.close()
    SqliteState(path).close()
    assert why in caplog.text
    assert len(list(path.parent.glob("*.aside"))) == 1


def test_a_file_that_another_process_is_writing_is_refused(path: Path, state: SqliteState) -> None:
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigError, match="another process is writing this state"):
            SqliteState(path)
    other.close()


def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        SqliteState(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot keep the state there \(No such file or directory\)"):
        SqliteState(tmp_path / "absent" / "file")
