"""Clusters that fall silent, one by one and many at once, and time that stood still because nobody was there."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.incidents import Incidents
from explainer.unheard import Silent
from kubewhy.errors import Rejected
from kubewhy.records import Heartbeat, Ref, Silence, SilenceChange, Tick, Version
from tests.test_incidents import SECOND, Clock, broken

FAR = timedelta(hours=1)


class Sky(Clock):
    """Many clusters, of which those that are `up` send heartbeats every ten seconds."""

    def __init__(self, up: str = "", **options: Any) -> None:
        super().__init__(**{"silence": Silent.TOGETHER} | options)
        self.up = set(up)
        self.beats()

    def beats(self, up: str = "") -> list[str]:
        """A heartbeat of each that is up, and of these from now on."""
        self.up |= set(up)
        told = []
        for name in sorted(self.up):
            beat = Heartbeat(cluster=name, version=Version(1, 0), observed_at=self.server, name=f"the {name}")
            told += self.feed(beat)
        return told

    def feed(self, record: Any) -> list[str]:
        return super().feed(record)

    def down(self, names: str) -> None:
        self.up -= set(names)

    def wait(self, seconds: float) -> list[str]:
        told = []
        for _ in range(int(seconds)):
            told += super().wait(1)
            if int(self.now.timestamp()) % 10 == 0:
                told += self.beats()
        return told

    def sleep(self, seconds: float) -> None:
        """Nobody is there: nothing is sent, nor taken."""
        self.now += seconds * SECOND

    def silence(self, *matchers: str, key: str = "s") -> list[str]:
        silence = Silence(id=key, matchers=matchers, ends_at=self.now + FAR)
        return self.feed(SilenceChange(id=key, silence=silence))

    @property
    def last(self) -> Any:
        return self.findings[-1].incident


@pytest.fixture
def sky() -> Iterator[Sky]:
    sky = Sky("abcdef")
    yield sky
    stay_true(sky)


def stay_true(sky: Sky) -> None:
    """What holds at the end of each: nothing is told twice, and each cluster is in at most one open incident."""
    opened = [each.incident.id for each in sky.findings if each.transition == "opened"]
    ended = [each.incident.id for each in sky.findings if each.transition == "resolved"]
    assert len(set(opened)) == len(opened)
    assert len(set(ended)) == len(ended)
    assert len({each.id for each in sky.findings}) == len(sky.findings)
    views = list(sky.stage.views())
    assert sorted(each.id for each in views) == sorted(set(opened) - set(ended))
    silent = [failure.object for view in views for failure in view.failures]
    assert len(set(silent)) == len(silent)


def test_one_or_two_silent_clusters_are_told_each_by_itself(sky: Sky) -> None:
    sky.down("bd")
    assert sky.wait(74) == []
    assert sky.wait(2) == ["opened Cluster b", "opened Cluster d"]
    assert [(each.incident.cluster, each.incident.cluster_name) for each in sky.findings] == [
        ("b", "the b"),
        ("d", "the d"),
    ]
    assert sky.wait(600) == []
    assert sky.beats("b") == ["resolved Cluster b recovered"]
    assert sky.beats("d") == ["resolved Cluster d recovered"]


def test_what_is_heard_of_again_while_it_waits_for_others_is_not_told(sky: Sky) -> None:
    sky.down("abcd")
    sky.wait(70)
    assert sky.beats("abcd") == []
    assert sky.wait(300) == []


def test_three_that_fall_silent_at_once_are_told_as_one(sky: Sky) -> None:
    sky.down("ab")
    sky.wait(10)
    sky.down("c")
    assert sky.wait(66) == ["opened Fleet fleet"]
    incident = sky.last
    assert (incident.cluster, incident.cluster_name, incident.title) == (
        "fleet",
        "fleet",
        "3 of 6 clusters are silent",
    )
    assert [each.name for each in incident.members] == ["a", "b", "c"]
    assert incident.failures[0].message == "the collector of the a has sent nothing for a minute"
    assert [each.rule for each in incident.words] == ["cluster-silent"]
    assert incident.commands == ("kubectl get pods -l app.kubernetes.io/name=kubewhy -A",)
    assert sky.wait(600) == []


def test_the_one_incident_grows_and_shrinks_and_ends_with_its_last(sky: Sky) -> None:
    sky.down("abc")
    sky.wait(60)
    sky.down("d")
    assert sky.wait(200) == ["opened Fleet fleet", "updated Fleet fleet"]
    assert sky.last.title == "4 of 6 clusters are silent"
    sky.beats("ab")
    assert sky.wait(60) == ["updated Fleet fleet"]
    assert (sky.last.title, sky.last.member_count) == ("2 of 6 clusters are silent", 2)
    sky.beats("c")
    assert sky.wait(60) == ["updated Fleet fleet"]
    assert sky.last.title == "1 of 6 clusters is silent"
    sky.beats("d")
    assert sky.wait(2) == ["resolved Fleet fleet recovered"]
    assert [each.name for each in sky.last.members] == ["d"]
    assert len({each.incident.id for each in sky.findings}) == 1


def test_once_it_is_about_few_others_are_told_by_themselves(sky: Sky) -> None:
    sky.down("abc")
    sky.wait(80)
    sky.beats("a")
    sky.wait(60)
    sky.down("d")
    assert sky.wait(90) == ["opened Cluster d"]
    assert len(list(sky.stage.views())) == 2


def test_one_that_was_told_by_itself_stays_by_itself(sky: Sky) -> None:
    sky.down("a")
    assert sky.wait(76) == ["opened Cluster a"]
    sky.down("bcd")
    assert sky.wait(76) == ["opened Fleet fleet"]
    assert [each.name for each in sky.last.members] == ["b", "c", "d"]
    assert sky.beats("a") == ["resolved Cluster a recovered"]
    sky.down("a")
    assert sky.wait(100) == ["updated Fleet fleet"]
    assert sky.last.member_count == 4


def test_many_more_can_fall_silent_at_once_once_the_first_are_few() -> None:
    sky = Sky("abcdefghi")
    sky.down("abc")
    sky.wait(80)
    sky.beats("ab")
    sky.wait(30)
    sky.down("defg")
    assert sky.wait(80)[-1] == "opened Fleet fleet"
    assert (sky.last.title, sky.last.member_count) == ("4 of 9 clusters are silent", 4)
    assert len(list(sky.stage.views())) == 2
    sky.beats("abcdefg")
    assert sorted(sky.wait(5)) == ["resolved Fleet fleet recovered"] * 2
    stay_true(sky)


def test_five_hundred_are_told_in_few_words() -> None:
    names = "".join(chr(0x4E00 + number) for number in range(500))
    sky = Sky(names)
    sky.down(names)
    assert sky.wait(80) == ["opened Fleet fleet"]
    assert (sky.last.title, len(sky.last.members)) == ("500 of 500 clusters are silent", 5)
    sky.beats(names)
    assert sky.wait(2) == ["resolved Fleet fleet recovered"]


def test_the_one_incident_is_silenced_where_all_of_it_is(sky: Sky) -> None:
    sky.silence('cluster=~"a|b|c"')
    sky.down("abc")
    assert sky.wait(80) == ["opened Fleet fleet"]
    assert sky.last.silenced
    sky.down("d")
    assert sky.wait(80) == ["resolved Fleet fleet superseded", "opened Fleet fleet"]
    assert [each.silenced for each in sky.findings] == [True, True, False]
    assert sky.silence('rule="cluster-silent"') == ["resolved Fleet fleet silenced", "opened Fleet fleet"]
    assert sky.last.silenced
    assert sky.feed(SilenceChange(id="s")) == ["resolved Fleet fleet superseded", "opened Fleet fleet"]
    assert sky.last.member_count == 4
    sky.beats("abcd")
    assert sky.wait(2) == ["resolved Fleet fleet recovered"]


def test_a_lone_silent_cluster_of_a_fleet_is_silenced_as_ever(sky: Sky) -> None:
    sky.silence("cluster=a")
    sky.down("ab")
    assert sky.wait(80) == ["opened Cluster a", "opened Cluster b"]
    assert [each.silenced for each in sky.findings] == [True, False]


def test_a_cluster_with_the_name_of_all_is_refused(sky: Sky) -> None:
    with pytest.raises(Rejected, match="stands for all"):
        sky.feed(Heartbeat(cluster="fleet", version=Version(1, 0), observed_at=sky.server))


def test_where_others_tell_nothing_ends_in_silence_and_nobody_is_told_of_it() -> None:
    clock = Clock(silence=Silent.UNTOLD, keep_open=timedelta(minutes=2))
    clock.beat()
    clock.say("Pod shop/a", broken(until=clock.server + 90 * SECOND))
    clock.say("Pod shop/b", broken())
    clock.say("Pod shop/b")
    assert clock.wait(1800) == []
    clock.restart()
    assert clock.wait(1800) == []
    assert clock.beat() == []
    assert clock.wait(55) == []
    assert clock.beat() == []
    assert clock.wait(10) == ["resolved Pod shop/b recovered"]


def test_what_is_said_of_an_object_does_not_mean_that_its_cluster_is_heard(sky: Sky) -> None:
    """Analyzers may be behind, and their reports come when the collector is long gone."""
    clock = Clock()
    clock.beat()
    assert clock.wait(70) == ["opened Cluster c"]
    assert clock.say("Pod shop/a", broken()) == ["opened Pod shop/a"]
    assert clock.say("Pod shop/a") == ["resolved Pod shop/a recovered"]
    assert clock.wait(10) == []
    assert clock.beat() == ["resolved Cluster c recovered"]


WAYS = pytest.mark.parametrize("way", list(Silent))


@WAYS
@pytest.mark.parametrize("away", [11, 40, 50, 3600])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_time_in_which_nobody_was_there_is_no_silence(way: Silent, away: int, restarts: bool) -> None:
    sky = Sky("abc", silence=way, keep_open=timedelta(minutes=2))
    sky.wait(55)
    sky.sleep(away)
    if restarts:
        sky.restart()
    sky.down("abc")
    assert sky.wait(60) == []
    told = sky.wait(20)
    assert (
        told
        == {
            Silent.TOLD: ["opened Cluster a", "opened Cluster b", "opened Cluster c"],
            Silent.UNTOLD: [],
            Silent.TOGETHER: ["opened Fleet fleet"],
        }[way]
    )


def test_whoever_waited_for_others_when_time_stood_still_waits_anew(sky: Sky) -> None:
    sky.down("ab")
    sky.wait(70)
    sky.sleep(60)
    assert sky.wait(60) == []
    assert sky.wait(20) == ["opened Cluster a", "opened Cluster b"]


def test_a_cluster_whose_silence_was_told_stays_silent_while_nobody_is_there(sky: Sky) -> None:
    sky.down("a")
    sky.wait(80)
    sky.sleep(3600)
    assert sky.wait(30) == []
    assert sky.beats("a") == ["resolved Cluster a recovered"]


def test_ticks_after_a_restart_are_no_time_in_which_nobody_was_there(sky: Sky) -> None:
    """Or a process that is started again and again would never tell of a silent cluster."""
    sky.down("a")
    told = []
    for _ in range(90):
        sky.restart()
        told += sky.wait(1)
    assert told == ["opened Cluster a"]


def test_a_state_that_does_not_say_when_there_were_ticks_is_as_one_of_long_ago() -> None:
    clock = Clock()
    clock.beat()
    clock.wait(30)
    clock.keep()
    del clock.rows["\x1fticked"]
    clock.stage = Incidents()
    clock.stage.restore(sorted(clock.rows.items()))
    assert clock.wait(60) == []
    assert clock.wait(5) == ["opened Cluster c"]


@pytest.fixture
def patient() -> Sky:
    """One cluster, `c`, that keeps what is over open for two minutes."""
    return Sky("c", silence=Silent.TOLD, keep_open=timedelta(minutes=2))


@pytest.mark.parametrize("first", ["tick", "report", "heartbeat"])
def test_what_may_have_come_back_while_nobody_was_there_is_not_resolved_at_once(patient: Sky, first: str) -> None:
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/b", broken())
    patient.say("Pod shop/a")
    patient.say("Pod shop/b")
    patient.wait(100)
    patient.sleep(600)
    told: list[str] = []
    if first == "tick":
        told += patient.feed(Tick())
    elif first == "report":
        told += patient.say("Pod shop/x")
    told += patient.beats()
    told += patient.say("Pod shop/a", broken())
    assert told + patient.wait(59) == []
    assert patient.wait(2) == ["resolved Pod shop/b recovered"]


def test_what_fades_by_itself_has_a_minute_to_be_said_again_after_nobody_was_there() -> None:
    sky = Sky("c", silence=Silent.TOLD)
    sky.say("Pod shop/a", broken(until=sky.server + 300 * SECOND))
    sky.wait(30)
    sky.sleep(600)
    sky.feed(Tick())
    sky.beats()
    assert sky.wait(30) == []
    assert sky.say("Pod shop/a", broken(until=sky.server + 300 * SECOND)) == []
    assert sky.wait(200) == []


@pytest.mark.parametrize("silent", [False, True])
def test_what_was_within_its_hold_is_not_told_at_once_for_it_may_be_well(patient: Sky, silent: bool) -> None:
    """Whether nobody was there, or nothing was heard of the cluster alone."""
    for name in "abc":
        patient.say(f"Pod shop/{name}", broken(hold=180))
    patient.wait(60)
    if silent:
        patient.down("c")
        assert patient.wait(600) == ["opened Cluster c"]
    else:
        patient.sleep(600)
        assert patient.wait(1) == []
    told = patient.beats("c")
    assert told == (["resolved Cluster c recovered"] if silent else [])
    assert patient.wait(1) == []
    assert patient.say("Pod shop/a") == []
    assert patient.say("Pod shop/b", broken(hold=180)) == ["opened Pod shop/b"]
    assert patient.say("Pod shop/d", broken(hold=10)) == []
    assert patient.wait(10) == ["opened Pod shop/d"]
    assert patient.wait(46) == []
    assert patient.wait(5) == ["opened Pod shop/c"]


def test_what_faded_within_its_hold_during_a_silence_is_forgotten(patient: Sky) -> None:
    patient.say("Pod shop/a", broken(hold=100, until=patient.server + 110 * SECOND))
    patient.wait(20)
    patient.down("c")
    patient.wait(200)
    assert patient.beats("c") == ["resolved Cluster c recovered"]
    patient.say("Pod shop/b", broken(hold=20, until=patient.server + 10 * SECOND))
    assert patient.wait(300) == []


def test_where_nobody_is_there_again_and_again_all_is_told_nevertheless(patient: Sky) -> None:
    patient.say("Pod shop/a", broken(hold=10))
    patient.say("Pod shop/b", broken())
    patient.say("Pod shop/b")
    told = []
    for _ in range(10):
        patient.sleep(30)
        told += [*patient.feed(Tick()), *patient.beats()]
    assert sorted(told) == ["opened Pod shop/a", "resolved Pod shop/b recovered"]


def test_while_the_explainer_alone_was_away_all_goes_by_what_waited_for_it(patient: Sky) -> None:
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/a")
    patient.say("Pod shop/b", broken(hold=60))
    told = []
    for _ in range(18):
        patient.sleep(10)
        told += patient.beats()
    assert told == ["opened Pod shop/b", "resolved Pod shop/a recovered"]


def test_rows_are_of_what_was_touched_and_what_is_quiet_writes_none() -> None:
    sky = Sky("".join(chr(0x4E00 + number) for number in range(200)), silence=Silent.UNTOLD)
    sky.keep()
    assert sky.keep() == 0
    sky.feed(Tick())
    assert sky.keep() == 0
    name = sorted(sky.up)[7]
    sky.feed(Heartbeat(cluster=name, version=Version(1, 0), observed_at=sky.server))
    assert list(sky.stage.rows()) == [f"{name}\x1fcluster"]
    for _ in range(60):
        sky.now += SECOND
        sky.feed(Tick())
        assert set(sky.stage.rows()) <= {"\x1fticked"}


def test_what_is_told_at_the_end_is_written(patient: Sky) -> None:
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/a")
    patient.keep()
    assert patient.told(patient.stage.flush(patient.now)) == ["resolved Pod shop/a recovered"]
    patient.restart()
    assert list(patient.stage.views()) == []


def test_a_run_that_is_short_ends_what_recovered_while_nobody_was_there(patient: Sky) -> None:
    patient.say("Pod shop/a", broken())
    patient.restart()
    patient.sleep(3600)
    assert patient.beats() + patient.say("Pod shop/a") + patient.wait(15) == []
    assert patient.told(patient.stage.flush(patient.now)) == ["resolved Pod shop/a recovered"]


def test_who_keeps_findings_is_told_once_which_incidents_are_forgotten(patient: Sky) -> None:
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/a")
    patient.wait(200)
    key = patient.last.id
    assert patient.stage.forgotten() == []
    for _ in range(23):
        patient.sleep(3600)
        patient.beats()
        patient.feed(Tick())
    patient.restart()
    assert patient.stage.forgotten() == []
    patient.sleep(3600)
    patient.feed(Tick())
    assert patient.stage.forgotten() == [("c", key)]
    assert patient.stage.forgotten() == []
    assert [key for key, row in patient.stage.rows().items() if row is None] == [f"c\x1fincident\x1f{key}"]


NAMES = "abcdefg"
STORY: list[tuple[str, Any]] = [
    ("down", "abcd"),
    ("wait", 66),
    ("up", "d"),
    ("wait", 11),
    ("up", "a"),
    ("wait", 2),
    ("down", "ae"),
    ("wait", 78),
    ("silence", 'cluster=~"a|b|c"'),
    ("wait", 3),
    ("up", "ae"),
    ("wait", 2),
    ("expire", None),
    ("sleep", 90),
    ("wait", 80),
    ("down", "adefg"),
    ("sleep", 12),
    ("wait", 80),
    ("up", "bcdef"),
    ("wait", 40),
    ("up", "ag"),
    ("wait", 3),
]
DOING = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 14, 16, 61, 80])),
    st.tuples(st.just("wait"), st.sampled_from([40, 61, 80])),
    st.tuples(st.just("down"), st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: "".join(sorted(names)))),
    st.tuples(st.just("down"), st.just("abcde")),
    st.tuples(st.just("up"), st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: "".join(sorted(names)))),
    st.tuples(st.just("sleep"), st.sampled_from([5, 9, 12, 90])),
    st.tuples(st.just("silence"), st.sampled_from(['cluster=~"a|b|c"', "cluster=d", "rule=cluster-silent"])),
    st.tuples(st.just("expire"), st.none()),
)


def play(doing: list[tuple[str, Any]], restarts: set[int], **options: Any) -> Sky:
    """Goes on in another process before each record of those numbers."""
    fed = 0

    class Restarting(Sky):
        def feed(self, record: Any) -> list[str]:
            nonlocal fed
            fed += 1
            if fed in restarts:
                self.restart()
            return super().feed(record)

    sky = Restarting(NAMES, **options)
    for does, what in doing:
        match does:
            case "wait":
                sky.wait(what)
            case "down":
                sky.down(what)
            case "up":
                sky.beats(what)
            case "sleep":
                sky.sleep(what)
            case "silence":
                sky.silence(what)
            case "expire":
                sky.feed(SilenceChange(id="s"))
    return sky


@WAYS
def test_a_restart_before_each_record_changes_nothing_that_is_told_of_silence(way: Silent) -> None:
    told = play(STORY, set(), silence=way)
    assert play(STORY, set(range(5000)), silence=way).findings == told.findings
    fleets = [each.transition for each in told.findings if each.incident.cluster == "fleet"]
    assert len(fleets) == (10 if way is Silent.TOGETHER else 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(DOING, max_size=25), st.sets(st.integers(1, 900), max_size=200), st.sampled_from(list(Silent)))
def test_restarts_change_nothing_that_is_told_of_silence(
    doing: list[tuple[str, Any]], restarts: set[int], way: Silent
) -> None:
    told = play(doing, set(), silence=way)
    again = play(doing, restarts, silence=way)
    assert again.findings == told.findings
    again.restart()
    assert list(again.stage.views()) == list(told.stage.views())
    stay_true(told)


@settings(max_examples=100, deadline=None)
@given(st.lists(DOING, max_size=25))
def test_in_the_end_exactly_the_silent_are_told_and_none_when_all_are_back(doing: list[tuple[str, Any]]) -> None:
    sky = play([*doing, ("expire", None), ("wait", 170)], set())
    silent = {failure.object for view in sky.stage.views() for failure in view.failures}
    assert silent == {Ref("Cluster", name) for name in set(NAMES) - sky.up}
    sky.beats(NAMES)
    sky.wait(2)
    assert list(sky.stage.views()) == []
    stay_true(sky)
