"""The file that findings are appended to: each once, whatever happens to the process, the disk and the file."""

import asyncio
import os
import resource
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from kubewhy.contracts import Letter
from kubewhy.errors import ConfigError, RetryLater
from kubewhy.records import encode
from sinks.file import FileSink
from sinks.settings import FileSettings
from tests.delivered import Memory, letters
from tests.test_incidents import Clock, broken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "findings.jsonl"


def send(path: Path, told: Sequence[Letter], memory: Memory) -> None:
    """By a process of its own."""
    asyncio.run(FileSink(FileSettings(type="file", path=path)).send(told, memory))


def many(count: int) -> list[Letter]:
    clock = Clock()
    for number in range(count):
        clock.say(f"Pod shop/p{number}", broken())
    return letters(clock.findings)


def lines(told: Sequence[Letter]) -> bytes:
    return b"".join(encode(letter.finding) + b"\n" for letter in told)


def test_each_finding_is_one_line_for_its_owner_alone(path: Path) -> None:
    told = many(3)
    send(path, told[:2], Memory())
    send(path, told[2:], Memory())
    assert path.read_bytes() == lines(told)
    assert path.stat().st_mode & 0o777 == 0o600


class Dead(BaseException):
    """The process ends there."""


@pytest.mark.parametrize("half", range(0, 2000, 97))
def test_what_a_crash_cut_off_is_told_once(path: Path, half: int) -> None:
    """Killed when so many bytes of the second batch were written; then more is given with it."""
    told, memory = many(5), Memory()
    send(path, told[:1], memory)
    send(path, told[1:3], memory)
    whole = lines(told[:3])
    os.truncate(path, min(len(lines(told[:1])) + half, len(whole)))
    send(path, told[1:], memory)
    assert path.read_bytes() == lines(told)


def test_after_a_crash_what_was_moved_aside_is_found_again(path: Path) -> None:
    told, memory = many(3), Memory()
    send(path, told[:1], memory)
    send(path, told[1:], memory)
    aside = path.rename(path.with_suffix(".1"))
    send(path, told[1:], memory)
    assert aside.read_bytes() == lines(told)
    assert not path.exists()


def test_after_a_rotation_another_file_is_begun(path: Path) -> None:
    told, memory = many(3), Memory()
    send(path, told[:1], memory)
    aside = path.rename(path.with_suffix(".1"))
    send(path, told[1:2], memory)
    path.write_bytes(b"")  # as copytruncate does
    send(path, told[2:], memory)
    assert aside.read_bytes() == lines(told[:1])
    assert path.read_bytes() == lines(told[2:])


def test_what_others_have_written_stays(path: Path) -> None:
    path.write_bytes(b'{"id": 5}\nno JSON\n')
    told, memory = many(2), Memory()
    for _ in range(2):
        send(path, told, memory)
    assert path.read_bytes() == b'{"id": 5}\nno JSON\n' + lines(told)


def test_a_full_disk_leaves_no_half_line(path: Path) -> None:
    told, memory = many(4), Memory()
    send(path, told[:1], memory)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(lines(told[:2])) + 100, before[1]))
    try:
        with pytest.raises(RetryLater, match=r"findings\.jsonl: cannot be written \(File too large\)"):
            send(path, told[1:], memory)
        assert path.read_bytes() == lines(told[:1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    send(path, told[1:], memory)
    assert path.read_bytes() == lines(told)


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (folder, "Is a directory"),
        (pipe, "is no ordinary file|No such device or address"),
        (lambda path: path.parent / "none" / "x", "No such file or directory"),
        (lambda path: Path("/dev/null"), "is no ordinary file"),
    ],
)
def test_what_cannot_be_written_is_one_line_with_the_remedy(path: Path, make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=said) as caught:
        send(make(path), many(1), Memory())
    assert "name another" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_it_remembers_is_small(path: Path) -> None:
    memory = Memory()
    for letter in many(20):
        send(path, [letter], memory)
    ((_, row),) = memory.items()
    assert set(msgspec.json.decode(row)) == {"position", "device", "inode", "size"}
