"""What every sink passes: whatever comes twice is seen once, and it says of errors what they mean and no secret."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import get_args

import pytest

from kubewhy.contracts import Letter, Memo, Previews, Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.runtime.state import MemoryState
from sinks.settings import SinkSettings
from tests.conformance.far_sides import FAR_SIDES, FarSide
from tests.delivered import letters
from tests.test_incidents import Clock, broken


@pytest.fixture(params=FAR_SIDES)
async def far(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FarSide]:
    async with FAR_SIDES[request.param](tmp_path) as far:
        yield far


class Died(BaseException):
    """As by kill -9: nothing that is to be done on errors is done."""


class Memory:
    """What a sink remembers. The process dies at a write, before or after it is done."""

    def __init__(self) -> None:
        self._state = MemoryState()
        self.get, self.scan = self._state.get, self._state.scan
        self.writes, self.last, self.done = 0, 1_000_000, True

    def put(self, key: str, value: bytes | None) -> None:
        self.writes += 1
        dies = self.writes > self.last
        if not dies or self.done:
            self._state.write({key: value})
        if dies:
            raise Died


def story() -> list[Letter]:
    """Two incidents open, grow and end; a third stays open."""
    clock = Clock()
    for name in ("web", "db", "cache"):
        clock.say(f"Pod shop/{name}", broken("it crashes"))
    clock.wait(30)
    clock.say("Pod shop/web", broken("it crashes again"))
    clock.wait(120)
    for name in ("web", "db"):
        clock.say(f"Pod shop/{name}")
    clock.wait(600)
    return letters(clock.findings)


def batches(sink: Sink, told: list[Letter]) -> Iterator[list[Letter]]:
    """As large as the sink takes them, and at most three, so that there are some."""
    size = min(sink.manner.at_most, 3)
    return (told[at : at + size] for at in range(0, len(told), size))


async def spare(sink: Sink, memo: Memo) -> None:
    while await sink.spare(memo):
        pass


async def told_to(far: FarSide, memo: Memo, told: list[Letter]) -> None:
    """By a process of its own."""
    sink = far.sink()
    try:
        for batch in batches(sink, told):
            await sink.send(batch, memo)
        await spare(sink, memo)
    finally:
        await sink.close()


def test_every_sort_of_sink_is_tested() -> None:
    union = get_args(SinkSettings)[0]
    models = get_args(union) or (union,)
    types = {name for model in models for name in get_args(model.model_fields["type"].annotation)}
    assert set(FAR_SIDES) == types


async def test_what_comes_twice_is_seen_once(far: FarSide) -> None:
    memo, told, sink = Memory(), story(), far.sink()
    before = far.seen()
    for batch in batches(sink, told):
        await sink.send(batch, memo)
        once = far.seen()
        assert once != before
        await sink.send(batch, memo)
        assert far.seen() == once
    await spare(sink, memo)
    once = far.seen()
    await spare(sink, memo)
    assert far.seen() == once
    await sink.close()


async def test_what_comes_again_after_a_restart_is_seen_once(far: FarSide) -> None:
    memo, told = Memory(), story()
    sink = far.sink()
    batch = next(batches(sink, told))
    await sink.send(batch, memo)
    await sink.close()
    once = far.seen()
    sink = far.sink()
    await sink.send(batch, memo)
    await sink.close()
    assert far.seen() == once


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("sort", FAR_SIDES)
async def test_killed_at_any_write_of_its_memory_all_is_seen_once(sort: str, done: bool, tmp_path: Path) -> None:
    told, number, died = story(), 0, True
    (tmp_path / "whole").mkdir()
    async with FAR_SIDES[sort](tmp_path / "whole") as far:
        await told_to(far, Memory(), told)
        whole = shape(far.seen())
    while died:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        async with FAR_SIDES[sort](folder) as far:
            memo = Memory()
            memo.last, memo.done = number, done
            died = await dies(far, memo, told)
            assert shape(far.seen()) == whole
        number += 1


def shape(seen: object) -> object:
    """What is there, but for addresses and the like that the far side makes up."""
    return len(seen) if isinstance(seen, (bytes, list, dict)) else seen


async def dies(far: FarSide, memo: Memory, told: list[Letter]) -> bool:
    """Whether it died once. What was not yet said to have arrived is given again."""
    sink, died = far.sink(), False
    for batch in batches(sink, told):
        try:
            await sink.send(batch, memo)
        except Died:
            died, memo.last = True, 1_000_000
            await sink.close()
            sink = far.sink()
            await sink.send(batch, memo)
    try:
        await spare(sink, memo)
    except Died:
        died, memo.last = True, 1_000_000
        await spare(sink, memo)
    await sink.close()
    return died


async def test_errors_say_what_they_mean_in_one_line_without_a_secret(far: FarSide) -> None:
    memo, told, sink = Memory(), story(), far.sink()
    batch = next(batches(sink, told))
    for name, trouble in far.troubles.items():
        assert trouble.raises in (RetryLater, Rejected, ConfigError)
        trouble.make()
        with pytest.raises(trouble.raises) as caught:
            await sink.send(batch, memo)
        trouble.mend()
        said = str(caught.value)
        assert type(caught.value) is trouble.raises, name
        assert said, name
        assert said.isprintable(), name
        assert caught.value.__suppress_context__ or caught.value.__context__ is None, name
        assert not any(secret in said for secret in far.secrets), name
    await sink.send(batch, memo)
    assert far.seen()
    await sink.close()


def held() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def test_it_closes_what_it_has_opened(far: FarSide) -> None:
    async def once() -> tuple[int, int]:
        sink = far.sink()
        await sink.send(next(batches(sink, story())), Memory())
        await sink.close()
        await sink.close()
        # The far side has to hear of it: until nothing has changed for a while.
        before, since = held(), time.monotonic()
        while time.monotonic() - since < 0.2:
            await asyncio.sleep(0.01)
            if held() != before:
                before, since = held(), time.monotonic()
        return before

    await once()  # what is opened once for all
    (files, tasks), (files_again, tasks_again) = await once(), await once()
    assert files_again <= files
    assert tasks_again <= tasks


async def test_a_preview_can_be_read_on_a_terminal_and_sends_nothing(far: FarSide) -> None:
    sink, before = far.sink(), far.seen()
    shown = [sink.preview(letter.finding) for letter in story()] if isinstance(sink, Previews) else ["its JSON"]
    assert any(shown)
    assert not any(secret in told for told in shown for secret in far.secrets)
    assert all(line.isprintable() for told in shown for line in told.splitlines())
    assert far.seen() == before
    await sink.close()


async def test_its_manner_is_one_that_can_be_kept(far: FarSide) -> None:
    sink = far.sink()
    manner = sink.manner
    assert 1 <= manner.at_most <= 10_000
    assert manner.apart.total_seconds() <= 60
    assert manner.span.total_seconds() <= 300
    assert not (manner.span and manner.merges)
    await sink.close()
