"""A process that is killed between any two of its steps tells nothing twice but word for word, and loses nothing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from explainer.incidents import Incidents
from kubewhy.contracts import Letter, Memo
from kubewhy.records import Evidence, Finding, Heartbeat, Inventory, Ref, Version, encode, key_hash
from kubewhy.runtime.embedded import Record
from kubewhy.runtime.routing import Router
from kubewhy.runtime.state import SqliteState
from kubewhy.settings import Settings
from tests.delivered import Kept, watch
from tests.hurry import hurried
from tests.test_embedded import ANALYZERS, START, clock, evidence
from tests.test_told_once import missing_secret
from tests.world import Run, World

# Two replicas of one workload, and pods that have nothing to do with each other, as they break and are mended.
HISTORY = [
    ("b", "Failed"),
    ("web-1", "Failed"),
    ("a", "Running"),
    ("web-2", "Failed"),
    ("a", "Failed"),
    ("b", "Running"),
    ("c", "Failed"),
    ("web-1", "Running"),
    ("b", "Failed"),
    ("web-2", "gone"),
    ("b", "Running"),
]
SETTINGS = Settings.model_validate({"sinks": [{"type": "stdout"}], "routes": [{"sinks": ["stdout"]}]})


class Killed(BaseException):
    """Nobody outlives it."""


class Life:
    """How many steps there are until the end. A step is what is over before it, or what is not, never half of it."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1


class MortalState(SqliteState):
    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path)
        self._life = life

    def write(self, rows: Mapping[str, bytes | None]) -> None:
        self._life.step()
        super().write(rows)
        self._life.step()


class MortalSink(Kept):
    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        self._life.step()
        await super().send(letters, memo)
        self._life.step()


class Cluster:
    """Its history goes on whoever looks. One who begins to look is told of all there is, the newest first."""

    def __init__(self) -> None:
        self._term, self._happened = 0, 0

    async def evidence(self) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]:
        self._term += 1
        yield Heartbeat(cluster="c", version=Version(self._term, 0), observed_at=START)
        for number, (name, phase) in enumerate(reversed(self._there().items())):
            yield self._told(name, phase, number)
        yield self._inventory()
        while self._happened < len(HISTORY):
            await asyncio.sleep(1)
            name, phase = HISTORY[self._happened]
            self._happened += 1
            yield self._told(name, phase, 100 + self._happened)

    def _there(self) -> dict[str, str]:
        return {name: phase for name, phase in dict(HISTORY[: self._happened]).items() if phase != "gone"}

    def _told(self, name: str, phase: str, seq: int) -> Evidence:
        owner, dash, _ = name.partition("-")
        root = Ref("ReplicaSet", owner, "shop", "apps") if dash else None
        return msgspec.structs.replace(evidence(name, phase), version=Version(self._term, seq), root=root)

    def _inventory(self) -> Inventory:
        return Inventory(
            cluster="c",
            version=Version(self._term, 99),
            kind="Pod",
            group="",
            namespaces=(),
            low=0,
            high=2**64,
            hashes=tuple(sorted(key_hash("shop", name) for name in self._there())),
        )


async def live(cluster: Cluster, path: Path, life: Life, keep_open: float) -> list[Finding]:
    """What arrived until the cluster's history was over, or the life."""
    sink, router = MortalSink(life), Router(SETTINGS)
    state = MortalState(path, life)
    try:
        await watch(
            cluster,
            ANALYZERS,
            sink,
            clock(),
            no_hold=True,
            state=state,
            incidents=Incidents(keep_open=timedelta(seconds=keep_open)),
            router=router,
        )
    except Killed:
        pass
    finally:
        state.close()
    return sink.findings


@pytest.mark.parametrize("keep_open", [0, 120])
@pytest.mark.parametrize("once_more", [1000, 3])
@hurried
async def test_killed_between_any_two_steps(tmp_path: Path, keep_open: float, once_more: int) -> None:
    whole = Life(1000)
    told = await live(Cluster(), tmp_path / "whole", whole, keep_open)
    assert len(told) >= (7 if keep_open else 9)
    for steps in range(1000 - whole.left):
        cluster, path = Cluster(), tmp_path / f"{steps}"
        findings = []
        for lasts in (steps, once_more, once_more, 1000):
            findings += await live(cluster, path, Life(lasts), keep_open)
        check(findings)
        assert ends(findings) == ends(told)


def check(findings: list[Finding]) -> None:
    """What comes twice is the same, and each incident opens, changes and ends in its order."""
    once: dict[str, Finding] = {}
    for each in findings:
        assert encode(once.setdefault(each.id, each)) == encode(each)
    revisions: dict[str, int] = {}
    for each in once.values():
        assert each.revision == revisions.get(each.incident.id, 0) + 1
        assert (each.revision == 1) == (each.transition == "opened")
        revisions[each.incident.id] = each.revision


def ends(findings: list[Finding]) -> list[tuple[str, str | None]]:
    """Of each incident its root, and how it ended."""
    last = {each.incident.id: (str(each.incident.root), each.incident.resolution) for each in findings}
    return sorted(last.values(), key=str)


Fed = list[tuple[list[Record], float]]


def story() -> Fed:
    """What a collector says while a Secret is missing, is made, and is lost again: records, and the seconds after."""
    world = World()
    fed: Fed = []
    for ready, seconds in ((3, 30), (0, 200), (2, 60), (0, 100), (3, 900), (0, 60)):
        missing_secret(world, ready)
        fed.append(([*world.news(START), *world.everything(START)], seconds))
    world.remove("Pod", "web-5d4f8c9b7d-1")
    fed.append((world.everything(START), 300))
    return fed


@pytest.fixture(scope="module")
def fed() -> Fed:
    return story()


def folded(path: Path, fed: Fed, *, twice: bool = False, dies_at: int = -1) -> list[bytes]:
    """The findings of these records; the process dies before one of them."""
    run = Run(path)
    number = 0
    for records, seconds in fed:
        for record in records:
            if number == dies_at:
                run.restart()
            number += 1
            run.feed([at_server(record, run)] * (1 + twice))
        run.wait(seconds, every=5)
    run.close()
    return [encode(each) for each in run.findings]


def at_server(record: Record, run: Run) -> Record:
    """By the clock of this run."""
    return msgspec.structs.replace(record, observed_at=run.now) if hasattr(record, "observed_at") else record


def test_the_same_records_folded_twice_are_told_once(tmp_path: Path, fed: Fed) -> None:
    told = folded(tmp_path / "once", fed)
    assert len(told) >= 5
    assert folded(tmp_path / "twice", fed, twice=True) == told


def test_a_restart_before_any_record_changes_no_finding(tmp_path: Path, fed: Fed) -> None:
    told = folded(tmp_path / "plain", fed)
    for number in range(sum(len(records) for records, _ in fed)):
        assert folded(tmp_path / f"{number}", fed, dies_at=number) == told
