"""The pipeline in one process: what comes in, what passes by time alone, how it ends, and recordings."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

import analyzers
from collectors import recorded
from collectors.recorded import SCHEMA, Header, Recorder
from collectors.store import kinds_read
from explainer.digests import is_digest
from explainer.incidents import Incidents
from kubewhy import __version__
from kubewhy.cli.report import judge
from kubewhy.contracts import Analyzer, Letter, Memo, Rule, seconds
from kubewhy.errors import ConfigError
from kubewhy.kube.core import Pod
from kubewhy.records import (
    ABSENT,
    Evidence,
    Failure,
    Finding,
    Heartbeat,
    Inventory,
    Ref,
    Severity,
    Silence,
    Tick,
    Version,
    encode,
)
from kubewhy.related import Related
from kubewhy.runtime.embedded import SENDING, Pipeline, Record, restore
from kubewhy.runtime.oneshot import analyze_recording
from kubewhy.runtime.routing import STORM, Router
from kubewhy.runtime.state import MemoryState, SqliteState
from kubewhy.settings import Settings
from tests.delivered import Kept, replay, watch
from tests.hurry import hurried

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "broken-shop.kwrec"
FAILED = Rule("pod-failed", Severity.CRITICAL, "A pod failed", hold=seconds(10))


def find(pod: Pod, related: Related) -> Iterator[Failure]:
    if pod.status.phase == "Failed":
        yield FAILED.failure("it failed")


ANALYZERS: tuple[Analyzer[Any], ...] = (Analyzer(Pod, (FAILED,), find),)


def after(time: float) -> datetime:
    return START + timedelta(seconds=time)


def pod(name: str, phase: str) -> Pod:
    """Part of the ReplicaSet that its name begins with, as `web` of `web-1`."""
    owner, dash, _ = name.rpartition("-")
    owners = [{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True, "apiVersion": "apps/v1"}]
    meta = {"name": name, "namespace": "shop", "ownerReferences": owners if dash else []}
    return msgspec.convert({"metadata": meta, "status": {"phase": phase}}, Pod)


def evidence(name: str, phase: str, seq: int = 1) -> Evidence:
    """How the pod is; `gone` for a phase says that it is not."""
    told = ABSENT if phase == "gone" else Raw(encode(pod(name, phase)))
    return Evidence(cluster="c", version=Version(1, seq), ref=Ref("Pod", name, "shop"), observed_at=START, object=told)


def told(findings: Sequence[Finding]) -> list[tuple[str, str, float]]:
    """What happened to which root, and how many seconds after the start."""
    return [(each.transition, each.incident.root.name, (each.at - START).total_seconds()) for each in findings]


class Stuck(Kept):
    """A sink whose far side never answers."""

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        await asyncio.Event().wait()


class Scripted:
    """A collector that says what it is given, pauses where that is a number, and then waits for ever or raises."""

    def __init__(self, *script: Record | float, raises: Exception | None = None) -> None:
        self._script, self._raises = script, raises
        self.closed = False

    async def evidence(self) -> AsyncGenerator[Evidence | Inventory | Heartbeat, None]:
        try:
            for each in self._script:
                if isinstance(each, (Evidence, Inventory, Heartbeat)):
                    yield each
                elif isinstance(each, float):
                    await asyncio.sleep(each)
            if self._raises:
                raise self._raises
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)  # as closing connections may take
            self.closed = True


def clock() -> Callable[[], datetime]:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    return lambda: after(loop.time() - begun)


def test_a_record_passes_every_stage() -> None:
    pipeline = Pipeline(ANALYZERS, no_hold=True)
    assert told(pipeline.feed([evidence("a", "Failed", 1)], START)) == [("opened", "a", 0)]
    assert pipeline.feed([evidence("a", "Failed", 2)], START) == []
    assert told(pipeline.feed([evidence("a", "Running", 3)], after(3))) == [("resolved", "a", 3)]
    nothing = Inventory(
        cluster="c", version=Version(1, 9), kind="Pod", group="", namespaces=(), low=0, high=2**64, hashes=()
    )
    pipeline.feed([evidence("b", "Failed", 4)], START)
    assert told(pipeline.feed([nothing], after(5))) == [("resolved", "b", 5)]


def test_what_lasts_less_than_its_hold_is_not_told() -> None:
    pipeline = Pipeline(ANALYZERS)
    assert pipeline.feed([evidence("a", "Failed", 1)], START) == []
    assert pipeline.feed([Tick()], after(9)) == []
    assert pipeline.feed([evidence("a", "Running", 2)], after(9)) == []
    assert pipeline.feed([Tick()], after(60)) == []


@hurried
async def test_holds_pass_while_the_collector_is_silent() -> None:
    sink = Kept()
    collector = Scripted(evidence("a", "Failed", 1), 60.0, evidence("a", "Running", 2))
    await watch(collector, ANALYZERS, sink, clock(), until_idle=100)
    (_, _, opened), (_, _, resolved) = told(sink.findings)
    assert [each.transition for each in sink.findings] == ["opened", "resolved"]
    assert 10 <= opened < 12
    assert 60 <= resolved < 61


@hurried
async def test_without_holds_all_is_told_at_once() -> None:
    sink = Kept()
    await watch(Scripted(evidence("a", "Failed")), ANALYZERS, sink, clock(), until_idle=3, no_hold=True)
    assert [(transition, round(at)) for transition, _, at in told(sink.findings)] == [("opened", 0)]


@hurried
async def test_it_ends_when_nothing_was_collected_or_found_for_so_long() -> None:
    beat = Heartbeat(cluster="c", version=Version(1, 1), observed_at=START)
    script: list[Record | float] = [8.0, beat, 10.0, evidence("a", "Running", 1), 12.0, evidence("a", "Failed", 2)]
    for _ in range(20):
        script += (3.0, beat)
    collector = Scripted(*script)
    begun = asyncio.get_running_loop().time()
    await watch(collector, ANALYZERS, Kept(), clock(), until_idle=15)
    # The evidence that came after 30 s is found to be broken 10 s later, and then there is silence.
    assert 55 <= asyncio.get_running_loop().time() - begun < 60
    assert collector.closed


HUSHED = Silence(id="settings-1", matchers=("namespace=shop",), ends_at=after(100))


@hurried
async def test_what_the_settings_silence_is_told_to_nobody_from_the_start() -> None:
    sink = Kept()
    collector = Scripted(evidence("a", "Failed"), 150.0)
    await watch(collector, ANALYZERS, sink, clock(), until_idle=120, no_hold=True, silences=[HUSHED])
    assert [(each.transition, each.silenced) for each in sink.findings] == [
        ("opened", True),
        ("resolved", True),
        ("opened", False),
    ]


async def test_what_the_settings_silence_is_told_to_nobody_of_a_recording(path: Path) -> None:
    record(path, (5.5, "a", "Failed"), (120, "b", "Failed"), end=130)
    told = [(each.transition, each.silenced) for each in await replayed(path, no_hold=True, silences=[HUSHED])]
    assert told == [("opened", True), ("resolved", True), ("opened", False), ("opened", False)]


@hurried
async def test_it_ends_though_everything_is_stated_again_now_and_then() -> None:
    again: list[Record | float] = [evidence("a", "Running", 1)]
    for number in range(2, 100):
        again += (2.0, evidence("a", "Running", number))
    begun = asyncio.get_running_loop().time()
    await watch(Scripted(*again), ANALYZERS, Kept(), clock(), until_idle=15)
    assert 15 <= asyncio.get_running_loop().time() - begun < 20


@hurried
async def test_what_was_found_to_be_broken_is_no_news_when_it_is_stated_again() -> None:
    script: list[Record | float] = [
        beat(),
        evidence("a", "Failed", 1),
        10.0,
        evidence("a", "Failed", 2),
        10.0,
        evidence("a", "Failed", 3),
    ]
    begun = asyncio.get_running_loop().time()
    await watch(Scripted(*script, 100.0), ANALYZERS, Kept(), clock(), until_idle=15, no_hold=True)
    assert 15 <= asyncio.get_running_loop().time() - begun < 17


@hurried
async def test_what_is_told_late_to_spare_people_is_no_news() -> None:
    sink, owner = Kept(), Ref("ReplicaSet", "web", "shop", "apps")
    script: list[Record | float] = [beat()]
    for number in range(6):
        failed = evidence(f"web-{number}", "Failed", number + 1)
        script += (msgspec.structs.replace(failed, root=owner), 6.0)
    begun = asyncio.get_running_loop().time()
    await watch(Scripted(*script), ANALYZERS, sink, clock(), until_idle=25, no_hold=True)
    # Some of it is told long after the last pod has failed.
    assert [each.transition for each in sink.findings] == ["opened"] + ["updated"] * (len(sink.findings) - 1)
    assert (sink.findings[-1].at - after(30)).total_seconds() > 5
    assert asyncio.get_running_loop().time() - begun < 60
    assert sink.findings[-1].incident.member_count == 6


@hurried
async def test_what_was_held_back_to_spare_people_is_told_when_it_ends() -> None:
    sink = Kept()
    owner = Ref("ReplicaSet", "web", "shop", "apps")
    script = [msgspec.structs.replace(evidence(f"web-{number}", "Failed", number), root=owner) for number in (1, 2)]
    await watch(Scripted(*script), ANALYZERS, sink, clock(), until_idle=2, no_hold=True)
    assert [(transition, name) for transition, name, _ in told(sink.findings)] == [
        ("opened", "web"),
        ("updated", "web"),
    ]


@hurried
async def test_an_error_of_the_collector_comes_out_after_what_it_said_before() -> None:
    sink = Kept()
    collector = Scripted(evidence("a", "Failed"), raises=ConfigError("may read nothing"))
    with pytest.raises(ConfigError, match="may read nothing"):
        await watch(collector, ANALYZERS, sink, clock(), no_hold=True)
    assert told(sink.findings)[0][:2] == ("opened", "a")


@hurried
async def test_a_state_that_takes_no_more_ends_the_collector() -> None:
    class Full(MemoryState):
        """Takes what waits, and cannot forget it."""

        def write(self, rows: Mapping[str, bytes | None]) -> None:
            if None in rows.values():
                raise ConfigError("no space left")
            super().write(rows)

    collector, sink = Scripted(*(evidence("a", "Failed", seq) for seq in range(5000))), Kept()
    with pytest.raises(ConfigError, match="no space left"):
        await watch(collector, ANALYZERS, sink, clock(), no_hold=True, state=Full())
    assert collector.closed
    assert len(sink.findings) == 1


@pytest.mark.parametrize("waiting", [1, 5000])
@hurried
async def test_stopped_in_the_middle_it_ends_the_collector_first(waiting: int) -> None:
    collector = Scripted(*(evidence(f"p{seq}", "Failed", seq) for seq in range(waiting)))
    watching = asyncio.create_task(watch(collector, ANALYZERS, Stuck(), clock(), no_hold=True))
    await asyncio.sleep(5)
    watching.cancel()
    await asyncio.wait([watching], timeout=60)
    assert watching.cancelled()
    assert collector.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.kwrec"


def record(path: Path, *changes: tuple[float, str, str], end: float | None = None, listed: bool = True) -> None:
    """A recording in which all is listed at once, and then each change (when, which pod, its phase) comes."""
    header = Header(schema=SCHEMA, kubewhy=__version__, cluster="c", name="shop")
    with Recorder(path, header) as recorder:
        for kind in kinds_read(ANALYZERS) if listed else [Pod]:
            recorder.begin(kind.resource, None, START)
            recorder.synced(kind.resource, None, START)
        for when, name, phase in changes:
            if phase == "gone":
                recorder.remove(Pod.resource, "shop", name, after(when))
            else:
                recorder.put(Pod.resource, pod(name, phase), after(when))
        if end is not None:
            recorder.close(after(end))


async def replayed(
    path: Path, which: Sequence[Analyzer[Any]] = ANALYZERS, *namespaces: str, **more: Any
) -> list[Finding]:
    sink = Kept()
    await replay(path, which, sink, namespaces, **more)
    return sink.findings


async def test_a_recording_is_told_at_its_own_times(path: Path) -> None:
    record(path, (5.25, "a", "Failed"), (60.5, "a", "Running"), (61.75, "b", "Failed"), (62, "b", "gone"), end=70)
    findings = await replayed(path, no_hold=True)
    assert told(findings) == [
        ("opened", "a", 5.25),
        ("resolved", "a", 60.5),
        ("opened", "b", 61.75),
        ("resolved", "b", 62),
    ]
    assert findings[-1].incident.resolution == "deleted"


async def test_a_clock_that_is_set_back_does_not_turn_time_round(path: Path) -> None:
    record(path, (60, "a", "Failed"), (50, "a", "Running"), (55, "b", "Failed"), end=56)
    times = [at for _, _, at in told(await replayed(path, no_hold=True))]
    assert times == [60, 60, 60]


async def test_holds_pass_in_a_recording_too(path: Path) -> None:
    record(path, (5.5, "a", "Failed"), (7, "b", "Failed"), (8, "b", "Running"), (60, "a", "Running"), end=70)
    assert told(await replayed(path)) == [("opened", "a", 16), ("resolved", "a", 60)]


@pytest.mark.parametrize(("end", "found"), [(None, []), (15.25, []), (15.75, [("opened", "a", 15.75)])])
async def test_a_recording_lasts_until_its_end(path: Path, end: float | None, found: list[Any]) -> None:
    record(path, (5.5, "a", "Failed"), end=end)
    assert told(await replayed(path)) == found


async def test_nothing_is_told_of_until_all_is_listed(path: Path) -> None:
    header = Header(schema=SCHEMA, kubewhy=__version__, cluster="c")
    first, *others = kinds_read(ANALYZERS)
    with Recorder(path, header) as recorder:
        for kind in (first, *others):
            recorder.begin(kind.resource, None, START)
        recorder.put(Pod.resource, pod("a", "Failed"), after(1))
        recorder.synced(first.resource, None, after(1))
        for kind in others:
            recorder.synced(kind.resource, None, after(4))
        recorder.close(after(9))
    assert told(await replayed(path, no_hold=True)) == [("opened", "a", 4)]


async def test_what_was_held_back_to_spare_people_is_told_at_the_end(path: Path) -> None:
    record(path, (1, "web-1", "Failed"), (2, "web-2", "Failed"), end=3)
    findings = await replayed(path, no_hold=True)
    assert told(findings) == [("opened", "web", 1), ("updated", "web", 3)]
    assert findings[-1].incident.member_count == 2


async def test_what_was_never_wholly_listed_is_judged_at_the_end(path: Path) -> None:
    record(path, (1, "a", "Failed"), (2, "b", "Failed"), listed=False)
    assert [name for _, name, _ in told(await replayed(path, no_hold=True))] == ["a", "b"]


async def test_of_a_recording_only_the_namespaces_asked_for_are_told(path: Path) -> None:
    record(path, (1, "a", "Failed"))
    assert await replayed(path, ANALYZERS, "other", no_hold=True) == []
    assert len(await replayed(path, ANALYZERS, "other", "shop", no_hold=True)) == 1


async def test_a_recording_replayed_twice_is_told_alike() -> None:
    first, second = [await replayed(EXAMPLE, analyzers.enabled()) for _ in range(2)]
    assert first
    assert [encode(each) for each in first] == [encode(each) for each in second]


@pytest.mark.parametrize("no_hold", [True, False])
async def test_what_is_open_at_the_end_is_what_an_analysis_finds(path: Path, no_hold: bool) -> None:
    recording = recorded.read(EXAMPLE)
    with Recorder(path, recording.header) as recorder:
        *_, last = recorded.replay(recording, recorder)
        # By then every hold has passed, also those that count from when a failure was first seen.
        recorder.close(last + timedelta(minutes=15))
    findings = await replayed(path, analyzers.enabled(), no_hold=no_hold)
    left = {
        (incident.root, failure.object, failure.rule)
        for incident in {each.incident.id: each.incident for each in findings}.values()
        if incident.state == "open"
        for failure in incident.failures
    }
    groups = judge(analyze_recording(path, analyzers.enabled()), no_hold).groups
    assert left == {(group.root, ref, failure.rule) for group in groups for ref, failure in group.members}


def beat() -> Heartbeat:
    return Heartbeat(cluster="c", version=Version(1, 0), observed_at=START)


@hurried
async def test_a_restart_tells_nothing_twice_and_ends_what_has_ended(tmp_path: Path) -> None:
    first, second, third = Kept(), Kept(), Kept()
    for sink, phase in ((first, "Failed"), (second, "Failed"), (third, "Running")):
        state = SqliteState(tmp_path / "state")
        collector = Scripted(beat(), evidence("a", phase, 2))
        await watch(collector, ANALYZERS, sink, clock(), until_idle=30, state=state)
        state.close()
    assert [each.transition for each in first.findings] == ["opened"]
    assert second.findings == []
    assert [each.transition for each in third.findings] == ["resolved"]
    assert third.findings[0].incident.id == first.findings[0].incident.id


class Killed(BaseException):
    """Nobody outlives it."""


class Dying(Kept):
    """A sink that gets its findings, and then the process is no more."""

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        await super().send(letters, memo)
        raise Killed


@hurried
async def test_what_was_sent_but_not_yet_remembered_is_sent_again(tmp_path: Path) -> None:
    sinks = Dying(), Kept()
    for sink in sinks:
        state = SqliteState(tmp_path / "state")
        try:
            await watch(Scripted(beat(), evidence("a", "Failed")), ANALYZERS, sink, clock(), until_idle=30, state=state)
        except Killed:
            pass
        finally:
            state.close()
    assert [[each.transition for each in sink.findings] for sink in sinks] == [["opened"], ["opened"]]
    assert sinks[0].findings[0].id == sinks[1].findings[0].id


@hurried
async def test_what_an_earlier_version_was_about_to_tell_is_told(tmp_path: Path) -> None:
    state, first, second = SqliteState(tmp_path / "state"), Kept(), Kept()
    await watch(Scripted(beat(), evidence("a", "Failed")), ANALYZERS, first, clock(), until_idle=30, state=state)
    state.write({SENDING: msgspec.json.encode(first.findings)})
    for _ in range(2):
        await watch(Scripted(beat(), evidence("a", "Failed")), ANALYZERS, second, clock(), until_idle=30, state=state)
    state.close()
    assert second.findings == first.findings
    assert [each.transition for each in second.findings] == ["opened"]


DIGESTS = Settings.model_validate(
    {"sinks": [{"type": "stdout", "name": "channel", "digest": True}, {"type": "stdout", "name": "archive"}]}
)


async def stormed(
    state: SqliteState, phase: str, *, settings: Settings = DIGESTS, channel: Kept | None = None
) -> tuple[Kept, Kept]:
    """What a channel and an archive are told where 200 pods are in that phase."""
    sinks, router = (channel or Kept(), Kept()), Router(settings)
    routed = dict(zip(("channel", "archive"), sinks, strict=True))
    collector = Scripted(beat(), *(evidence(f"p{number}", phase) for number in range(200)))
    await watch(collector, ANALYZERS, routed, clock(), until_idle=40, state=state, router=router)
    return sinks


@hurried
async def test_two_hundred_incidents_at_once_are_one_digest_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "state"
    sinks = []
    for phase in ("Failed", "Failed", "Running"):
        state = SqliteState(path)
        sinks.append(await stormed(state, phase))
        state.close()
    (first, archive), (second, nothing), (third, rest) = sinks
    digests = [each for each in first.findings if is_digest(each.incident)]
    key = digests[0].incident.id
    assert [(each.transition, each.incident.member_count) for each in digests] == [("opened", 1), ("updated", 180)]
    assert [each.digest for each in first.findings if each not in digests] == [None] * 20 + [key] * 180
    assert [(each.transition, each.digest) for each in archive.findings] == [("opened", None)] * 200
    assert (second.findings, nothing.findings) == ([], [])
    told = Counter((each.transition, each.digest) for each in third.findings)
    assert told == {("resolved", None): 20 + 1, ("resolved", key): 180}
    assert (third.findings[-1].incident.id, third.findings[-1].transition) == (key, "resolved")
    assert len(rest.findings) == 200


@pytest.mark.parametrize("last", ["opened", "updated"])
@hurried
async def test_a_digest_that_was_sent_but_not_yet_remembered_is_sent_again(tmp_path: Path, last: str) -> None:
    class Fragile(Kept):
        """Dies once a digest has arrived that says so."""

        async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
            await super().send(letters, memo)
            if any(is_digest(each.finding.incident) and each.finding.transition == last for each in letters):
                raise Killed

    state, fragile = SqliteState(tmp_path / "state"), Fragile()
    with pytest.raises(Killed):
        await stormed(state, "Failed", channel=fragile)
    again, _ = await stormed(state, "Failed")
    state.close()
    unsure = fragile.findings if last == "opened" else fragile.findings[-1:]
    assert again.findings[: len(unsure)] == unsure
    digests = {each.id: each for each in fragile.findings + again.findings if is_digest(each.incident)}
    assert [each.transition for each in digests.values()] == ["opened", "updated"]


@hurried
async def test_what_a_sink_without_digests_had_of_them_is_forgotten(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "state")
    await stormed(state, "Failed")
    assert list(state.scan(STORM))
    plain = [{"type": "stdout", "name": name} for name in ("channel", "archive")]
    channel, _ = await stormed(state, "Running", settings=Settings.model_validate({"sinks": plain}))
    assert list(state.scan(STORM)) == []
    state.close()
    assert [each.digest for each in channel.findings] == [None] * 200


@hurried
async def test_without_a_state_nothing_is_kept_of_what_would_be_written() -> None:
    incidents, router = Incidents(), Router(DIGESTS)
    channel = Kept()
    routed = {"channel": channel, "archive": Kept()}
    collector = Scripted(beat(), *(evidence(f"p{number}", "Failed") for number in range(30)))
    await watch(collector, ANALYZERS, routed, clock(), until_idle=40, incidents=incidents, router=router)
    assert told(channel.findings)
    assert (incidents.rows(), router.rows()) == ({}, {})


async def test_a_recording_has_its_digests_too(path: Path) -> None:
    failing = [(1.0, f"p{number}", "Failed") for number in range(30)]
    record(path, *failing, *((90.0, name, "Running") for _, name, _ in failing), end=95)
    channel, router = Kept(), Router(DIGESTS)
    routed = {"channel": channel, "archive": Kept()}
    await replay(path, ANALYZERS, routed, router=router)
    digests = [each for each in channel.findings if is_digest(each.incident)]
    assert told(digests) == [("opened", "c", 11), ("updated", "c", 21), ("resolved", "c", 91)]


async def test_a_recording_that_ends_in_a_storm_tells_how_large_it_has_become(path: Path) -> None:
    record(path, *((1.0, f"p{number}", "Failed") for number in range(30)), end=12)
    channel, router = Kept(), Router(DIGESTS)
    await replay(path, ANALYZERS, {"channel": channel, "archive": Kept()}, router=router)
    last = channel.findings[-1]
    assert (last.transition, last.incident.member_count) == ("updated", 10)


def test_a_state_that_holds_no_rows_of_ours_is_refused_in_one_line(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "state")
    state.write({"incidents\x1fc\x1fobject\x1fx": b"{}"})
    with pytest.raises(ConfigError, match="the state holds what this kubewhy cannot read"):
        restore(Incidents(), state)
    state.close()
