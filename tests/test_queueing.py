"""Which letters a sink is given next."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewhy.contracts import Manner
from kubewhy.runtime.queueing import Batch, Waiting, next_batch

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = START + timedelta(days=1)


def letters(*told: tuple[str, int], every: float = 0) -> list[Waiting]:
    """Of these incidents and ranks, in the order of their coming."""
    return [
        Waiting(number, incident, rank, START + timedelta(seconds=every * number))
        for number, (incident, rank) in enumerate(told, 1)
    ]


def given_of(waiting: list[Waiting], manner: Manner, now: datetime = LATER) -> list[int]:
    batch = next_batch(waiting, manner, now)
    return list(batch.given) if batch else []


MIXED = letters(("a", 1), ("b", 2), ("a", 1), ("c", 1), ("b", 0), ("d", 2))


@pytest.mark.parametrize(
    ("manner", "given"),
    [
        (Manner(worst_first=False), [1, 2, 3, 4, 5, 6]),
        (Manner(worst_first=False, at_most=2), [1, 2]),
        (Manner(), [2, 5, 6, 1, 3, 4]),
        (Manner(at_most=1), [2]),
        (Manner(at_most=3), [2, 5, 6]),
        (Manner(merges=True), [5, 6, 3, 4]),
        (Manner(merges=True, at_most=1), [5]),
        (Manner(merges=True, worst_first=False), [3, 5, 4, 6]),
    ],
)
def test_what_waits_is_given_in_the_manner_of_the_sink(manner: Manner, given: list[int]) -> None:
    assert given_of(MIXED, manner) == given


def test_where_nothing_waits_nothing_is_given() -> None:
    assert next_batch([], Manner(), LATER) is None


def test_what_is_merged_is_settled_with_what_is_given() -> None:
    batch = next_batch(MIXED, Manner(merges=True, at_most=2), LATER)
    assert batch
    assert batch.given == (5, 6)
    assert batch.settled == {2, 5, 6}


def test_what_digests_stand_for_is_given_together_and_aside() -> None:
    waiting = [each._replace(beneath=each.incident in "ac") for each in MIXED]
    batch = next_batch(waiting, Manner(at_most=1, merges=True, aside=True), LATER)
    assert batch == Batch((1, 3, 4), frozenset({1, 3, 4}), aside=True)
    batch = next_batch(waiting, Manner(at_most=1), LATER)
    assert batch == Batch((2,), frozenset({2}))


def test_an_incident_counts_as_much_as_the_worst_that_waits_of_it() -> None:
    waiting = letters(("a", 0), ("b", 1), ("a", 2))
    assert given_of(waiting, Manner()) == [1, 3, 2]


MINUTES = Manner(span=timedelta(minutes=1), at_most=4)


def test_a_span_goes_together_once_it_is_over() -> None:
    waiting = letters(("a", 1), ("b", 2), ("c", 1), every=25)
    assert given_of(waiting[:2], MINUTES, START + timedelta(seconds=59)) == []
    assert given_of(waiting[:2], MINUTES, START + timedelta(seconds=60)) == [1, 2]
    assert given_of(waiting, MINUTES, START) == [1, 2]
    assert given_of(waiting[2:], MINUTES, START + timedelta(seconds=119)) == []


def test_as_many_as_go_together_need_not_wait_for_the_end_of_the_span() -> None:
    waiting = letters(*[("a", 1)] * 9)
    assert given_of(waiting, MINUTES, START) == [1, 2, 3, 4]
    assert given_of(waiting[4:], MINUTES, START) == [5, 6, 7, 8]
    assert given_of(waiting[8:], MINUTES, START) == []


COMING = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.integers(0, 40)), max_size=30)


def queued(coming: list[tuple[str, int, int]]) -> list[Waiting]:
    at, waiting = START, []
    for position, (incident, rank, seconds) in enumerate(coming):
        at += timedelta(seconds=seconds)
        waiting.append(Waiting(position, incident, rank, at))
    return waiting


@given(COMING, st.data())
def test_a_span_is_cut_alike_however_often_it_is_looked_at(
    coming: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    everything = queued(coming)

    def cuts(moments: list[datetime]) -> list[tuple[int, ...]]:
        left, cut = list(everything), []
        for now in moments:
            while batch := next_batch([each for each in left if each.at <= now], MINUTES, now):
                cut.append(batch.given)
                left = [each for each in left if each.position not in batch.settled]
        return cut

    often = sorted(START + timedelta(seconds=data.draw(st.integers(0, 1200))) for _ in range(10))
    assert cuts([*often, LATER]) == cuts([LATER])


@given(COMING, st.booleans(), st.booleans(), st.integers(1, 5))
def test_all_arrives_and_in_order_within_an_incident(
    coming: list[tuple[str, int, int]], worst_first: bool, merges: bool, at_most: int
) -> None:
    left, manner = queued(coming), Manner(worst_first=worst_first, merges=merges, at_most=at_most)
    last = {each.incident: each.position for each in left}
    seen: dict[str, list[int]] = {}
    while batch := next_batch(left, manner, LATER):
        assert len(batch.given) <= at_most
        for position in batch.given:
            seen.setdefault(next(each.incident for each in left if each.position == position), []).append(position)
        left = [each for each in left if each.position not in batch.settled]
    assert {incident: given[-1] for incident, given in seen.items()} == last
    assert all(given == sorted(given) for given in seen.values())
    assert left == []
    assert merges or sum(map(len, seen.values())) == len(coming)
