"""Many incidents at once, as one sink is told of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer import digests
from explainer.digests import LIMIT, SHOWN
from explainer.storms import KEPT, MINUTE, QUIET, Storms
from kubewhy.cli.told import lines
from kubewhy.records import Finding, IncidentView, Ref, Severity, encode
from tests.golden import golden
from tests.views import told, view

START = datetime(2026, 3, 1, 12, 3, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Channel:
    """A sink, what it is told, and incidents to tell it of."""

    def __init__(self, *, repeat: timedelta | None = None, restarts: bool = False) -> None:
        self.repeat, self.restarts = repeat, restarts
        self.storms = Storms("slack", repeat)
        self.rows: dict[str, bytes] = {}
        self.now = START
        self.heard: list[Finding] = []
        self.open: dict[str, Finding] = {}
        self.number = 0

    def feed(self, finding: Finding) -> list[Finding]:
        told = self.storms.feed(finding, self.now)
        self._keep(told)
        return told

    def _keep(self, told: list[Finding]) -> None:
        self.heard += told
        for key, row in self.storms.rows().items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        if self.restarts:
            self.restart()

    def restart(self) -> None:
        self.storms = Storms("slack", self.repeat)
        self.storms.restore(sorted(self.rows.items()))

    def burst(self, count: int, severity: Severity = Severity.WARNING, **more: Any) -> list[str]:
        """So many incidents open at once."""
        keys = []
        for _ in range(count):
            self.number += 1
            keys.append(f"i{self.number}")
            self.feed(self._finding(keys[-1], "opened", severity=severity, **more))
        return keys

    def update(self, key: str, transition: str = "updated", **more: Any) -> list[Finding]:
        """The incident is otherwise now."""
        return self.feed(self._finding(key, transition, **more))

    def resolve(self, keys: Iterable[str], resolution: str = "recovered") -> None:
        for key in keys:
            self.feed(self._finding(key, "resolved", state="resolved", resolved_at=self.now, resolution=resolution))
            del self.open[key]

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += SECOND
            self._keep(self.storms.tick(self.now))

    def _finding(self, key: str, transition: str, **more: Any) -> Finding:
        before = self.open.get(key)
        revision = before.revision + 1 if before else 1
        incident = before.incident if before else _incident(key, self.number, self.now)
        incident = msgspec.structs.replace(incident, **more)
        finding = Finding(
            id=f"{key} {revision}", transition=transition, at=self.now, revision=revision, incident=incident
        )
        if not incident.silenced:
            self.open[key] = finding
        return finding

    @property
    def digests(self) -> list[Finding]:
        return [each for each in self.heard if is_digest(each)]

    @property
    def alone(self) -> list[Finding]:
        """What people are told of single incidents."""
        return [each for each in self.heard if not is_digest(each) and not each.digest]

    def told(self) -> list[str]:
        """What people are told of digests."""
        return [f"{each.transition} {each.incident.member_count}" for each in self.digests]


def is_digest(finding: Finding) -> bool:
    return digests.is_digest(finding.incident)


class Mortal(Channel):
    """Told as the pipeline tells it: of what a process was telling as it died, the next one tells all once more."""

    def __init__(self, dies: Sequence[bool]) -> None:
        super().__init__()
        self.dies = cycle(dies)

    def feed(self, finding: Finding) -> list[Finding]:
        return self._send([finding, *self.storms.tick(self.now)])

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += SECOND
            self._send(self.storms.tick(self.now))

    def _send(self, findings: list[Finding]) -> list[Finding]:
        told = self._shares(findings)
        if told:
            if next(self.dies):
                self.restart()
                assert self._shares(findings) == told
            self._keep(told)
        return told

    def _shares(self, findings: Iterable[Finding]) -> list[Finding]:
        told: list[Finding] = []
        for each in findings:
            if is_digest(each):
                assert self.storms.claims(each)
                told.append(each)
            else:
                told += self.storms.feed(each, each.at)
        return told


def _incident(key: str, number: int, now: datetime) -> IncidentView:
    root = Ref("Deployment", f"web-{number}", "shop", "apps")
    failure = told(root, "deployment-unavailable", "no replica is available", since=now)
    return view(failure, id=key, cluster="prod", title="Nothing of it is available", root=root, opened_at=now)


@pytest.fixture
def channel() -> Channel:
    return Channel()


def test_twenty_incidents_within_a_minute_are_told_one_by_one(channel: Channel) -> None:
    channel.resolve(channel.burst(LIMIT))
    channel.wait(60)
    channel.resolve(channel.burst(LIMIT))
    channel.wait(200)
    assert (len(channel.heard), channel.digests) == (4 * LIMIT, [])
    assert channel.heard == channel.alone


def test_from_the_next_on_they_are_in_a_digest_that_comes_before_them(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 3)
    told = [("digest" if is_digest(each) else each.incident.id, bool(each.digest)) for each in channel.heard]
    alone, gathered = keys[:LIMIT], keys[LIMIT:]
    assert told == [*((key, False) for key in alone), ("digest", False), *((key, True) for key in gathered)]
    assert {each.digest for each in channel.heard if each.digest} == {channel.digests[0].incident.id}
    assert channel.digests[0].incident.title == "21 new incidents in cluster prod since 12:03 UTC"


def test_a_digest_is_told_anew_after_ten_seconds_and_then_ever_more_seldom(channel: Channel) -> None:
    channel.burst(LIMIT + 50)
    channel.wait(9)
    assert channel.told() == ["opened 1"]
    channel.wait(1)
    assert channel.told() == ["opened 1", "updated 50"]
    for _ in range(60):
        channel.burst(1)
        channel.wait(2)
    times = [(each.at - START).total_seconds() for each in channel.digests]
    assert times == [0, 10, 30, 70]
    assert [each.revision for each in channel.digests] == [1, 2, 3, 4]


def test_a_digest_that_has_not_changed_is_not_told_again(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 50)
    channel.wait(10)
    channel.update(keys[-1], transition="explained")
    channel.restart()
    channel.wait(1000)
    assert channel.told() == ["opened 1", "updated 50"]


def test_another_critical_incident_waits_for_no_growing_pause(channel: Channel) -> None:
    channel.burst(LIMIT + 1, Severity.CRITICAL)
    for _ in range(8):
        channel.burst(10)
        channel.wait(20)
    before = len(channel.digests)
    (worst,) = channel.burst(1, Severity.CRITICAL, title="All is lost")
    channel.wait(10)
    assert len(channel.digests) == before + 1
    incident = channel.digests[-1].incident
    assert incident.severity == Severity.CRITICAL
    assert [each.message for each in incident.failures[1:3]] == ["Nothing of it is available", "All is lost"]
    assert incident.members[1] == channel.open[worst].incident.root


def test_a_digest_names_the_worst_of_what_is_open_and_says_how_many_there_are(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 30, Severity.INFO) + channel.burst(20) + channel.burst(2, Severity.CRITICAL)
    channel.wait(10)
    incident = channel.digests[-1].incident
    assert (incident.title, incident.member_count) == ("72 new incidents in cluster prod since 12:03 UTC", 52)
    assert (incident.severity, incident.root) == (Severity.CRITICAL, Ref("Cluster", "prod"))
    summary, *named = incident.failures
    assert summary.message == ("20 are told one by one, 52 in this digest: 2 critical, 20 warning, 30 info still open")
    assert [str(each.severity) for each in named] == ["critical"] * 2 + ["warning"] * 3
    assert [each.object for each in named] == list(incident.members)
    channel.resolve(keys[-22:])
    channel.wait(20)
    incident = channel.digests[-1].incident
    assert incident.severity == Severity.INFO
    assert incident.failures[0].message.endswith(": 30 info still open; 22 over")


def test_what_is_older_than_what_was_heard_last_changes_nothing(channel: Channel) -> None:
    *_, key = channel.burst(LIMIT + 1)
    older = channel.heard[-1]
    channel.update(key, severity=Severity.CRITICAL)
    channel.feed(msgspec.structs.replace(older, digest=None))
    channel.wait(10)
    assert [str(each.incident.severity) for each in channel.digests] == ["warning", "critical"]


def test_a_storm_began_with_the_first_that_was_told_by_itself(channel: Channel) -> None:
    channel.now += timedelta(seconds=50)
    channel.burst(LIMIT)
    channel.wait(20)
    channel.burst(1)
    assert channel.digests[0].incident.title.endswith("since 12:03 UTC")


def test_an_incident_that_gets_worse_makes_its_digest_worse(channel: Channel) -> None:
    *_, key = channel.burst(LIMIT + 10)
    channel.wait(10)
    channel.update(key, severity=Severity.CRITICAL)
    channel.wait(10)
    assert [str(each.incident.severity) for each in channel.digests] == ["warning", "warning", "critical"]


def test_a_digest_ends_when_all_of_it_has_ended(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 10)
    channel.wait(100)
    channel.resolve(keys[:-1])
    channel.wait(500)
    assert [each.digest for each in channel.heard if each.incident.id in keys[:LIMIT]] == [None] * 2 * LIMIT
    assert channel.told()[-1] == "updated 10"
    channel.resolve(keys[-1:])
    channel.wait(1)
    assert channel.told()[-1] == "resolved 10"
    incident = channel.digests[-1].incident
    assert (incident.state, incident.resolution, incident.resolved_at) == ("resolved", "recovered", channel.now)
    assert incident.failures[0].message.endswith(": 10 over")
    channel.wait(500)
    assert channel.told()[-2:] == ["updated 10", "resolved 10"]


@pytest.mark.parametrize(
    ("resolutions", "told"),
    [
        (["deleted"], "deleted"),
        (["superseded", "recovered", "deleted"], "recovered"),
        (["silenced", "superseded"], "superseded"),
    ],
)
def test_a_digest_ends_as_its_incidents_did(channel: Channel, resolutions: list[str], told: str) -> None:
    keys = channel.burst(LIMIT + len(resolutions))
    for key, resolution in zip(keys[LIMIT:], resolutions, strict=True):
        channel.resolve([key], resolution)
    channel.wait(60)
    assert channel.digests[-1].incident.resolution == told


def test_incidents_that_end_as_fast_as_they_come_make_no_further_digest(channel: Channel) -> None:
    for _ in range(300):
        channel.resolve(channel.burst(1))
        channel.wait(1)
    assert [each for each in channel.told() if each.startswith("resolved")] == []
    channel.wait(60)
    assert (channel.told()[0], channel.told()[-1]) == ("opened 1", "resolved 280")
    assert len({each.incident.id for each in channel.digests}) == 1


def test_a_rate_about_the_limit_makes_one_digest(channel: Channel) -> None:
    for _ in range(100):
        channel.burst(1)
        channel.now += timedelta(seconds=2.9)
    assert len({each.incident.id for each in channel.digests}) == 1


def test_after_a_calm_minute_they_are_told_one_by_one_and_then_in_another_digest(channel: Channel) -> None:
    channel.burst(LIMIT + 1)
    channel.wait(60)
    channel.burst(LIMIT + 2)
    channel.wait(60)
    assert len(channel.alone) == 2 * LIMIT
    assert channel.told() == ["opened 1", "opened 1", "updated 2"]
    assert channel.digests[-1].incident.title.endswith("since 12:04 UTC")


def test_what_is_silenced_does_not_count(channel: Channel) -> None:
    channel.burst(100, silenced=True)
    channel.burst(LIMIT)
    channel.burst(100, silenced=True)
    assert channel.heard == channel.alone


def test_that_a_cluster_is_silent_is_told_by_itself(channel: Channel) -> None:
    channel.burst(LIMIT + 5)
    (key,) = channel.burst(1, Severity.CRITICAL, root=Ref("Cluster", "prod"), title="Nothing is heard of the cluster")
    channel.resolve([key])
    assert [each.digest for each in channel.heard if each.incident.id == key] == [None, None]
    (key,) = channel.burst(1, root=Ref("Cluster", "prod", "shop", "postgresql.example.org"))
    assert channel.heard[-1].digest == channel.digests[0].incident.id


def test_each_cluster_has_a_storm_of_its_own(channel: Channel) -> None:
    channel.burst(LIMIT)
    channel.burst(LIMIT + 1, cluster="test")
    (digest,) = channel.digests
    assert digest.incident.cluster == "test"


def test_each_sink_has_a_digest_of_its_own(channel: Channel) -> None:
    channel.burst(LIMIT + 1)
    other = Storms("teams")
    fed = [msgspec.structs.replace(each, digest=None) for each in channel.heard if not is_digest(each)]
    (digest,) = [told for each in fed for told in other.feed(each, START) if is_digest(told)]
    assert digest.incident.id != channel.digests[0].incident.id
    assert (other.claims(digest), channel.storms.claims(digest)) == (True, False)


def crashed(channel: Channel) -> Finding:
    """Digests were to be told as it ended; what is told then was not kept, but is sent by what comes after."""
    (unsent,) = channel.storms.tick(channel.now)
    channel.restart()
    assert channel.storms.claims(unsent)
    return unsent


def test_what_an_earlier_process_was_about_to_tell_of_a_digest_counts_as_told(channel: Channel) -> None:
    channel.burst(LIMIT + 5)
    channel.now += QUIET
    assert crashed(channel).revision == 2
    channel.wait(30)
    assert channel.told() == ["opened 1"]
    channel.burst(1)
    channel.wait(1)
    assert (channel.told()[-1], channel.digests[-1].revision) == ("updated 6", 3)


def test_a_digest_whose_end_an_earlier_process_was_about_to_tell_ends_once(channel: Channel) -> None:
    channel.resolve(channel.burst(LIMIT + 5))
    channel.now += MINUTE
    assert crashed(channel).transition == "resolved"
    channel.wait(200)
    assert channel.told() == ["opened 1"]


def test_an_incident_that_a_route_lets_pass_only_later_counts_too(channel: Channel) -> None:
    channel.burst(1)
    keys = [f"late-{number}" for number in range(LIMIT + 5)]
    channel.wait(1)
    for key in keys:
        channel.update(key)
    assert channel.told() == ["opened 1"]
    assert [each.incident.id for each in channel.alone] == ["i1", *keys[: LIMIT - 1]]


def test_what_was_told_before_digests_were_asked_for_stays_as_it_is(channel: Channel) -> None:
    keys = [f"old-{number}" for number in range(2 * LIMIT)]
    for key in keys:
        channel.update(key, opened_at=START - SECOND)
    channel.resolve(keys)
    assert channel.heard == channel.alone


def test_the_end_of_what_was_never_heard_of_is_handed_on(channel: Channel) -> None:
    assert [each.digest for each in channel.update("unheard", "resolved", state="resolved")] == [None]
    assert channel.rows == {}


def test_a_digest_is_told_again_where_incidents_are() -> None:
    channel = Channel(repeat=timedelta(hours=4))
    channel.burst(LIMIT + 10)
    channel.wait(9 * 3600)
    assert [each.transition for each in channel.digests] == ["opened", "updated", "repeated", "repeated"]
    assert channel.digests[-1].at - channel.digests[-2].at == timedelta(hours=4)


def test_a_clock_that_is_set_back_stops_neither_digests_nor_their_end(channel: Channel) -> None:
    channel.burst(LIMIT + 5)
    channel.now -= timedelta(hours=5)
    keys = channel.burst(LIMIT)
    assert [each.digest for each in channel.heard if each.incident.id in keys] == [None] * LIMIT
    channel.wait(1)
    assert channel.told() == ["opened 1", "updated 5"]
    channel.resolve(list(channel.open))
    channel.wait(1)
    assert channel.told()[-1] == "resolved 5"


def test_at_the_end_what_was_held_back_is_told(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 5)
    channel.heard += channel.storms.flush(channel.now)
    assert channel.told() == ["opened 1", "updated 5"]
    assert channel.storms.flush(channel.now) == []
    channel.resolve(keys)
    channel.heard += channel.storms.flush(channel.now)
    assert channel.told() == ["opened 1", "updated 5", "resolved 5"]
    assert channel.storms.flush(channel.now) == []
    channel.burst(1)
    assert channel.told()[-1] == "opened 1"
    assert len({each.incident.id for each in channel.digests}) == 2


def test_what_is_told_once_more_is_in_its_digest_also_when_all_is_over(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 5)
    heard = [each for each in channel.heard if not is_digest(each)]
    channel.resolve(keys)
    channel.wait(120)
    before = list(channel.digests)
    assert [channel.feed(msgspec.structs.replace(each, digest=None)) for each in heard] == [[each] for each in heard]
    channel.wait(120)
    assert channel.digests == before


def test_nothing_is_kept_of_what_has_long_been_over(channel: Channel) -> None:
    channel.resolve(channel.burst(LIMIT + 500))
    channel.restart()
    channel.wait(KEPT.total_seconds() + 120)
    assert list(channel.rows) == ["opened\x1fprod"]
    assert len(channel.rows["opened\x1fprod"]) < 1000


def test_a_row_that_is_none_is_as_good_as_none(channel: Channel) -> None:
    keys = channel.burst(LIMIT + 2)
    digest = channel.digests[0].incident.id
    channel.rows |= {f"digest\x1f{digest}": b"odd", "opened\x1fprod": b"{}", "incident\x1fi1": b"[]", "what": b""}
    channel.restart()
    # What a digest that is lost would have stood for is told by itself.
    assert channel.update(keys[-1])[0].digest is None


def test_a_digest_on_the_wire() -> None:
    channel = Channel()
    keys = channel.burst(LIMIT + 30, Severity.INFO) + channel.burst(20) + channel.burst(2, Severity.CRITICAL)
    channel.wait(61)
    channel.resolve(keys)
    channel.wait(1)
    document = b"".join(encode(each) + b"\n" for each in channel.digests).decode()
    golden("digest.jsonl", document)


def test_a_digest_reads_well_and_what_it_stands_for_is_not_read() -> None:
    channel = Channel()
    keys = channel.burst(LIMIT + 30, Severity.INFO) + channel.burst(4) + channel.burst(2, Severity.CRITICAL)
    channel.wait(61)
    channel.resolve(keys)
    channel.wait(1)
    alone = {each.id for each in channel.alone}
    told = [line.plain for each in channel.heard if each.id not in alone for line in lines(each)]
    golden("digest.txt", "\n".join(told) + "\n")


SEVERITIES = st.sampled_from(list(Severity))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("burst"), st.integers(1, 60), SEVERITIES),
        st.tuples(st.just("resolve"), st.integers(1, 40), st.sampled_from(["recovered", "deleted", "superseded"])),
        st.tuples(st.just("update"), st.integers(0, 100), SEVERITIES),
        st.tuples(st.just("wait"), st.integers(1, 70), st.none()),
        st.tuples(st.just("repeat"), st.integers(0, 100), st.none()),
    ),
    max_size=30,
)
untimed = settings(deadline=None)


def play(channel: Channel, steps: list[Any], *, repeats: bool = True) -> Channel:
    """All of that, until everything is over and a while has passed."""
    fed: list[Finding] = []
    for does, number, more in [*steps, ("resolve", 1000, "recovered"), ("wait", 70, None)]:
        still = list(channel.open)
        match does:
            case "burst":
                channel.burst(number, more)
            case "resolve":
                channel.resolve(still[:number], more)
            case "update" if still:
                channel.update(still[number % len(still)], severity=more)
            case "wait":
                channel.wait(number)
            case "repeat" if repeats and (fed := [each for each in channel.heard if not is_digest(each)]):
                again = fed[number % len(fed)]
                assert channel.storms.feed(msgspec.structs.replace(again, digest=None), channel.now) == [again]
    return channel


@untimed
@given(STEPS)
def test_people_are_told_of_few_incidents_and_of_a_digest_of_the_rest(steps: list[Any]) -> None:
    channel = play(Channel(), steps)
    firsts: dict[str, Finding] = {}
    for each in channel.alone:
        firsts.setdefault(each.incident.id, each)
    times = [each.at for each in firsts.values()]
    assert all(later - earlier >= MINUTE for earlier, later in zip(times, times[LIMIT:], strict=False))
    ways: dict[str, set[str | None]] = {}
    begun: set[str] = set()
    for each in channel.heard:
        if is_digest(each):
            begun.add(each.incident.id)
        else:
            ways.setdefault(each.incident.id, set()).add(each.digest)
            assert each.digest is None or each.digest in begun
    assert len(ways) == channel.number
    assert all(len(way) == 1 for way in ways.values())
    assert {key for way in ways.values() for key in way if key} == begun
    assert len({each.id for each in channel.heard}) == len(channel.heard)


@untimed
@given(STEPS)
def test_each_digest_opens_once_is_told_seldom_and_ends_once(steps: list[Any]) -> None:
    channel = play(Channel(), steps)
    lives: dict[str, list[Finding]] = {}
    for each in channel.digests:
        lives.setdefault(each.incident.id, []).append(each)
    sizes = Counter(each.digest for each in {each.incident.id: each for each in channel.heard}.values())
    opened = sorted(life[0].at for life in lives.values())
    assert all(later - earlier >= MINUTE for earlier, later in pairwise(opened))
    for key, life in lives.items():
        assert [each.transition for each in (life[0], life[-1])] == ["opened", "resolved"]
        assert {each.transition for each in life[1:-1]} <= {"updated"}
        assert [each.revision for each in life] == list(range(1, len(life) + 1))
        assert all(later.at - earlier.at >= QUIET for earlier, later in pairwise(life[:-1]))
        assert life[-1].incident.member_count == sizes[key]
        assert all(len(each.incident.failures) <= 1 + SHOWN for each in life)


@untimed
@given(STEPS)
def test_restarts_and_repeats_change_nothing(steps: list[Any]) -> None:
    plain = play(Channel(), steps, repeats=False).heard
    assert play(Channel(restarts=True), steps, repeats=False).heard == plain
    assert play(Channel(), steps).heard == plain


@untimed
@given(STEPS, st.lists(st.booleans(), min_size=1))
def test_processes_that_die_as_they_tell_change_nothing(steps: list[Any], dies: list[bool]) -> None:
    plain = play(Mortal([False]), steps, repeats=False).heard
    assert play(Mortal(dies), steps, repeats=False).heard == plain


@untimed
@given(STEPS, st.integers(1, 40))
def test_what_was_not_yet_remembered_is_told_again_under_the_same_ids(steps: list[Any], lost: int) -> None:
    channel = play(Channel(), [*steps, ("wait", 61, None)])
    channel.restart()
    crashed = Storms("slack")
    crashed.restore(sorted(channel.rows.items()))
    channel.heard = []
    channel.burst(lost)
    fed = [msgspec.structs.replace(each, digest=None) for each in channel.heard if not is_digest(each)]
    assert [told for each in fed for told in crashed.feed(each, channel.now)] == channel.heard
