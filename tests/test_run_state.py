"""`kubewhy run --state` as a program: what it remembers, and what it says of a state that it cannot use."""

import asyncio
import os
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from kubewhy.kube.core import PersistentVolumeClaim
from kubewhy.runtime.state import SqliteState
from tests.api_server import ApiServer, api_server
from tests.test_run import Ended, kubewhy, lose


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with api_server() as server:
        await lose(server, "data")
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubewhy.state"


async def run(server: ApiServer, state: Path) -> Ended:
    kubeconfig = server.kubeconfig(state.parent)
    return await kubewhy("run", "--kubeconfig", kubeconfig, "--until-idle", "0.5", "--state", state, "-o", "json")


def transitions(told: Ended) -> list[str]:
    return [each["transition"] for each in told.findings]


async def test_it_is_told_once_in_three_runs_and_resolved_in_the_fourth(server: ApiServer, path: Path) -> None:
    told = [transitions(await run(server, path)) for _ in range(3)]
    await server.remove(PersistentVolumeClaim, "data")
    told.append(transitions(await run(server, path)))
    assert told == [["opened"], [], [], ["resolved"]]


async def test_what_could_not_be_printed_is_told_by_the_next_run(server: ApiServer, path: Path) -> None:
    kubeconfig = server.kubeconfig(path.parent)
    args = ["run", "--kubeconfig", kubeconfig, "--until-idle", "0.5", "--state", path, "-o", "json"]
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "kubewhy", *map(str, args)], stdout=full, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    assert (process.returncode, err.count(b"\n")) == (1, 1)
    assert b"No space left on device" in err
    assert transitions(await run(server, path)) == ["opened"]
    assert transitions(await run(server, path)) == []


def text(path: Path) -> None:
    path.write_text("no database at all")


def cut_off(path: Path) -> None:
    state = SqliteState(path)
    state.write({f"{number}": os.urandom(500) for number in range(200)})
    state.close()
    path.write_bytes(path.read_bytes()[:20_000])


def pragma(told: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        SqliteState(path).close()
        with sqlite3.connect(path) as database:
            database.execute(f"PRAGMA {told}")
        database.close()

    return change


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text, "it is damaged, or no state of kubewhy"),
        (cut_off, "it is damaged, or no state of kubewhy"),
        (pragma("user_version = 99"), "it is of version 99, and this kubewhy knows 1 only"),
        (pragma("application_id = 7"), "it is another program's database"),
    ],
)
async def test_a_state_of_no_use_is_set_aside_in_one_line_and_all_is_told(
    server: ApiServer, path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(path)
    told = await run(server, path)
    assert (told.status, transitions(told), told.err.count("\n")) == (0, ["opened"], 1)
    assert f"{path}: {said}; it is kept as " in told.err
    assert len(list(path.parent.glob("*.aside"))) == 1


def folder(path: Path) -> None:
    path.mkdir()


def row(key: str, value: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        state = SqliteState(path)
        state.write({key: value})
        state.close()

    return write


CLUSTER = {"term": 1, "number": 1, "born": "2026-03-01T12:00:00Z"}
NEWER, OLDER = {**CLUSTER, "shard": 3}, {"term": 1}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (folder, "is a folder; name a file for the state"),
        (os.mkfifo, "is no ordinary file; name another one"),
        (row("incidents\x1fc\x1fcluster", msgspec.json.encode(NEWER)), "unknown field `shard`"),
        (row("incidents\x1fc\x1fcluster", msgspec.json.encode(OLDER)), "missing required field `number`"),
        (row("incidents\x1fc\x1fcluster", b"\xff"), "the state holds what this kubewhy cannot read"),
        (row("incidents\x1fc\x1fobject\x1fx", b"{}"), "the state holds what this kubewhy cannot read"),
        (row("sending", b'[{"schema": "kubewhy.finding/v9"}]'), "the state holds what this kubewhy cannot read"),
    ],
)
async def test_a_state_that_cannot_be_used_is_refused_in_one_line(
    server: ApiServer, path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(path)
    told = await run(server, path)
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert said in told.err
    assert "another" in told.err or "name a file" in told.err
    assert list(path.parent.glob("*.aside")) == []


async def test_a_state_that_another_process_writes_is_refused_in_one_line(server: ApiServer, path: Path) -> None:
    SqliteState(path).close()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        told = await run(server, path)
    other.close()
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert f"{path}: another process is writing this state; end it, or name another file" in told.err


async def test_a_disk_that_takes_no_more_is_one_line_and_nothing_is_lost(server: ApiServer, path: Path) -> None:
    SqliteState(path).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # which the child inherits
    try:
        told = await run(server, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (told.status, told.err.count("\n")) == (1, 1), told.err
    assert f"{path}: cannot " in told.err
    assert transitions(told) + transitions(await run(server, path)) == ["opened"]
