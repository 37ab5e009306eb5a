"""Incidents as they open, change and end."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.incidents import Incidents
from kubewhy.records import (
    Failure,
    Finding,
    Heartbeat,
    Inventory,
    Ref,
    Report,
    Severity,
    Tick,
    Version,
    encode,
    key_hash,
)
from tests.golden import golden
from tests.test_correlation import ref

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVER_AHEAD = timedelta(minutes=7)  # the API server's clock differs from the broker's
SECOND = timedelta(seconds=1)


def broken(rule: str = "crash", **more: Any) -> Failure:
    return Failure(**{"rule": rule, "severity": Severity.CRITICAL, "message": f"it is {rule}", "title": rule, **more})


class Clock:
    """Feeds records at a time of its own."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.stage = Incidents(**options)
        self.rows: dict[str, bytes] = {}
        self.now = START
        self.seq = 0
        self.findings: list[Finding] = []

    def feed(self, record: Report | Inventory | Heartbeat | Tick) -> list[str]:
        return self.told(self.stage.feed(record, self.now))

    def told(self, findings: Iterable[Finding]) -> list[str]:
        found = list(findings)
        self.findings += found
        return [
            f"{each.transition} {each.incident.root}"
            + (f" {each.incident.resolution}" if each.incident.resolution else "")
            for each in found
        ]

    def restart(self) -> None:
        """Goes on in another process, with what was kept."""
        self.keep()
        self.stage = Incidents(**self.options)
        self.stage.restore(sorted(self.rows.items()))

    def keep(self) -> int:
        """Writes what is to be kept, as the runtime does. Returns how many rows there were."""
        changed = self.stage.rows()
        self.rows.update({key: value for key, value in changed.items() if value is not None})
        for key, value in changed.items():
            if value is None:
                self.rows.pop(key, None)
        return len(changed)

    def beat(self) -> list[str]:
        return self.feed(Heartbeat(cluster="c", version=Version(1, self.seq), observed_at=self.server))

    def say(self, subject: str, *failures: Failure, root: str | None = None, **more: Any) -> list[str]:
        self.seq += 1
        name = ref(subject)
        fields: dict[str, Any] = {"cluster": "c", "version": Version(1, self.seq), "ref": name} | more
        fields |= {"root": ref(root) if root else name, "observed_at": self.server, "failures": failures}
        return self.feed(Report(**fields))

    @property
    def server(self) -> datetime:
        return self.now + SERVER_AHEAD

    def wait(self, seconds: float) -> list[str]:
        told = []
        for _ in range(int(seconds)):
            self.now += SECOND
            told += self.feed(Tick())
        return told


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_failure_without_a_hold_opens_at_once_and_resolves_when_it_recovers(clock: Clock) -> None:
    assert clock.say("Pod shop/a", broken()) == ["opened Pod shop/a"]
    assert clock.say("Pod shop/a") == ["resolved Pod shop/a recovered"]
    opened, resolved = clock.findings
    assert (opened.revision, resolved.revision) == (1, 2)
    assert opened.incident.id == resolved.incident.id
    assert opened.id != resolved.id


def test_a_repeat_is_silent(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    assert clock.say("Pod shop/a", broken(message="it crashed once more")) == []
    assert clock.say("Pod shop/a", broken(), version=Version(1, 2)) == []
    assert clock.say("Pod shop/healthy") == []
    assert clock.wait(30) == []


def test_each_rule_speaks_once_the_one_that_names_the_incident_first(clock: Clock) -> None:
    symptom = broken("unready", why="It gets no requests.", look="See why.", symptom=True)
    clock.say("Service shop/web", symptom, root="Deployment shop/web")
    for name in ("a", "b"):
        clock.say(
            f"Pod shop/{name}",
            broken("crash", why="It does no work.", look="Read its log."),
            root="Deployment shop/web",
        )
    clock.wait(60)
    assert [(each.rule, each.why) for each in clock.findings[-1].incident.words] == [
        ("crash", "It does no work."),
        ("unready", "It gets no requests."),
    ]
    assert clock.findings[-1].incident.commands[0] == "kubectl describe deployment web -n shop"


def begin(clock: Clock) -> list[str]:
    """Its collector starts, and lists."""
    version = Version(1, clock.seq)
    return clock.feed(Heartbeat(cluster="c", version=version, observed_at=clock.server, listing=True))


def test_what_is_listed_at_a_start_is_told_at_its_cause_whatever_is_said_first(clock: Clock) -> None:
    begin(clock)
    assert clock.say("Deployment shop/web", broken("unavailable", symptom=True)) == []
    assert clock.say("Pod shop/web-1", broken("config", cause=ref("Secret shop/key")), root="Deployment shop/web") == []
    assert clock.wait(5) == []
    clock.restart()
    assert clock.wait(5) == []
    assert clock.beat() == ["opened Secret shop/key"]


def test_a_listing_that_never_ends_holds_up_nothing(clock: Clock) -> None:
    begin(clock)
    clock.say("Pod shop/a", broken())
    assert clock.wait(29) == []
    assert clock.wait(1) == ["opened Pod shop/a"]


def test_what_echoes_at_the_root_does_not_speak_before_what_it_echoes(clock: Clock) -> None:
    clock.say("Deployment shop/web", broken("unavailable", symptom=True), root="Deployment shop/web")
    clock.say("Pod shop/a", broken("crash"), root="Deployment shop/web")
    clock.wait(60)
    incident = clock.findings[-1].incident
    assert [each.rule for each in incident.failures] == ["unavailable", "crash"]
    assert [each.rule for each in incident.words] == ["crash", "unavailable"]


def test_one_replica_in_place_of_another_is_told(clock: Clock) -> None:
    clock.say("Pod shop/a-1", broken(), root="Deployment shop/a")
    clock.say("Pod shop/a-2", broken(), root="Deployment shop/a")
    clock.wait(60)
    clock.say("Pod shop/a-1", root="Deployment shop/a")
    clock.say("Pod shop/a-3", broken(), root="Deployment shop/a")
    clock.wait(60)
    assert clock.findings[-1].incident.members == (ref("Pod shop/a-2"), ref("Pod shop/a-3"))
    assert {each.transition for each in clock.findings[1:]} == {"updated"}
    assert clock.wait(600) == []


def test_a_failure_opens_only_after_its_hold(clock: Clock) -> None:
    assert clock.say("Pod shop/a", broken(hold=10)) == []
    assert clock.wait(9) == []
    assert clock.wait(1) == ["opened Pod shop/a"]


def test_a_hold_counts_from_the_onset_by_the_servers_clock(clock: Clock) -> None:
    assert clock.say("Pod shop/a", broken(hold=10, since=clock.server - 6 * SECOND)) == []
    assert clock.wait(3) == []
    assert clock.wait(1) == ["opened Pod shop/a"]
    assert clock.say("Pod shop/b", broken(hold=10, since=clock.server - 10 * SECOND)) == ["opened Pod shop/b"]


def test_an_unknown_onset_is_not_forgotten_when_the_failure_is_stated_again(clock: Clock) -> None:
    clock.say("Pod shop/a", broken(hold=10))
    clock.wait(6)
    clock.say("Pod shop/a", broken(hold=10))
    assert clock.wait(4) == ["opened Pod shop/a"]


def test_what_recovers_within_its_hold_is_never_told(clock: Clock) -> None:
    clock.say("Pod shop/a", broken(hold=10))
    clock.wait(5)
    assert clock.say("Pod shop/a") == []
    assert clock.wait(20) == []


def test_a_failure_fades_at_its_until(clock: Clock) -> None:
    assert clock.say("Pod shop/a", broken(until=clock.server + 5 * SECOND)) == ["opened Pod shop/a"]
    clock.wait(3)
    assert clock.say("Pod shop/a", broken(until=clock.server + 5 * SECOND)) == []
    assert clock.wait(4) == []
    assert clock.wait(1) == ["resolved Pod shop/a recovered"]


@pytest.mark.parametrize("year", [2027, 9999])
def test_a_declared_deadline_is_silent_until_it_comes(clock: Clock, year: int) -> None:
    assert clock.say("Pod shop/a", broken(since=datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC))) == []
    clock.wait(5)
    clock.now = datetime(2027, 12, 31, 23, 59, tzinfo=UTC) - SERVER_AHEAD
    assert clock.wait(60) == (["opened Pod shop/a"] if year == 2027 else [])


def test_a_deleted_object_resolves_as_deleted(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    assert clock.say("Pod shop/a", gone=True) == ["resolved Pod shop/a deleted"]
    assert clock.say("Pod shop/never-seen", gone=True) == []


def test_an_older_report_is_dropped_also_after_recovery(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/a")
    assert clock.say("Pod shop/a", broken(), version=Version(1, 1)) == []
    assert clock.say("Pod shop/a", broken(), version=Version(1, 9)) == ["opened Pod shop/a"]
    assert clock.say("Pod shop/a", version=Version(1, 8)) == []


def test_a_collector_that_is_no_longer_active_is_not_believed(clock: Clock) -> None:
    clock.feed(Heartbeat(cluster="c", version=Version(2, 1), observed_at=clock.server))
    assert clock.say("Pod shop/a", broken(), version=Version(1, 99)) == []
    assert clock.say("Pod shop/a", broken(), cluster="other", version=Version(1, 99)) == ["opened Pod shop/a"]


def test_a_rule_that_raises_leaves_what_it_said_before(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    assert clock.say("Pod shop/a", broken=("Pod",)) == []
    assert clock.say("Pod shop/a", broken("other"), broken=("Pod",)) == []
    assert {told.rule for told in last_of(clock, 5)} == {"crash", "other"}
    assert clock.say("Pod shop/a") == ["resolved Pod shop/a recovered"]


def last_of(clock: Clock, seconds: float) -> tuple[Any, ...]:
    clock.wait(seconds)
    return clock.findings[-1].incident.failures


def test_failures_alike_but_for_their_cause_are_all_kept(clock: Clock) -> None:
    secrets = [broken("config", cause=Ref("Secret", name, "shop")) for name in "xy"]
    assert clock.say("Pod shop/a", *secrets) == ["opened Secret shop/x", "opened Secret shop/y"]


def inventory(clock: Clock, *names: str, **more: Any) -> Inventory:
    fields: dict[str, Any] = {"kind": "Pod", "group": "", "namespaces": (), "low": 0, "high": 2**64}
    fields |= {"version": Version(1, clock.seq + 1), "hashes": tuple(sorted(key_hash("shop", name) for name in names))}
    return Inventory(cluster="c", **{**fields, **more})


def test_an_inventory_resolves_what_it_does_not_list(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/b", broken())
    assert clock.feed(inventory(clock, "a")) == ["resolved Pod shop/b deleted"]


def test_an_inventory_says_nothing_beyond_its_kind_scope_range_and_version(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    assert clock.feed(inventory(clock, kind="Node")) == []
    assert clock.feed(inventory(clock, group="apps")) == []
    assert clock.feed(inventory(clock, namespaces=("other",))) == []
    assert clock.feed(inventory(clock, low=key_hash("shop", "a") + 1)) == []
    assert clock.feed(inventory(clock, high=key_hash("shop", "a"))) == []
    assert clock.feed(inventory(clock, version=Version(1, 1))) == []
    assert clock.feed(inventory(clock, namespaces=("shop",))) == ["resolved Pod shop/a deleted"]


def test_changes_are_told_at_most_every_five_seconds_and_none_is_lost(clock: Clock) -> None:
    for name in "abc":
        clock.say(f"Pod shop/{name}", broken(), root="Deployment shop/web")
    assert [each.transition for each in clock.findings] == ["opened"]
    assert clock.wait(4) == []
    assert clock.wait(1) == ["updated Deployment shop/web"]
    assert clock.findings[-1].incident.member_count == 3
    assert clock.wait(10) == []
    assert clock.say("Pod shop/d", broken(), root="Deployment shop/web") == ["updated Deployment shop/web"]


def test_a_change_that_is_undone_before_it_is_told_is_not_told(clock: Clock) -> None:
    clock.say("Pod shop/a", broken(), root="Deployment shop/web")
    clock.say("Pod shop/b", broken(), root="Deployment shop/web")
    clock.say("Pod shop/b", root="Deployment shop/web")
    assert clock.wait(10) == []


def test_at_the_end_nothing_is_left_untold(clock: Clock) -> None:
    for n in range(200):
        clock.say(f"Pod shop/p{n}", broken(), root="Deployment shop/web")
    assert [each.transition for each in clock.findings] == ["opened"]
    assert clock.told(clock.stage.flush(clock.now)) == ["updated Deployment shop/web"]
    assert clock.findings[-1].incident.member_count == 200
    assert clock.told(clock.stage.flush(clock.now)) == []


def test_an_incident_keeps_its_id_when_its_root_is_found(clock: Clock) -> None:
    clock.say("Pod shop/a", broken("config"))
    clock.wait(6)
    assert clock.say("Pod shop/a", broken("config", cause=Ref("Secret", "s", "shop"))) == ["updated Secret shop/s"]
    opened, updated = clock.findings
    assert opened.incident.id == updated.incident.id


def test_when_two_incidents_join_the_younger_is_superseded(clock: Clock) -> None:
    clock.say("Pod shop/a", broken())
    clock.wait(6)
    clock.say("Pod shop/b", broken())
    lost = broken(cause=Ref("Node", "n"))
    clock.wait(6)
    assert clock.say("Pod shop/b", lost) == ["updated Node n"]
    assert clock.say("Pod shop/a", lost) == ["resolved Node n superseded", "updated Node n"]
    assert clock.findings[-1].incident.id == clock.findings[0].incident.id


def test_when_one_incident_parts_each_failure_stays_in_an_incident(clock: Clock) -> None:
    node = Ref("Node", "n")
    for name in "abc":
        clock.say(f"Pod shop/{name}", broken(cause=node))
    clock.wait(20)
    assert clock.say("Pod shop/c", broken()) == ["opened Pod shop/c"]
    assert clock.wait(5) == ["updated Node n"]
    assert len({each.incident.id for each in clock.findings}) == 2


def test_the_same_failure_later_is_another_incident(clock: Clock) -> None:
    for _ in range(2):
        clock.say("Pod shop/a", broken())
        clock.say("Pod shop/a")
        clock.wait(60)
    assert len({each.id for each in clock.findings}) == 4


def test_a_finding_names_five_members_and_lists_every_failure(clock: Clock) -> None:
    for n in range(8):
        clock.say(f"Pod shop/p{n}", broken(), root="Deployment shop/web")
    clock.wait(6)
    incident = clock.findings[-1].incident
    assert (len(incident.members), incident.member_count, len(incident.failures)) == (5, 8, 8)


def test_a_storm_is_grouped_seldom_and_ends_complete(clock: Clock) -> None:
    clock.say("Node n", broken("lost"))
    for n in range(2000):
        clock.now += SECOND / 1000
        clock.say(f"Pod shop/p{n}", broken(cause=Ref("Node", "n")), root=f"Deployment shop/d{n % 40}")
    clock.wait(6)
    assert clock.findings[-1].incident.member_count == 2001
    assert len({each.incident.id for each in clock.findings}) == 1
    for n in range(2000):
        clock.say(f"Pod shop/p{n}", root=f"Deployment shop/d{n % 40}")
    assert clock.say("Node n") + clock.wait(1) == ["resolved Node n recovered"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["fail", "config", "heal", "gone", "raise"]),
        st.integers(0, 9),
        st.sampled_from([None, Ref("Node", "n"), Ref("Pod", "a", "shop")]),
        st.sampled_from([0.0, 3.0]),
    ),
    max_size=40,
)


def play(steps: list[Any], *, twice: bool = False, restart: bool = False, **options: Any) -> Clock:
    clock = Clock(**options)
    for name, does, pause, cause, hold in steps:
        clock.wait(pause)
        if restart:
            clock.restart()
        failing = (broken(does, cause=cause, hold=hold),) if does in ("fail", "config") else ()
        for _ in range(1 + twice):
            more = {"gone": does == "gone", "broken": ("Pod",) if does == "raise" else ()}
            clock.say(f"Pod shop/{name}", *failing, root="Deployment shop/web" if name == "c" else None, **more)
            clock.seq -= twice
        clock.seq += twice
    clock.wait(10)
    return clock


@given(STEPS)
def test_equal_input_gives_equal_findings_and_a_repeat_adds_none(steps: list[Any]) -> None:
    findings = play(steps).findings
    assert play(steps).findings == findings
    assert [each.id for each in play(steps, twice=True).findings] == [each.id for each in findings]


@given(STEPS)
def test_every_incident_opens_once_and_counts_its_revisions(steps: list[Any]) -> None:
    state: dict[str, int] = {}
    for finding in play(steps).findings:
        key = finding.incident.id
        assert (finding.transition == "opened") == (key not in state)
        assert finding.revision == state.get(key, 0) + 1
        assert state.get(key) != -1
        state[key] = finding.revision
    clock = play([*steps, *((name, "heal", 0, None, 0.0) for name in "abc")])
    ended = [each.incident.id for each in clock.findings if each.transition == "resolved"]
    assert sorted(ended) == sorted({each.incident.id for each in clock.findings})


def test_the_findings_json_has_every_key(clock: Clock) -> None:
    secret = Ref("Secret", "password", "shop")
    told = broken(
        "config", cause=secret, since=clock.server, docs="https://kubewhy.dev/r", container="app", reason="Missing"
    )
    clock.say("Pod shop/a", told)
    clock.say("Pod shop/a")
    lines = b"".join(encode(each) + b"\n" for each in clock.findings)
    golden("findings.jsonl", lines.decode())
    assert all(msgspec.json.decode(line, type=Finding) for line in lines.splitlines())


def test_a_later_onset_does_not_end_what_was_open_all_along(clock: Clock) -> None:
    crash = broken(since=clock.server - 10 * SECOND, hold=5.0)
    assert clock.say("Pod shop/a", crash) == ["opened Pod shop/a"]
    assert clock.say("Pod shop/a", broken(since=clock.server, hold=660.0)) == []
    assert clock.wait(10) == []


def test_an_onset_in_the_clock_s_next_second_is_now(clock: Clock) -> None:
    assert clock.say("Pod shop/a", broken(since=clock.server + SECOND)) == ["opened Pod shop/a"]
    assert clock.say("Pod shop/a", broken(since=clock.server + 2 * SECOND)) == []


def test_a_deadline_that_was_moved_ahead_ends_it(clock: Clock) -> None:
    clock.say("Pod shop/a", broken(since=clock.server))
    moved = broken(since=clock.server + timedelta(days=90))
    assert clock.say("Pod shop/a", moved) == ["resolved Pod shop/a recovered"]


@given(STEPS, st.sampled_from([0, 7, 120]))
def test_a_restart_at_any_point_changes_nothing(steps: list[Any], keep: int) -> None:
    keep_open = timedelta(seconds=keep)
    assert play(steps, restart=True, keep_open=keep_open).findings == play(steps, keep_open=keep_open).findings


@pytest.fixture
def patient() -> Clock:
    return Clock(keep_open=timedelta(minutes=2))


def test_what_comes_back_within_two_minutes_was_never_away(patient: Clock) -> None:
    patient.say("Pod shop/a", broken())
    for _ in range(10):
        assert patient.say("Pod shop/a") == []
        assert patient.wait(119) == []
        assert patient.say("Pod shop/a", broken()) == []
    assert patient.say("Pod shop/a") == []


def test_what_stays_away_is_resolved_after_two_minutes(patient: Clock) -> None:
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/a")
    assert patient.wait(119) == []
    assert patient.wait(3) == ["resolved Pod shop/a recovered"]


def test_what_toggles_for_an_hour_is_told_three_times_at_most(patient: Clock) -> None:
    for _ in range(15):
        patient.say("Pod shop/a", broken())
        patient.wait(120)
        patient.say("Pod shop/a")
        patient.wait(120)
    assert len(patient.findings) <= 3
    assert patient.wait(3600) == ["resolved Pod shop/a recovered"]


@pytest.mark.parametrize("minutes", [3, 5, 10, 20])
def test_what_flaps_slowly_is_kept_open_ever_longer(patient: Clock, minutes: int) -> None:
    for _ in range(30):
        patient.say("Pod shop/a", broken())
        patient.wait(minutes * 60)
        patient.say("Pod shop/a")
        patient.wait(minutes * 60)
    assert len(patient.findings) <= 10


def test_what_flapped_long_ago_is_resolved_as_soon_as_any(patient: Clock) -> None:
    for _ in range(4):
        patient.say("Pod shop/a", broken())
        patient.say("Pod shop/a")
        patient.wait(60)
    patient.wait(3 * 3600)
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/a")
    assert patient.wait(123) == ["resolved Pod shop/a recovered"]


def test_symptoms_that_take_longer_to_end_stay_in_the_incident(patient: Clock) -> None:
    patient.say("Pod shop/a", broken(cause=Ref("Secret", "password", "shop")), root="Deployment shop/web")
    patient.say("Deployment shop/web", broken("unavailable", symptom=True))
    patient.wait(60)
    patient.say("Pod shop/a", root="Deployment shop/web")
    assert patient.wait(30) == []
    patient.say("Deployment shop/web")
    assert patient.wait(200) == ["resolved Secret shop/password recovered"]


def test_what_remains_when_the_root_is_well_is_told(patient: Clock) -> None:
    patient.say("Pod shop/a", broken(cause=Ref("Secret", "password", "shop")), root="Deployment shop/web")
    patient.say("Deployment shop/web", broken("unavailable", symptom=True))
    patient.wait(60)
    patient.say("Pod shop/a", root="Deployment shop/web")
    assert patient.wait(300) == ["updated Deployment shop/web"]
    assert patient.findings[-1].incident.id == patient.findings[0].incident.id


def test_failing_pods_that_are_replaced_by_good_ones_have_recovered(patient: Clock) -> None:
    patient.say("Pod shop/a", broken(), root="Deployment shop/web")
    patient.say("Pod shop/a", root="Deployment shop/web", gone=True)
    assert patient.wait(123) == ["resolved Deployment shop/web recovered"]


@pytest.mark.parametrize("first", ["Pod shop/a", "Deployment shop/web"])
def test_a_workload_that_is_deleted_with_its_pods_is_resolved_as_deleted(patient: Clock, first: str) -> None:
    patient.say("Pod shop/a", broken(), root="Deployment shop/web")
    for subject in sorted(["Pod shop/a", "Deployment shop/web"], key=lambda each: each != first):
        patient.say(subject, root="Deployment shop/web", gone=True)
        patient.wait(10)
    assert patient.wait(123) == ["resolved Deployment shop/web deleted"]


def test_a_silent_cluster_is_told_once_and_nothing_in_it_ends(patient: Clock) -> None:
    patient.beat()
    patient.say("Pod shop/a", broken(until=patient.server + 30 * SECOND))
    assert patient.wait(60) == []
    patient.say("Pod shop/b", broken(until=patient.server + 300 * SECOND))
    assert patient.wait(3600) == ["opened Cluster c"]
    assert patient.beat() == ["resolved Cluster c recovered"]
    patient.say("Pod shop/b", broken(until=patient.server + 3600 * SECOND))
    patient.beat()
    assert patient.wait(55) == []


def test_a_silence_survives_a_restart(patient: Clock) -> None:
    patient.beat()
    patient.wait(70)
    patient.restart()
    assert patient.wait(100) == []
    assert patient.beat() == ["resolved Cluster c recovered"]


def test_an_incident_is_repeated_only_where_that_is_asked_for() -> None:
    clock = Clock(repeat=timedelta(hours=4))
    clock.say("Pod shop/a", broken())
    clock.wait(3600)
    clock.say("Pod shop/b", broken())
    assert clock.wait(4 * 3600) == ["repeated Pod shop/a", "repeated Pod shop/b"]


def test_an_unchanged_failure_is_told_once_in_a_day_and_costs_no_writing(patient: Clock) -> None:
    failure = broken(since=patient.server)
    patient.say("Pod shop/a", failure)
    patient.keep()
    for minute in range(0, 24 * 60, 30):
        patient.now = START + timedelta(minutes=minute)
        if minute % 480 == 0:
            patient.restart()
        patient.say("Pod shop/a", failure)
        assert patient.keep() == 0
    assert [each.transition for each in patient.findings] == ["opened"]


def test_two_hundred_open_incidents_survive_a_restart_in_silence(patient: Clock) -> None:
    for n in range(200):
        patient.say(f"Pod shop/p{n}", broken())
    patient.wait(10)
    patient.restart()
    for n in range(200):
        assert patient.say(f"Pod shop/p{n}", broken()) == []
    assert patient.wait(600) == []


def test_holds_can_be_others_than_the_rules_own() -> None:
    clock = Clock(holds={"crash": timedelta(minutes=15)})
    assert clock.say("Pod shop/a", broken()) == []
    assert clock.wait(899) == []
    assert clock.wait(1) == ["opened Pod shop/a"]


def test_another_hold_does_not_begin_before_a_declared_deadline_has_come() -> None:
    clock = Clock(holds={"crash": timedelta(seconds=10)})
    deadline = clock.server + timedelta(minutes=10)
    for _ in range(60):
        assert clock.say("Pod shop/a", broken(since=deadline)) == []
        clock.wait(10)
    assert clock.say("Pod shop/a", broken(since=deadline)) + clock.wait(9) == []
    assert clock.wait(1) == ["opened Pod shop/a"]


def test_a_longer_hold_counts_from_the_first_of_many_onsets() -> None:
    clock = Clock(holds={"crash": timedelta(minutes=15)})
    for _ in range(14):
        assert clock.say("Pod shop/a", broken(since=clock.server)) == []
        assert clock.wait(60) == []
    assert clock.wait(61) == ["opened Pod shop/a"]


def test_an_incident_whose_end_was_held_back_is_resolved_after_a_restart() -> None:
    clock = Clock()
    for n in range(200):
        clock.say(f"Pod shop/p{n}", broken(), root="Deployment shop/web")
    clock.wait(60)
    for n in range(200):
        clock.say(f"Pod shop/p{n}", root="Deployment shop/web")
    clock.restart()
    assert clock.wait(10)[-1:] == ["resolved Deployment shop/web recovered"]


def test_resolved_incidents_can_be_looked_up_for_a_day(patient: Clock) -> None:
    patient.say("Pod shop/a", broken())
    patient.say("Pod shop/a")
    patient.say("Pod shop/b", broken())
    patient.wait(200)
    patient.restart()
    assert [str(each.root) for each in patient.stage.views()] == ["Pod shop/b"]
    assert [(str(each.root), each.resolution) for each in patient.stage.views(resolved=True)] == [
        ("Pod shop/b", None),
        ("Pod shop/a", "recovered"),
    ]
    patient.now += timedelta(days=1)
    patient.wait(1)
    assert len(list(patient.stage.views(resolved=True))) == 1
    patient.keep()
    assert sum("incident" in key for key in patient.rows) == 1


def test_findings_tell_what_people_call_the_cluster_also_after_a_restart(clock: Clock) -> None:
    clock.feed(Heartbeat(cluster="c", version=Version(1, 1), observed_at=clock.server, name="production"))
    clock.seq = 1
    clock.say("Pod shop/a", broken())
    clock.restart()
    clock.beat()
    clock.say("Pod shop/a")
    assert [each.incident.cluster_name for each in clock.findings] == ["production", "production"]
