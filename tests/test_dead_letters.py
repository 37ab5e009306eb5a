"""Dead letters in the state of one process: seen, looked at, and tried again."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kubewhy.cli.main import main
from kubewhy.errors import Rejected
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.outbox import DEAD, OUTBOX
from kubewhy.runtime.state import SqliteState
from tests.hurry import hurried
from tests.test_delivery import Far, delivering, finding, post, raising

Capture = pytest.CaptureFixture[str]


async def refused(path: Path, *names: str) -> None:
    """Each of these sinks has refused one finding."""
    with closing(SqliteState(path)) as state:
        sinks = {name: Far(answer=raising(Rejected("too long"))) for name in names}
        async with delivering(sinks, state) as delivery:
            post(delivery, finding("a"), to=names)
            await delivery.end()


async def again(path: Path, name: str = "far") -> list[str]:
    """What that sink is told by who runs with the state then."""
    with closing(SqliteState(path)) as state:
        far = Far()
        async with delivering({name: far}, state) as delivery:
            delivery.tick(finding().at)
            await delivery.end()
        assert list(state.scan(OUTBOX)) == []
        return far.told


def said(capsys: Capture, *args: str | Path, status: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["dead-letters", *map(str, args)])
    out, err = capsys.readouterr()
    assert ended.value.code == status, err
    return out if not status else err


def listed(capsys: Capture, path: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(said(capsys, "list", "--state", path, "-o", "json"))
    return told


@hurried
async def test_what_was_refused_is_listed_shown_and_tried_again(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "state"
    await refused(path, "far")
    [told] = listed(capsys, path)
    assert (told["stage"], told["reason"], told["from"]) == ("sink/far", "too long", None)
    assert told["id"] in said(capsys, "list", "--state", path)
    assert '"id": "a/1"' in said(capsys, "show", told["id"], "--state", path)
    assert await again(path) == []
    assert said(capsys, "retry", told["id"], "--state", path) == "sent again: 1\n"
    assert listed(capsys, path) == []
    assert await again(path) == ["a/1"]
    assert await again(path) == []


@hurried
async def test_all_of_one_stage_are_tried_again(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "state"
    await refused(path, "far", "other")
    assert said(capsys, "retry", "--all", "--stage", "sink/other", "--state", path) == "sent again: 1\n"
    assert [told["stage"] for told in listed(capsys, path)] == ["sink/far"]
    assert await again(path, "other") == ["a/1"]
    assert said(capsys, "retry", "--all", "--state", path) == "sent again: 1\n"
    assert said(capsys, "list", "--state", path) == "There are no dead letters.\n"


@hurried
async def test_what_runs_hears_of_it(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "state"
    with closing(SqliteState(path)) as state:
        far = Far(answer=raising(Rejected("too long")))
        delivery = Delivery({"far": far}, state)
        async with delivery.running():
            post(delivery, finding("a"))
            while not list(state.scan(DEAD)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            said(capsys, "retry", "--all", "--state", path)
            delivery.tick(finding().at)
            await delivery.end()
        assert far.told == ["a/1"]


@hurried
async def test_what_cannot_be_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "state"
    await refused(path, "far")
    for args in (["show", "x"], ["retry", "far/1"], ["show", "far/zz"]):
        line = said(capsys, *args, "--state", path, status=1)
        assert "there is no dead letter" in line
        assert line.count("\n") == 1
    assert "no such file" in said(capsys, "list", "--state", tmp_path / "none", status=1)
    assert "no `kafka:` in the settings" in said(capsys, "list", status=1)
    assert "either an ID or --all" in said(capsys, "retry", "--state", path, status=2)
