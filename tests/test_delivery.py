"""How findings get to sinks that are slow, down, choosy or broken, and through the end of the process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from kubewhy.contracts import Letter, Manner, Memo, Sink, State
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Finding, Ref, Severity
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.outbox import DEAD, MEMO, OUTBOX, Dead
from kubewhy.runtime.state import MemoryState, SqliteState
from tests.delivered import Kept
from tests.hurry import hurried
from tests.views import told, view

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
RANKS = {0: Severity.INFO, 1: Severity.WARNING, 2: Severity.CRITICAL}
Said = list[tuple[str, str, int]]  # the sink, the line, and how many waited


def now() -> datetime:
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def finding(incident: str = "i", revision: int = 1, rank: int = 1, at: datetime | None = None) -> Finding:
    seen = view(told(Ref("Pod", incident, "shop")), id=incident, severity=RANKS[rank])
    transition = "opened" if revision == 1 else "updated"
    return Finding(id=f"{incident}/{revision}", transition=transition, at=at or now(), revision=revision, incident=seen)


class Killed(BaseException):
    """Nobody outlives it."""


class Far(Kept):
    """A far side that first does what it is told to at each call, and keeps when what came."""

    def __init__(self, manner: Manner | None = None, answer: Callable[[Sequence[Letter]], None] | None = None) -> None:
        super().__init__(manner)
        self.answer = answer or (lambda letters: None)
        self.calls: list[tuple[float, list[str]]] = []
        self.at: dict[str, float] = {}  # when each finding came first

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        time = asyncio.get_running_loop().time()
        self.calls.append((time, [letter.finding.id for letter in letters]))
        self.answer(letters)
        for letter in letters:
            self.at.setdefault(letter.finding.id, time)
        await super().send(letters, memo)


def raising(*errors: Exception | None) -> Callable[[Sequence[Letter]], None]:
    """One after the other; nothing after the last."""
    left = list(errors)

    def answer(letters: Sequence[Letter]) -> None:
        if left and (error := left.pop(0)):
            raise error

    return answer


@asynccontextmanager
async def delivering(
    sinks: Sink | Mapping[str, Sink], state: State | None = None, said: Said | None = None
) -> AsyncIterator[Delivery]:
    """Time passes in it, second by second."""
    many = sinks if isinstance(sinks, Mapping) else {"far": sinks}
    lines: Said = [] if said is None else said
    delivery = Delivery(
        many, state or MemoryState(), lambda name, line, counts: lines.append((name, line, counts.waiting))
    )

    async def tick() -> None:
        while True:
            delivery.tick(now())
            await asyncio.sleep(1)

    async with delivery.running():
        ticking = asyncio.create_task(tick())
        try:
            yield delivery
        finally:
            ticking.cancel()


def post(delivery: Delivery, *findings: Finding, to: Sequence[str] = ("far",)) -> None:
    delivery.post([(name, each) for each in findings for name in to], {})


@hurried
async def test_what_is_posted_arrives_and_nothing_is_kept_of_it() -> None:
    far, state = Far(), MemoryState()
    async with delivering(far, state) as delivery:
        post(delivery, finding("a"), finding("b"))
        await delivery.end()
    assert far.told == ["a/1", "b/1"]
    assert list(state.scan(OUTBOX)) == []


@hurried
async def test_no_position_comes_twice_even_where_the_state_is_lost() -> None:
    positions = []
    for _ in range(2):
        far = Far()
        async with delivering(far) as delivery:
            post(delivery, finding("a"), finding("b"))
            await delivery.end()
        positions += [letter.position for letter in far.letters]
        await asyncio.sleep(1)
    assert positions == sorted(set(positions))


@hurried
async def test_what_fails_is_tried_again_ever_more_seldom() -> None:
    far = Far(answer=raising(*[RetryLater("down")] * 9))
    async with delivering(far) as delivery:
        post(delivery, finding())
        await delivery.end()
        await asyncio.sleep(400)
    pauses = [round(later - earlier) for (earlier, _), (later, _) in pairwise(far.calls)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("after", "pause"), [(7.0, 7), (200.0, 200), (86400.0, 300), (0.0, 1)])
@hurried
async def test_a_sink_that_says_how_long_to_wait_is_heeded(after: float, pause: float) -> None:
    far = Far(answer=raising(RetryLater("busy", after)))
    async with delivering(far) as delivery:
        post(delivery, finding())
        await asyncio.sleep(400)
    (first, _), (second, _) = far.calls
    assert round(second - first) == pause


@hurried
async def test_what_is_refused_for_good_is_set_aside_with_the_reason_and_the_others_arrive() -> None:
    def refuse(letters: Sequence[Letter]) -> None:
        if any(letter.finding.id == "b/1" for letter in letters):
            raise Rejected("too long")

    state, said = MemoryState(), Said()
    far = Far(answer=refuse)
    async with delivering(far, state, said) as delivery:
        post(delivery, finding("a"), finding("b"), finding("c"))
        await delivery.end()
        counts = delivery.counts()["far"]
    assert far.told == ["a/1", "c/1"]
    ((_, row),) = state.scan(f"{DEAD}far\x1f")
    dead = msgspec.json.decode(row, type=Dead)
    assert (dead.reason, dead.finding.id) == ("too long", "b/1")
    assert said == [("far", "refuses a finding, which is set aside (too long)", 1)]
    assert (counts.delivered, counts.dead, counts.waiting) == (2, 1, 0)


@hurried
async def test_what_a_person_has_to_mend_is_told_once_and_tried_each_minute() -> None:
    said = Said()
    far = Far(answer=raising(*[ConfigError("no such channel; name another one")] * 3))
    async with delivering(far, said=said) as delivery:
        post(delivery, finding())
        await asyncio.sleep(200)
    assert [round(time) for time, _ in far.calls] == [0, 60, 120, 180]
    assert said == [
        ("far", "no such channel; name another one; it is tried again", 1),
        ("far", "works again after 180 s", 0),
    ]


@hurried
async def test_a_bug_in_a_sink_is_told_once_by_its_sort_and_stops_nobody() -> None:
    said = Said()
    broken, sound = Far(answer=raising(*[KeyError("hunter2")] * 4)), Far()
    async with delivering({"broken": broken, "sound": sound}, said=said) as delivery:
        post(delivery, finding(), to=("broken", "sound"))
        await delivery.end()
    assert sound.at["i/1"] < 1
    assert len(broken.told) == 1
    assert said == [
        ("broken", "KeyError: this is a bug in kubewhy; it is tried again", 1),
        ("broken", "works again after 15 s", 0),
    ]


@hurried
async def test_what_a_sink_cannot_cope_with_holds_up_the_others_for_a_while_only() -> None:
    def odd(letters: Sequence[Letter]) -> None:
        if any(letter.finding.incident.id == "odd" for letter in letters):
            raise KeyError("hunter2")

    state, said = MemoryState(), Said()
    far = Far(answer=odd)
    async with delivering(far, state, said) as delivery:
        post(delivery, finding("a"), finding("odd"), finding("b"))
        await asyncio.sleep(600)
    assert far.told == ["a/1", "b/1"]
    ((_, row),) = state.scan(DEAD)
    assert msgspec.json.decode(row, type=Dead).reason == "KeyError: this is a bug in kubewhy"
    assert "hunter2" not in str(said)


@hurried
async def test_what_waits_for_a_sink_that_is_no_more_is_told_and_kept() -> None:
    state, said = MemoryState(), Said()
    async with delivering({"down": Far(answer=raising(*[RetryLater("down")] * 99))}, state) as delivery:
        post(delivery, finding(), to=["down"])
    async with delivering({"far": Far()}, state, said):
        pass
    assert said == [("down", "the settings name it no more; what waits for it stays in the state", 1)]
    assert len(list(state.scan(OUTBOX))) == 1


@hurried
async def test_of_what_is_merged_only_what_was_refused_is_set_aside() -> None:
    def refuse(letters: Sequence[Letter]) -> None:
        if any(letter.finding.incident.id == "b" for letter in letters):
            raise Rejected("gone")

    state, far = MemoryState(), Far(Manner(merges=True), refuse)
    async with delivering(far, state) as delivery:
        post(delivery, *(finding(incident, revision) for revision in (1, 2, 3) for incident in "abc"))
        await delivery.end()
    assert far.told == ["a/3", "c/3"]
    assert [msgspec.json.decode(row, type=Dead).finding.id for _, row in state.scan(DEAD)] == ["b/3"]
    assert list(state.scan(OUTBOX)) == []


@hurried
async def test_what_passes_in_a_moment_is_not_worth_a_word() -> None:
    said = Said()
    far = Far(answer=raising(RetryLater("busy"), None, RetryLater("busy"), RetryLater("busy")))
    async with delivering(far, said=said) as delivery:
        post(delivery, finding("a"))
        await asyncio.sleep(10)
        post(delivery, finding("b"))
        await asyncio.sleep(10)
    assert (far.told, said) == (["a/1", "b/1"], [])


@hurried
async def test_what_lasts_is_told_when_it_begins_and_when_it_ends() -> None:
    said = Said()
    far = Far(answer=raising(*[RetryLater("HTTP 502")] * 6))
    async with delivering(far, said=said) as delivery:
        post(delivery, finding("a"), finding("b"))
        await asyncio.sleep(100)
    assert said == [("far", "HTTP 502; it is tried again", 2), ("far", "works again after 63 s", 0)]


class Putting(Kept):
    """A sink that puts work off."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        for letter in letters:
            memo.put(f"later {letter.finding.id}", b"")
        self.done += [letter.finding.id for letter in letters]

    async def spare(self, memo: Memo) -> bool:
        first = next(memo.scan("later "), None)
        if first:
            memo.put(first[0], None)
            self.done.append(first[0])
            # Meanwhile something new has come.
            if len(self.done) == 3:
                post(self.delivery, finding("c"))
        return first is not None

    delivery: Delivery


@hurried
async def test_what_was_put_off_is_done_when_nothing_waits() -> None:
    sink, state = Putting(), MemoryState()
    async with delivering(sink, state) as sink.delivery:
        post(sink.delivery, finding("a"), finding("b"))
        await sink.delivery.end()
    assert sink.done == ["a/1", "b/1", "later a/1", "c/1", "later b/1", "later c/1"]
    assert list(state.scan(MEMO)) == []


class Pulse(Kept):
    """A sink of which something comes due by itself."""

    def __init__(self, manner: Manner) -> None:
        super().__init__(manner)
        self.asked: list[float] = []

    async def spare(self, memo: Memo) -> bool:
        self.asked.append(asyncio.get_running_loop().time())
        return False


@pytest.mark.parametrize(("often", "times"), [(timedelta(seconds=60), 5), (None, 1)])
def test_a_sink_is_asked_for_what_comes_due_by_itself(often: timedelta | None, times: int) -> None:
    @hurried
    async def test() -> None:
        sink = Pulse(Manner(often=often))
        async with delivering(sink) as delivery:
            await asyncio.sleep(299)
            await delivery.end()
        assert len(sink.asked) == times

    test()


@hurried
async def test_a_sink_that_has_put_nothing_off_makes_nobody_wait() -> None:
    far = Far(Manner(apart=timedelta(seconds=10)))
    async with delivering(far) as delivery:
        for incident in "ab":
            await asyncio.sleep(15)
            post(delivery, finding(incident))
        await asyncio.sleep(0.1)
    assert [round(time) for time, _ in far.calls] == [15, 30]


@hurried
async def test_what_was_put_off_before_a_restart_is_done_after_it() -> None:
    sink, state = Putting(), MemoryState()
    state.write({f"{MEMO}far\x1flater a/1": b"", f"{MEMO}other\x1flater b/1": b""})
    async with delivering(sink, state):
        await asyncio.sleep(1)
    assert sink.done == ["later a/1"]


SPAN = Manner(span=timedelta(minutes=1), at_most=100)


@hurried
async def test_a_batch_that_may_have_arrived_is_given_again_as_it_was() -> None:
    state = MemoryState()

    def die(letters: Sequence[Letter]) -> None:
        raise Killed

    first, second = Far(SPAN, die), Far(SPAN)
    with suppress(Killed):
        async with delivering(first, state) as delivery:
            post(delivery, finding("a", at=START), finding("b", at=START + timedelta(seconds=30)))
            await asyncio.sleep(100)
    async with delivering(second, state) as delivery:
        # A clock that was set back, or what an earlier process had in mind, must not change what it is made of.
        post(delivery, finding("c", at=START + timedelta(seconds=31)))
        await asyncio.sleep(200)
    assert [ids for _, ids in first.calls] == [["a/1", "b/1"]]
    assert [ids for _, ids in second.calls] == [["a/1", "b/1"], ["c/1"]]


@hurried
async def test_at_the_end_a_span_need_not_be_over() -> None:
    far = Far(SPAN)
    async with delivering(far) as delivery:
        post(delivery, finding("a"))
        await asyncio.sleep(0.1)
        assert far.told == []
    assert far.told == ["a/1"]


@hurried
async def test_at_the_end_what_does_not_arrive_is_waited_for_in_vain_only_so_long() -> None:
    said = Said()
    down, slow = Far(answer=raising(*[RetryLater("down")] * 99)), Far(Manner(at_most=1, apart=timedelta(seconds=50)))
    async with delivering({"down": down, "slow": slow}, said=said) as delivery:
        post(delivery, *(finding(f"{number}") for number in range(9)), to=("down", "slow"))
        await delivery.end()
        assert len(slow.told) == 9
        assert asyncio.get_running_loop().time() == pytest.approx(
            450, abs=5
        )  # at last it is asked whether it has put anything off
    assert said[-1] == ("down", "not all could be delivered before the end", 9)


@hurried
async def test_when_it_is_stopped_it_delivers_what_it_can_in_ten_seconds_and_keeps_the_rest() -> None:
    state, said, each_second = MemoryState(), Said(), Manner(at_most=1, apart=timedelta(seconds=1))
    first, second = Far(each_second), Far(each_second)

    async def work() -> None:
        async with delivering(first, state, said) as delivery:
            post(delivery, *(finding(f"{number:02}") for number in range(30)))
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await asyncio.sleep(4.5)
    working.cancel()
    await asyncio.wait([working])
    assert working.cancelled()
    assert 14 <= len(first.told) <= 16
    assert said == [("far", "not all could be delivered before the end", 30 - len(first.told))]
    async with delivering(second, state) as delivery:
        await delivery.end()
    assert first.told + second.told == [f"{number:02}/1" for number in range(30)]


@hurried
async def test_a_state_that_is_none_is_refused_in_one_line() -> None:
    for key, row in ((f"{OUTBOX}far\x1f0000000000000001", b"{}"), (f"{OUTBOX}far\x1fodd", b"{}")):
        state = MemoryState()
        state.write({key: row})
        with pytest.raises(ConfigError, match="the state holds what this kubewhy cannot read"):
            Delivery({"far": Far()}, state)


@hurried
async def test_of_three_sinks_one_is_down_for_half_an_hour_and_one_refuses_every_second_call() -> None:
    loop, in_order = asyncio.get_running_loop(), Manner(worst_first=False)

    def down(letters: Sequence[Letter]) -> None:
        if 60 <= loop.time() < 60 + 1800:
            raise RetryLater("HTTP 503")

    def refusing(letters: Sequence[Letter]) -> None:
        if len(sinks["second"].calls) % 2:
            raise RetryLater("HTTP 429")

    sinks = {"sound": Far(), "down": Far(in_order, down), "second": Far(in_order, refusing)}
    posted: dict[str, float] = {}
    longest = timedelta(0)
    async with delivering(sinks) as delivery:
        for number in range(2400):
            one = finding(f"{number % 40}", 1 + number // 40)
            posted[one.id] = loop.time()
            post(delivery, one, to=list(sinks))
            await asyncio.sleep(1)
            counts = delivery.counts()
            assert counts["sound"].lag < timedelta(seconds=5)
            longest = max(longest, counts["down"].lag)
        await delivery.end()
    assert timedelta(minutes=30) <= longest < timedelta(minutes=32)
    assert all(sinks["sound"].at[key] - at < 5 for key, at in posted.items())
    for sink in sinks.values():
        assert sink.told == list(posted)  # in order, each once


class Channel(Far):
    """A channel in which each incident is one message that is edited, found again by its name."""

    def __init__(self, dies: Callable[[], None] = lambda: None) -> None:
        super().__init__(Manner(at_most=1, apart=timedelta(seconds=1), merges=True))
        self.messages: dict[str, int] = {}
        self.dies = dies

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        await super().send(letters, memo)
        for letter in letters:
            self.messages[letter.finding.incident.id] = letter.finding.revision
        self.dies()


@pytest.mark.parametrize("restarts", [0, 20])
@hurried
async def test_a_burst_of_three_hundred_arrives_in_time_the_worst_first_and_its_edits_merged(restarts: int) -> None:
    loop, state = asyncio.get_running_loop(), MemoryState()
    deaths = [loop.time() + 14 * number for number in range(1, restarts + 1)]

    def dies() -> None:
        if deaths and loop.time() >= deaths[0]:
            deaths.pop(0)
            raise Killed

    channel = Channel(dies)
    burst = [finding(f"i{number:03}", rank=number % 3) for number in range(300)]
    edits = [finding(f"i{number:03}", 2 + edit, number % 3) for edit in range(4) for number in range(300)]
    begun, unsent = loop.time(), [*burst, *edits]
    while len(channel.messages) < 300 or unsent:
        with suppress(Killed):
            async with delivering(channel, state) as delivery:
                post(delivery, *unsent)
                unsent = []
                await delivery.end()
    assert loop.time() - begun <= 310
    assert deaths == []
    assert set(channel.messages.values()) == {5}
    assert len(channel.calls) == 300 + restarts
    firsts = sorted(channel.at, key=lambda key: channel.at[key])
    ranks = [int(key[1:4]) % 3 for key in firsts]
    assert ranks == sorted(ranks, reverse=True)


@hurried
async def test_twenty_restarts_in_the_middle_of_a_file_state(tmp_path: Path) -> None:
    """Whatever was told twice was told at the moment of a death, and in the same words."""
    loop, path, killed = asyncio.get_running_loop(), tmp_path / "state", 0
    arrived: list[Letter] = []
    number = 0
    while number < 400:
        state = SqliteState(path)
        until = loop.time() + 17

        def dies(letters: Sequence[Letter], until: float = until) -> None:
            arrived.extend(letters)
            if loop.time() >= until:
                raise Killed

        try:
            async with delivering(Far(Manner(at_most=3), dies), state) as delivery:
                while number < 400:
                    post(delivery, finding(f"{number % 7}", 1 + number // 7))
                    number += 1
                    await asyncio.sleep(1)
                await delivery.end()
        except Killed:
            killed += 1
        state.close()
    assert killed >= 20
    once: dict[int, Letter] = {}
    for letter in arrived:
        assert once.setdefault(letter.position, letter) == letter
    assert len(once) == 400
    assert len(arrived) <= 400 + 3 * killed
    for incident in range(7):
        revisions = [each.finding.revision for each in once.values() if each.finding.incident.id == f"{incident}"]
        assert revisions == sorted(revisions)
