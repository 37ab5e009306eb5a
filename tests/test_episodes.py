"""Whatever comes twice, late, not at all or after a restart: each trouble is told once, and the end is the truth."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.failing import REMEMBERED
from kubewhy.records import Inventory, Report, Version, key_hash
from tests.test_correlation import ref
from tests.test_incidents import Clock, broken

NAMES = "abc"
KEEP_OPEN = timedelta(seconds=30)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["breaks", "heals", "is deleted", "is deleted unseen", "is stated again"]),
        st.integers(0, 100),  # seconds until then
        st.lists(st.integers(1, 9), max_size=2),  # which earlier reports come once more, counted from the newest
        st.booleans(),  # whether the process starts anew
        st.sampled_from([0, 0, 0, 3, -3]),  # seconds by which the API server's clock is set
    ),
    max_size=30,
)


class World:
    """What is really so, and what is said of it."""

    def __init__(self) -> None:
        self.clock = Clock(keep_open=KEEP_OPEN)
        self.broken = dict.fromkeys(NAMES, False)
        self.exists = dict.fromkeys(NAMES, True)
        self.episodes = Counter[str]()
        self.sent: list[tuple[datetime, Report]] = []
        self.skew = timedelta(0)

    def step(self, name: str, happens: str, pause: int, late: list[int], restarts: bool, skew: int) -> None:
        self.clock.wait(pause)
        self.skew += timedelta(seconds=skew)
        if restarts:
            self.clock.restart()
        was = self.broken[name]
        if happens in ("breaks", "heals"):
            self.exists[name], self.broken[name] = True, happens == "breaks"
        elif happens != "is stated again":
            self.exists[name] = self.broken[name] = False
        self.episodes[name] += self.broken[name] and not was
        if happens == "is deleted unseen":
            self._list()
        else:
            self._say(name)
        fresh = [report for at, report in self.sent if self.clock.now - at < REMEMBERED]
        for back in late:
            for report in fresh[-back : len(fresh) - back + 1]:
                self.clock.feed(report)

    def _say(self, name: str) -> None:
        self.clock.seq += 1
        report = Report(
            cluster="c",
            version=Version(1, self.clock.seq),
            ref=ref(f"Pod shop/{name}"),
            root=ref(f"Pod shop/{name}"),
            observed_at=self.clock.server + self.skew,
            failures=(broken(since=None),) if self.broken[name] else (),
            gone=not self.exists[name],
        )
        self.sent.append((self.clock.now, report))
        self.clock.feed(report)

    def _list(self) -> None:
        self.clock.seq += 1
        hashes = tuple(sorted(key_hash("shop", name) for name in NAMES if self.exists[name]))
        self.clock.feed(
            Inventory(
                cluster="c",
                version=Version(1, self.clock.seq),
                kind="Pod",
                group="",
                namespaces=(),
                low=0,
                high=2**64,
                hashes=hashes,
            )
        )

    def open(self) -> set[str]:
        return {each.root.name for each in self.clock.stage.views()}


def lived(steps: list[tuple[Any, ...]]) -> World:
    world = World()
    for step in steps:
        world.step(*step)
        # What is broken is open at once; what is well may be kept open for a while.
        assert {name for name in NAMES if world.broken[name]} <= world.open()
    return world


@settings(max_examples=300)
@given(STEPS)
def test_each_trouble_is_told_once_and_the_end_is_the_truth(steps: list[tuple[Any, ...]]) -> None:
    world = lived(steps)
    opened, resolved = Counter[str](), Counter[str]()
    for finding in world.clock.findings:
        name = finding.incident.root.name
        opened[name] += finding.transition == "opened"
        resolved[name] += finding.transition == "resolved"
        assert opened[name] - resolved[name] in (0, 1), "opened twice, or resolved what was not open"
    assert all(opened[name] <= world.episodes[name] for name in NAMES)
    world.clock.wait(1900)  # longer than anything is kept open
    assert world.open() == {name for name in NAMES if world.broken[name]}


@given(STEPS)
def test_what_a_restart_or_a_repeat_comes_between_is_told_all_the_same(steps: list[tuple[Any, ...]]) -> None:
    plain: list[tuple[Any, ...]] = [
        (name, happens, pause, [], False, skew) for name, happens, pause, _, _, skew in steps
    ]
    told = [(each.id, each.transition, each.at) for each in lived(plain).clock.findings]
    assert [(each.id, each.transition, each.at) for each in lived(steps).clock.findings] == told
