"""Changes on their way to the incidents that they may have brought about."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from analyzers import enabled
from collectors.recorded import SCHEMA, Header, Recorder
from collectors.store import kinds_read
from explainer.changing import KEPT
from kubewhy import __version__
from kubewhy.records import Change, Failure, Sort
from tests.delivered import Kept, replay
from tests.test_correlation import ref
from tests.test_history import MISSING, template
from tests.test_incidents import Clock, broken
from tests.world import START, Run, World, iso

WEB = "Deployment shop/web"
IMAGE = "image of container app: web:1 -> web:2"


@pytest.fixture
def clock() -> Clock:
    return Clock(keep_open=timedelta(minutes=2))


def changed(clock: Clock, minutes: float = 3, what: str = IMAGE, of: str = WEB, sort: Sort = Sort.IMAGES) -> Change:
    """Something that was done so long ago, by the API server's clock."""
    return Change(object=ref(of), at=clock.server - timedelta(minutes=minutes), sort=sort, what=what)


def crash(clock: Clock, minutes: float = 1) -> Failure:
    return broken("crash", since=clock.server - timedelta(minutes=minutes))


def shown(clock: Clock) -> list[str]:
    """What the newest finding says was changed."""
    return [f"{each.object.kind} {each.what}" for each in clock.findings[-1].incident.changes]


def test_what_is_known_of_a_healthy_workload_is_told_when_its_pod_fails(clock: Clock) -> None:
    assert clock.say(WEB, changes=(changed(clock),)) == []
    clock.wait(60)
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    assert shown(clock) == [f"Deployment {IMAGE}"]


def test_a_restart_between_change_and_failure_forgets_nothing(clock: Clock) -> None:
    clock.say(WEB, changes=(changed(clock),))
    clock.restart()
    clock.say(WEB)
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    assert shown(clock) == [f"Deployment {IMAGE}"]


def test_what_a_new_process_knows_less_of_is_told_as_it_was_seen(clock: Clock) -> None:
    seen = changed(clock)
    written = changed(clock, 3, "it was last written, its status apart", sort=Sort.WRITTEN)
    clock.say(WEB, changes=(seen,))
    clock.restart()
    clock.say(WEB, changes=(written,))
    assert clock.keep() == 0
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    assert shown(clock) == [f"Deployment {IMAGE}"]


def test_what_is_known_better_takes_the_place_of_what_was_known_first(clock: Clock) -> None:
    vague = changed(clock, 3, "its specification (generation 2)", sort=Sort.SPECIFICATION)
    clock.say(WEB, changes=(vague,))
    clock.say(WEB, changes=(changed(clock, 3.05),))
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    assert shown(clock) == [f"Deployment {IMAGE}"]


def test_a_change_that_becomes_known_late_is_told_once(clock: Clock) -> None:
    assert clock.say("Pod shop/web-1", crash(clock), root=WEB) == [f"opened {WEB}"]
    assert clock.findings[-1].incident.changes == ()
    change = changed(clock)
    assert clock.say(WEB, changes=(change,)) == []
    assert clock.wait(6) == [f"updated {WEB}"]
    assert shown(clock) == [f"Deployment {IMAGE}"]
    for _ in range(3):
        clock.say(WEB, changes=(change,))
        assert clock.wait(600) == []


def test_a_restart_before_that_is_told_does_not_lose_it(clock: Clock) -> None:
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    clock.say(WEB, changes=(changed(clock),))
    clock.restart()
    assert clock.wait(6) == [f"updated {WEB}"]
    assert shown(clock) == [f"Deployment {IMAGE}"]
    clock.restart()
    assert clock.wait(600) == []


@pytest.mark.parametrize(("minutes", "told"), [(30.9, True), (31.2, False), (0.95, True), (0.5, False)])
def test_a_change_counts_for_half_an_hour_before_the_onset(clock: Clock, minutes: float, told: bool) -> None:
    clock.say(WEB, changes=(changed(clock, minutes),))
    clock.say("Pod shop/web-1", crash(clock, 1), root=WEB)
    assert bool(shown(clock)) is told


def test_an_attempt_to_mend_it_is_no_reason_for_it(clock: Clock) -> None:
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    clock.wait(60)
    clock.say(WEB, changes=(changed(clock, 0, "image of container app: web:2 -> web:3"),))
    clock.say("Pod shop/web-1", crash(clock, 0), root=WEB)  # each crash of a loop is a later onset
    assert clock.wait(600) == []
    assert clock.stage.views().__next__().changes == ()


def test_an_onset_that_nobody_knows_is_when_it_was_seen(clock: Clock) -> None:
    clock.say(WEB, changes=(changed(clock, 3),))
    clock.say("Pod shop/web-1", broken(), root=WEB)
    assert shown(clock) == [f"Deployment {IMAGE}"]


def test_what_is_changed_after_it_was_first_seen_is_no_reason_for_it(clock: Clock) -> None:
    clock.say("Pod shop/web-1", broken(), root=WEB)
    clock.wait(60)
    clock.say(WEB, changes=(changed(clock, 0.5),))
    clock.say("Pod shop/web-1", broken(), root=WEB)
    assert clock.wait(60) == []


def test_the_root_speaks_first_and_three_are_told(clock: Clock) -> None:
    cordoned = changed(clock, 9, "it was cordoned", of="Node n1", sort=Sort.SPECIFICATION)
    for number in range(4):
        scaled = changed(clock, number + 2, "replicas: 1 -> 2", of=f"Deployment shop/web-{number}", sort=Sort.REPLICAS)
        lost = broken("lost", since=clock.server - timedelta(minutes=1), cause=ref("Node n1"))
        clock.say(f"Pod shop/web-{number}-x", lost, root=f"Deployment shop/web-{number}", changes=(scaled,))
    clock.say("Node n1", crash(clock), changes=(cordoned,))
    clock.wait(60)
    assert str(clock.findings[-1].incident.root) == "Node n1"
    assert shown(clock) == ["Node it was cordoned", "Deployment replicas: 1 -> 2", "Deployment replicas: 1 -> 2"]


def test_what_it_is_told_with_stays_though_it_is_forgotten(clock: Clock) -> None:
    clock.say(WEB, changes=(changed(clock),))
    clock.say("Pod shop/web-1", crash(clock), root=WEB)
    clock.wait(KEPT.total_seconds())
    clock.restart()
    clock.say("Pod shop/web-2", crash(clock), root=WEB)
    clock.wait(600)
    assert clock.findings[-1].transition == "updated"
    assert shown(clock) == [f"Deployment {IMAGE}"]


def test_what_matters_no_more_leaves_no_row(clock: Clock) -> None:
    clock.say(WEB)
    clock.keep()
    none = set(clock.rows)
    clock.say(WEB, changes=(changed(clock, 40),))
    clock.keep()
    assert len(clock.rows) == len(none) + 1
    clock.restart()
    clock.wait((KEPT - timedelta(minutes=40)).total_seconds())
    clock.keep()
    assert set(clock.rows) == none
    clock.say(WEB, changes=(changed(clock, 91),))
    clock.keep()
    assert set(clock.rows) == none


def test_the_same_change_stated_again_writes_nothing(clock: Clock) -> None:
    change = changed(clock)
    clock.say("Pod shop/web-1", crash(clock), root=WEB, changes=(change,))
    failure = crash(clock)
    clock.say("Pod shop/web-1", failure, root=WEB, changes=(change,))
    clock.keep()
    for _ in range(3):
        clock.say("Pod shop/web-1", failure, root=WEB, changes=(change,))
        clock.say(WEB, changes=(change,))
        assert clock.keep() == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_is_told_does_not_depend_on_the_order_in_which_it_is_said(clock: Clock, order: tuple[int, ...]) -> None:
    scaled = changed(clock, 5, "replicas: 1 -> 3", sort=Sort.REPLICAS)
    for number in order:
        match number:
            case 0:
                clock.say(WEB, changes=(changed(clock),))
            case 1:
                clock.say(WEB, changes=(scaled,))
            case _:
                clock.say("Pod shop/web-1", crash(clock), root=WEB)
    clock.wait(60)
    assert shown(clock) == [f"Deployment {IMAGE}", "Deployment replicas: 1 -> 3"]


def roll(world: World, number: int) -> None:
    template_ = template(f"db:{number}")
    world.put("StatefulSet", "db", metadata={"generation": number}, spec={"template": template_})


def pull_fails(world: World) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "StatefulSet-db", "controller": True}
    status = {"phase": "Pending", "containerStatuses": [{"name": "app", "state": MISSING}]}
    made = {"ownerReferences": [owner], "creationTimestamp": iso(world.at)}
    world.put("Pod", "db-0", metadata=made, spec=template("db:2")["spec"], status=status)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path / "state", World())
    yield started
    started.close()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_stateful_set_is_told_by_its_images_also_across_a_restart(run: Run, restarts: bool) -> None:
    (world,) = run.worlds
    roll(world, 1)
    run.look()
    roll(world, 2)
    run.look()
    if restarts:
        run.restart(5)
    pull_fails(world)
    run.look()
    run.wait(300)
    (opened,) = [each for each in run.findings if each.transition == "opened"]
    assert [each.what for each in opened.incident.changes] == ["image of container app: db:1 -> db:2"]


async def test_a_recording_tells_the_same_changes(tmp_path: Path) -> None:
    path, sink = tmp_path / "shop.kwrec", Kept()
    world = World()
    with Recorder(path, Header(schema=SCHEMA, kubewhy=__version__, cluster="c", name="shop")) as recorder:
        world.store.put = recorder.put  # type: ignore[method-assign]
        for kind in kinds_read(enabled()):
            recorder.begin(kind.resource, None, START)
            recorder.synced(kind.resource, None, START)
        roll(world, 1)
        world.at += timedelta(minutes=1)
        roll(world, 2)
        world.at += timedelta(seconds=3)
        pull_fails(world)
        recorder.close(world.at + timedelta(minutes=5))
    await replay(path, enabled(), sink)
    assert [each.what for each in sink.findings[0].incident.changes] == ["image of container app: db:1 -> db:2"]
