"""Open incidents as a person sees them: in a table, beneath what happens, and from another process."""

import asyncio
import io
import os
import pty
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from kubewhy.cli.board import table
from kubewhy.cli.incidents import read
from kubewhy.cli.main import cli
from kubewhy.kube.core import PersistentVolumeClaim
from kubewhy.records import IncidentView, Severity
from kubewhy.runtime.state import SqliteState
from tests.api_server import api_server
from tests.golden import golden
from tests.test_incidents import START, Clock, broken
from tests.test_run import lose


def shop() -> Clock:
    clock = Clock(keep_open=timedelta(minutes=2))
    clock.say("Pod shop/old", broken())
    clock.say("Pod shop/old")
    clock.wait(125)
    for n in range(3):
        clock.say(f"Pod shop/web-{n}", broken("crash"), root="Deployment shop/web")
    clock.say("Node n1", broken("pressure", severity=Severity.WARNING))
    clock.wait(10)
    return clock


def drawn(views: list[IncidentView], most: int = 1000) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table(views, START + timedelta(hours=1), most))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def test_the_worst_comes_first_and_what_is_over_last() -> None:
    golden("board.txt", drawn(list(shop().stage.views(resolved=True))))


def test_what_is_silenced_comes_after_what_is_not() -> None:
    clock = shop()
    clock.say("Pod shop/hushed", broken(), ignore="*")
    *_, last = drawn(list(clock.stage.views())).splitlines()
    assert last.split()[:2] == ["CRITICAL", "silenced"]


def test_a_table_is_no_longer_than_it_may_be() -> None:
    clock = Clock()
    for n in range(9):
        clock.say(f"Pod shop/p{n}", broken())
    assert drawn(list(clock.stage.views()), 4).count("CRITICAL") == 4
    assert "and 5 more" in drawn(list(clock.stage.views()), 4)


def test_a_narrow_terminal_cuts_titles_only() -> None:
    console = Console(file=io.StringIO(), width=50)
    console.print(table(shop().stage.views(), START))
    assert isinstance(console.file, io.StringIO)
    head, first, *_ = console.file.getvalue().splitlines()
    assert head.split() == ["SEVERITY", "STATE", "SINCE", "OBJECTS", "INCIDENT"]
    assert first.split()[:5] == ["CRITICAL", "open", "0s", "3", "crash:"]


def test_where_all_is_well_it_says_so() -> None:
    assert "All is well" in drawn([])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    clock = shop()
    clock.keep()
    path = tmp_path / "kubewhy.state"
    state = SqliteState(path)
    state.write({f"incidents\x1f{key}": row for key, row in clock.rows.items()})
    state.close()
    return path


def test_another_process_lists_what_is_open(state: Path) -> None:
    told = CliRunner().invoke(cli, ["incidents", "--state", str(state)])
    assert told.output.splitlines()[-1].startswith(f"({state}: 12 rows, ")
    told = CliRunner().invoke(cli, ["incidents", "--state", str(state), "-o", "json"])
    assert told.exit_code == 0
    assert [IncidentView.__name__ for _ in told.stdout.splitlines()] == ["IncidentView"] * 2
    assert [each.resolution for each in read(state, resolved=True)] == [None, None, "recovered"]


def test_a_state_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["incidents", "--state", str(tmp_path / "none")])
    assert "start `kubewhy run --state" in str(told.exception)
    assert not (tmp_path / "none").exists()


async def test_on_a_terminal_the_board_stays_beneath_what_happens(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    seen = b""
    async with api_server() as server:
        await lose(server, "data")
        command = [sys.executable, "-m", "kubewhy", "run", "--kubeconfig", str(server.kubeconfig(tmp_path))]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=theirs, stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}
        )
        os.close(theirs)
        async with asyncio.timeout(60):
            while b"SEVERITY" not in seen:
                seen += await asyncio.to_thread(os.read, ours, 4096)
        assert b"OPENED" in seen
        assert b"The claim has lost its volume" in seen
        await server.remove(PersistentVolumeClaim, "data")
        process.send_signal(signal.SIGINT)
        reading = asyncio.create_task(asyncio.to_thread(drain, ours))
        assert await process.wait() == 0
        await reading
    os.close(ours)


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # how Linux says that nobody has the other side open
        return
