"""What is sent and when: the newest, at a bounded rate, nothing lost, and all again in half an hour."""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.index import Key
from collectors.sending import BURST, RESTATE_PER_SECOND, RESTATE_SECONDS, Outbox


class Sent(NamedTuple):
    at: float
    name: str
    content: int | None  # None: gone
    again: bool


class Sender:
    """Sends as the collector does: how the object is at that moment, if that is new."""

    def __init__(self) -> None:
        self.now = 1000.25
        self.outbox = Outbox(self.now)
        self.objects: dict[Key, int] = {}
        self.sent: list[Sent] = []

    def change(self, name: str, content: int | None) -> None:
        key = Key("Pod", "shop", name)
        if content is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = content
        self.outbox.touch(key)

    def send(self) -> list[tuple[str, int | None]]:
        before = len(self.sent)
        for key, again in self.outbox.due(self.now):
            content = self.objects.get(key)
            if again or self.outbox.is_new(key, content):
                self.sent.append(Sent(self.now, key.name, content, again))
                self.outbox.acknowledged(key, content)
        return [(each.name, each.content) for each in self.sent[before:]]

    def send_all(self) -> None:
        """Until nothing waits but the next re-statement, waiting as long as the outbox says."""
        while (wait := self.outbox.next_due(self.now)) is not None:
            self.now += wait
            self.send()

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.send()
            self.send_all()


@pytest.fixture
def sender() -> Sender:
    return Sender()


def test_of_many_changes_the_newest_is_sent_once(sender: Sender) -> None:
    for content in range(5):
        sender.change("a", content)
    sender.change("b", 0)
    assert sender.send() == [("a", 4), ("b", 0)]
    assert sender.send() == []


def test_what_has_not_changed_is_not_sent_again(sender: Sender) -> None:
    for _ in range(2):
        sender.change("a", 1)
        sender.send()
    assert len(sender.sent) == 1


def test_what_has_not_arrived_is_sent_again(sender: Sender) -> None:
    sender.change("a", 1)
    ((key, again),) = sender.outbox.due(sender.now)
    assert not again
    assert sender.outbox.is_new(key, 1)
    sender.outbox.acknowledged(key, 1)
    assert not sender.outbox.is_new(key, 1)
    assert sender.outbox.is_new(key, 2)


def test_what_changes_while_it_is_being_sent_is_sent_again(sender: Sender) -> None:
    sender.change("a", 1)
    for key, _ in sender.outbox.due(sender.now, most=1):
        sender.change("a", 2)
        sender.outbox.acknowledged(key, 1)
    assert sender.send() == [("a", 2)]


def test_three_at_once_and_then_one_a_second(sender: Sender) -> None:
    for content in range(10):
        sender.change("a", content)
        sender.send()
    sender.change("a", 10)
    assert [each.content for each in sender.sent] == [0, 1, 2]
    assert len(sender.outbox) == 1
    assert sender.outbox.next_due(sender.now) == 1.0
    sender.now += 0.5
    assert sender.send() == []
    sender.now += 0.5
    assert sender.send() == [("a", 10)]
    assert len(sender.outbox) == 0


def test_one_that_changes_all_the_time_does_not_slow_others(sender: Sender) -> None:
    for content in range(10):
        sender.change("noisy", content)
        sender.send()
    sender.change("quiet", 1)
    assert sender.send() == [("quiet", 1)]


def test_a_long_silence_earns_no_more_than_the_burst(sender: Sender) -> None:
    sender.change("a", 0)
    sender.send()
    sender.now += 100
    for content in range(1, 10):
        sender.change("a", content)
        sender.send()
    assert [each.content for each in sender.sent] == [0, 1, 2, 3]


def test_what_nobody_was_told_of_need_not_be_gone(sender: Sender) -> None:
    sender.change("a", None)
    sender.change("b", 1)
    sender.change("b", None)
    assert sender.send() == []


def test_what_is_gone_is_said_once_and_never_stated_again(sender: Sender) -> None:
    sender.change("a", 1)
    sender.send()
    sender.change("a", None)
    assert sender.send() == [("a", None)]
    sender.wait(RESTATE_SECONDS)
    assert len(sender.sent) == 2


def test_what_comes_back_as_it_was_is_new(sender: Sender) -> None:
    for content in (1, None, 1):
        sender.change("a", content)
        sender.send()
    assert [each.content for each in sender.sent] == [1, None, 1]


def test_deleting_and_making_anew_does_not_escape_the_rate(sender: Sender) -> None:
    for content in range(1, 11):
        sender.change("a", content if content % 2 else None)
        sender.send()
    assert [each.content for each in sender.sent] == [1, None, 3]


def test_everything_is_stated_again_once_in_half_an_hour_evenly(sender: Sender) -> None:
    names = [f"p{number}" for number in range(2 * RESTATE_SECONDS)]
    for name in names:
        sender.change(name, 1)
    sender.send_all()
    first = len(sender.sent)
    assert first == len(names)
    sender.wait(RESTATE_SECONDS)
    again = sender.sent[first:]
    assert Counter(each.name for each in again) == Counter(names)
    assert max(Counter(int(each.at) for each in again).values()) < 20
    sender.wait(RESTATE_SECONDS)
    assert Counter(each.name for each in sender.sent[first:]) == Counter(names * 2)


def overdue(sender: Sender, count: int) -> None:
    """All those have been sent, and then nobody asked for so long that all are to be stated again."""
    for number in range(count):
        sender.change(f"p{number}", 1)
    sender.send_all()
    sender.sent.clear()
    sender.now += 3 * RESTATE_SECONDS


def test_after_a_long_pause_all_is_stated_again_once_and_slowly(sender: Sender) -> None:
    overdue(sender, 3000)
    begun = sender.now
    sender.send()
    assert len(sender.sent) == RESTATE_PER_SECOND
    for _ in range(RESTATE_PER_SECOND):
        sender.now += 1 / RESTATE_PER_SECOND
        sender.send()
    assert 990 <= len(sender.sent) <= 2 * RESTATE_PER_SECOND
    sender.send_all()
    assert {each.name for each in sender.sent} == {f"p{number}" for number in range(3000)}
    assert sender.now - begun >= 4.9


def test_changes_come_before_what_is_stated_again(sender: Sender) -> None:
    overdue(sender, 3000)
    sender.change("p2999", 2)
    sender.change("new", 1)
    assert sender.send()[:2] == [("p2999", 2), ("new", 1)]
    sender.change("p2998", 2)
    assert sender.send()[0] == ("p2998", 2)


def test_a_touch_does_not_stand_in_for_being_stated_again(sender: Sender) -> None:
    overdue(sender, 1000)
    sender.send()
    for number in range(1000):
        sender.change(f"p{number}", 1)
    sender.send_all()
    assert {each.name for each in sender.sent} == {f"p{number}" for number in range(1000)}


def test_next_due_says_how_long_to_wait(sender: Sender) -> None:
    assert sender.outbox.next_due(sender.now) is None
    sender.change("a", 0)
    assert sender.outbox.next_due(sender.now) == 0.0
    sender.send()
    assert sender.outbox.next_due(sender.now) is None
    for content in range(1, 4):
        sender.change("a", content)
        sender.send()
    assert sender.outbox.next_due(sender.now + 0.25) == 0.75
    assert sender.outbox.next_due(sender.now + 5) == 0.0
    sender.send_all()
    overdue(sender, 501)
    sender.send()
    assert sender.outbox.next_due(sender.now) == 1 / RESTATE_PER_SECOND


def test_so_many_at_once_and_no_more(sender: Sender) -> None:
    for number in range(600):
        sender.change(f"p{number}", 1)
    assert len(sender.send()) == 500
    assert sender.outbox.next_due(sender.now) == 0.0
    assert len(sender.send()) == 100


def test_in_a_large_cluster_nothing_is_lost_and_none_speaks_too_often(sender: Sender) -> None:
    names = [f"p{number}" for number in range(10_000)]
    for content in range(5):
        for name in names:
            sender.change(name, content)
        while sender.outbox.next_due(sender.now) == 0.0:
            sender.send()
    assert Counter(each.name for each in sender.sent) == Counter(names * BURST)
    sender.send_all()
    assert {each.name: each.content for each in sender.sent} == dict.fromkeys(names, 4)


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.3, 1.0, 2.5])),
    max_size=60,
)


@given(STEPS)
def test_the_last_state_always_arrives_and_no_object_speaks_too_often(
    steps: list[tuple[str, int | None, float]],
) -> None:
    sender = Sender()
    for name, content, pause in steps:
        sender.change(name, content)
        sender.now += pause
        sender.send()
    sender.send_all()
    assert len(sender.outbox) == 0
    for name in {name for name, _, _ in steps}:
        sent = [each for each in sender.sent if each.name == name]
        last = next(content for each, content, _ in reversed(steps) if each == name)
        assert (sent[-1].content if sent else None) == last
        live = [each for each in sent if not each.again]
        assert all(before.content != after.content for before, after in pairwise(live))
        assert all(late.at - early.at >= 1 - 1e-6 for early, late in zip(live, live[BURST:], strict=False))
