"""Waiting until everything in scope has settled, or something has fired."""

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analyzers import ANALYZERS
from collectors.credentials import connect
from collectors.gather import gather
from kubewhy.cli.options import selector
from kubewhy.errors import ConfigError
from kubewhy.kube.apps import Deployment
from kubewhy.kube.core import PersistentVolumeClaim, Pod
from kubewhy.records import Evidence, Ref, Severity, Version
from kubewhy.runtime.settling import Ending, Settling, Waited, settle
from tests.api_server import ApiServer, api_server
from tests.test_answer import FINE, LACKING, NODE, NOW, VIEWS, ago, deployment, look, made, pod, unready

WHOLE = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
WEB = deployment(3000, written=900, **WHOLE)
ROLLING = deployment(3000, written=900, **WHOLE | {"updatedReplicas": 1})
FRESH = pod("fresh", 0.2, None, {"ready": True, "state": {"running": {"startedAt": ago(0.1)}}})
FRESH["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": ago(0.1)}]
LACKS = pod("lacks", 0.2, None, LACKING, phase="Pending", **unready(0.2))
SUSPENDED = made("CronJob", "nightly", 9000, spec={"schedule": "0 3 * * *", "suspend": True})


def settling(*objects: Mapping[str, Any], level: Severity | None = None, namespaced: bool = False) -> Settling:
    """As it is when all of these have been read."""
    state, seen = Settling(ANALYZERS, level, namespaced=namespaced), look([NODE, *objects])
    for kind in VIEWS:
        for key in seen.store.keys(kind) if kind != "Event" else ():
            state.take(gather(seen.store, key, cluster="c", version=Version(0, 0)))
    return state


def awaited(state: Settling) -> list[str]:
    return [str(each) for each in state.awaited(NOW)]


def test_what_is_whole_has_settled() -> None:
    assert settling(WEB, FINE).ending(NOW) is Ending.SETTLED


def test_nothing_at_all_has_not_settled() -> None:
    assert Settling(ANALYZERS).ending(NOW) is None


def test_a_rollout_is_awaited_before_its_pods() -> None:
    starting = pod("a", 0.1, None, phase="Pending")
    state = settling(starting, ROLLING)
    assert state.ending(NOW) is None
    assert awaited(state)[:2] == ["Deployment shop/web: 1 of 2 replicas are updated", "Pod shop/a: it starts"]


def test_a_pod_has_to_be_ready_for_a_moment() -> None:
    state = settling(FRESH)
    assert state.ending(NOW) is None
    assert awaited(state) == ["Pod shop/fresh: it has only just become ready"]
    assert state.ending(NOW + timedelta(seconds=4)) is Ending.SETTLED


def test_what_fails_is_awaited_for_its_hold_and_then_fires() -> None:
    state = settling(FINE, LACKS)
    assert state.ending(NOW) is None
    assert "Pod shop/lacks: container app cannot be made: Secret db-password does not exist" in awaited(state)
    assert state.ending(NOW + timedelta(seconds=17)) is None
    assert state.ending(NOW + timedelta(seconds=18)) is Ending.FIRED


@pytest.mark.parametrize(
    ("level", "ending"),
    [
        (None, Ending.FIRED),
        (Severity.INFO, Ending.FIRED),
        (Severity.WARNING, Ending.FIRED),
        (Severity.CRITICAL, Ending.SETTLED),
    ],
)
def test_what_is_less_bad_than_asked_for_does_not_fire(level: Severity | None, ending: Ending) -> None:
    pressed: dict[str, Any] = {"kind": "Node", "metadata": {"name": "n2", "uid": "uid-n2"}}
    pressed["status"] = {
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "DiskPressure", "status": "True", "lastTransitionTime": ago(60)},
        ]
    }
    assert settling(WEB, pressed, level=level).ending(NOW) is ending


def test_where_namespaces_are_given_nothing_outside_them_is_heeded() -> None:
    down = {**NODE, "metadata": {"name": "n2", "uid": "uid-n2"}}
    down["status"] = {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": ago(60)}]}
    assert settling(WEB, down).ending(NOW) is Ending.FIRED
    assert settling(WEB, down, namespaced=True).ending(NOW) is Ending.SETTLED
    assert settling(down, namespaced=True).ending(NOW) is None


def test_a_crash_that_is_over_before_it_counts_is_not_awaited() -> None:
    ended = {"terminated": {"exitCode": 1, "startedAt": ago(9), "finishedAt": ago(5)}}
    again = {"ready": True, "restartCount": 1, "state": {"running": {"startedAt": ago(5)}}, "lastState": ended}
    up = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(5)}]}
    state = settling(pod("once", 10, None, again, **up))
    assert [failure.rule for report in state.reports for failure in report.failures] == ["pod-crash-looping"]
    assert state.ending(NOW) is Ending.SETTLED


def test_what_is_normal_for_days_is_not_awaited() -> None:
    state = settling(WEB, SUSPENDED)
    assert [failure.rule for report in state.reports for failure in report.failures] == ["cronjob-suspended"]
    assert state.ending(NOW) is Ending.SETTLED


def test_what_is_gone_is_awaited_no_more() -> None:
    state = settling(WEB, LACKS)
    gone = Evidence(cluster="c", version=Version(0, 0), ref=Ref("Pod", "lacks", "shop"), observed_at=NOW)
    state.take(gone)
    assert (state.ending(NOW), state.reports, state.objects) == (Ending.SETTLED, [], 2)


def stamp(seconds: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def roll_out(
    server: ApiServer, name: str = "web", *, seen: bool = True, updated: int = 1, **metadata: Any
) -> None:
    """A deployment of one replica, at its second generation."""
    whole = {"replicas": 1, "updatedReplicas": updated, "readyReplicas": 1, "availableReplicas": 1}
    await server.put(
        Deployment,
        name,
        metadata={"generation": 2, **metadata},
        spec={"replicas": 1, "selector": {}},
        status={"observedGeneration": 2 if seen else 1, **whole},
    )


@asynccontextmanager
async def waiting(server: ApiServer, folder: Path, **more: Any):  # type: ignore[no-untyped-def]
    """A wait that goes on until its task is awaited, and what it has said it waits for."""
    said: asyncio.Queue[list[str]] = asyncio.Queue()

    async def wait() -> Waited:
        async with await connect(str(server.kubeconfig(folder))) as cluster:
            options = {"seconds": 60.0, **more}
            return await settle(
                cluster, ANALYZERS, on_progress=lambda told: said.put_nowait([each.words for each in told]), **options
            )

    task = asyncio.create_task(wait())
    try:
        yield task, said
    finally:
        task.cancel()


async def until(said: "asyncio.Queue[list[str]]", words: str) -> None:
    async with asyncio.timeout(30):
        while not any(words in each for each in await said.get()):
            pass


async def test_a_change_that_no_controller_has_seen_is_awaited_and_then_its_rollout(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, seen=False)
        async with waiting(server, tmp_path) as (task, said):
            await until(said, "its controller has not seen its newest change yet")
            await roll_out(server, updated=0)
            await until(said, "0 of 1 replicas are updated")
            await roll_out(server)
            waited = await asyncio.wait_for(task, 30)
    assert (waited.ending, waited.awaited) == (Ending.SETTLED, [])
    assert (waited.analysis.objects, waited.analysis.reports) == (1, [])


async def test_a_failure_ends_the_waiting_though_a_rollout_goes_on(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0)
        async with waiting(server, tmp_path) as (task, said):
            await until(said, "0 of 1 replicas are updated")
            await server.put(PersistentVolumeClaim, "data", status={"phase": "Lost"})
            waited = await asyncio.wait_for(task, 30)
    assert waited.ending is Ending.FIRED
    assert [str(report.ref) for report in waited.analysis.reports] == ["PersistentVolumeClaim shop/data"]


async def test_a_deletion_ends_the_waiting_for_it(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server)
        await roll_out(server, "worker", updated=0)
        async with waiting(server, tmp_path) as (task, said):
            await until(said, "0 of 1 replicas are updated")
            await server.remove(Deployment, "worker")
            assert (await asyncio.wait_for(task, 30)).ending is Ending.SETTLED


async def test_the_time_may_be_over_first(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0)
        async with waiting(server, tmp_path, seconds=0) as (task, _):
            waited = await asyncio.wait_for(task, 30)
    assert waited.ending is Ending.OVER
    assert [str(each) for each in waited.awaited] == ["Deployment shop/web: 0 of 1 replicas are updated"]


async def test_what_no_longer_has_the_label_is_not_awaited(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0, labels={"app": "web"})
        await roll_out(server, "other", labels={"app": "web"})
        async with waiting(server, tmp_path, selector=selector("app=web")) as (task, said):
            await until(said, "0 of 1 replicas are updated")
            await roll_out(server, updated=0, labels={"app": "old"})
            waited = await asyncio.wait_for(task, 30)
    assert (waited.ending, waited.analysis.objects) == (Ending.SETTLED, 1)


async def test_an_empty_scope_is_waited_for_until_something_is_in_it(tmp_path: Path) -> None:
    async with api_server() as server, waiting(server, tmp_path) as (task, said):
        assert await asyncio.wait_for(said.get(), 30) == []
        await roll_out(server)
        assert (await asyncio.wait_for(task, 30)).ending is Ending.SETTLED


async def test_where_only_one_namespace_may_be_read_that_one_is_waited_for(tmp_path: Path) -> None:
    async with api_server() as server:
        for kind in VIEWS.values():
            server.refused[kind.resource.plural] = 403
        await roll_out(server)
        folder = server.kubeconfig(tmp_path, "shop")
        async with await connect(str(folder)) as cluster:
            waited = await asyncio.wait_for(settle(cluster, ANALYZERS, seconds=30), 60)
    assert (waited.ending, waited.analysis.namespaces) == (Ending.SETTLED, ("shop",))


async def test_a_server_that_does_not_answer_is_told_of_at_once(tmp_path: Path) -> None:
    async with api_server() as server:
        folder = server.kubeconfig(tmp_path)
    async with await connect(str(folder)) as cluster:
        with pytest.raises(ConfigError):
            await asyncio.wait_for(settle(cluster, ANALYZERS, seconds=600), 60)


async def test_pods_that_crash_soon_after_they_have_become_ready_are_no_success(tmp_path: Path) -> None:
    up = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp()}]}
    crashed = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": stamp()}],
        "containerStatuses": [
            {
                "name": "app",
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "startedAt": stamp(2), "finishedAt": stamp(1)}},
            }
        ],
    }
    spec = {"containers": [{"name": "app"}]}
    async with api_server() as server:
        await server.put(Pod, "app", metadata={"creationTimestamp": stamp(5)}, spec=spec, status=up)
        async with waiting(server, tmp_path) as (task, said):
            await until(said, "it has only just become ready")
            await server.put(Pod, "app", metadata={"creationTimestamp": stamp(5)}, spec=spec, status=crashed)
            assert (await asyncio.wait_for(task, 30)).ending is Ending.FIRED
