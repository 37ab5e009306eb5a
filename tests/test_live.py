"""One cluster's collector against an API server in the same process: what it says, when, and what it need not say."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from collectors.credentials import connect
from collectors.live import HEARTBEAT_SECONDS, INVENTORY_SECONDS, LiveCollector
from collectors.sending import RESTATE_SECONDS
from kubewhy.contracts import Analyzer, Need
from kubewhy.kube.core import Event, Node, Pod, Service
from kubewhy.records import Evidence, Heartbeat, Inventory, Version, key_hash
from kubewhy.related import Related, decode_object
from tests.api_server import CLUSTER, ApiServer, api_server
from tests.hurry import hurried
from tests.test_store import nothing

Record = TypeVar("Record", Evidence, Inventory, Heartbeat)
WHOLE = (0, 2**64)
ANALYZERS: tuple[Analyzer[Any], ...] = (
    Analyzer(Pod, (), nothing, (Need.named(Node, lambda pod: pod.spec.node_name), Need.events("Failed"))),
    Analyzer(Service, (), nothing),
)


class Heard:
    """What a collector has said so far, and when by the loop's clock."""

    def __init__(self) -> None:
        self.all: list[tuple[float, Evidence | Inventory | Heartbeat]] = []
        self.ended: asyncio.Task[None]

    def of(self, kind: type[Record]) -> list[Record]:
        return [record for _, record in self.all if isinstance(record, kind)]

    def about(self, name: str) -> list[Evidence]:
        return [each for each in self.of(Evidence) if each.ref.name == name]

    async def until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                if self.ended.done():
                    self.ended.result()
                await asyncio.sleep(1.0)


@asynccontextmanager
async def collecting(
    server: ApiServer,
    folder: Path,
    *namespaces: str,
    judged: tuple[Analyzer[Any], ...] = ANALYZERS,
    **more: Any,
) -> AsyncIterator[Heard]:
    heard = Heard()
    async with await connect(str(server.kubeconfig(folder))) as cluster:
        collector = LiveCollector(cluster, judged, namespaces, **more)

        async def listen() -> None:
            async for record in collector.evidence():
                heard.all.append((asyncio.get_running_loop().time(), record))

        heard.ended = asyncio.create_task(listen())
        try:
            await heard.until(lambda: bool(heard.of(Heartbeat)))
            yield heard
        finally:
            heard.ended.cancel()
            await asyncio.gather(heard.ended, return_exceptions=True)


def failed(pod: str, message: str, count: int) -> dict[str, Any]:
    about = {"kind": "Pod", "namespace": "shop", "name": pod, "uid": f"uid-{pod}"}
    return {"involvedObject": about, "reason": "Failed", "message": message, "count": count}


@hurried
async def test_each_judged_object_is_told_once_with_what_it_depends_on(tmp_path: Path) -> None:
    async with api_server() as server:
        await server.put(Pod, "web", spec={"nodeName": "n"})
        await server.put(Service, "web")
        await server.put(Node, "n", None)
        async with collecting(server, tmp_path) as heard:
            assert {str(each.ref) for each in heard.of(Evidence)} == {"Pod shop/web", "Service shop/web"}
            pod = next(each for each in heard.about("web") if each.ref.kind == "Pod")
            assert Related(pod).named(Node, "n")
            assert (pod.cluster, pod.server, pod.uid) == (CLUSTER, "v1.35.4", "uid-web")
            await server.put(Node, "n", None, spec={"unschedulable": True})
            await heard.until(lambda: len(heard.about("web")) == 3)
            node = Related(heard.about("web")[-1]).named(Node, "n")
            assert node
            assert node.spec.unschedulable


@hurried
async def test_versions_grow_from_one_record_to_the_next(tmp_path: Path) -> None:
    async with api_server() as server, collecting(server, tmp_path, term=7) as heard:
        for number in range(5):
            await server.put(Pod, f"p{number}")
        await heard.until(lambda: len(heard.of(Evidence)) == 5)
        await server.put(Pod, "p0", spec={"nodeName": "n"})
        await heard.until(lambda: len(heard.of(Evidence)) == 6)
        versions = [each.version for each in heard.of(Evidence)]
        assert all(early < late for early, late in pairwise(versions))
        assert {version.term for version in versions} == {7}
        assert heard.of(Inventory)[-1].version < versions[0]


@hurried
async def test_what_stays_the_same_is_not_said_again(tmp_path: Path) -> None:
    async with api_server() as server:
        await server.put(Pod, "a")
        await server.put(Event, "e", **failed("a", "no", 1))
        async with collecting(server, tmp_path) as heard:
            await server.put(Pod, "a", metadata={"managedFields": [{"manager": "kubelet"}]})
            await server.put(Event, "e", **failed("a", "no", 2))
            await server.put(Node, "other", None)
            await server.put(Pod, "marker")
            await heard.until(lambda: bool(heard.about("marker")))
            assert len(heard.about("a")) == 1
            await server.put(Event, "e", **failed("a", "still no", 3))
            await heard.until(lambda: len(heard.about("a")) == 2)
            assert heard.about("a")[1].events[0].count == 3


@hurried
async def test_what_is_deleted_is_said_to_be_gone_if_it_was_ever_told_of(tmp_path: Path) -> None:
    async with api_server() as server:
        await server.put(Pod, "a")
        async with collecting(server, tmp_path) as heard:
            await server.remove(Pod, "a")
            await heard.until(lambda: len(heard.about("a")) == 2)
            assert heard.about("a")[1].gone
            await server.put(Event, "e", **failed("before", "no", 1))
            await server.put(Pod, "marker")
            await heard.until(lambda: bool(heard.about("marker")))
            assert not heard.about("before")


@hurried
async def test_a_pod_that_changes_all_the_time_is_told_once_a_second_and_ends_as_it_is(tmp_path: Path) -> None:
    async with api_server() as server, collecting(server, tmp_path) as heard:
        for number in range(200):
            await server.put(Pod, "a", spec={"nodeName": f"n{number}"})
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        assert 10 <= len(heard.about("a")) <= 14
        assert decode_object(heard.about("a")[-1].object, Pod).spec.node_name == "n199"


@hurried
async def test_a_heartbeat_comes_every_ten_seconds_and_says_how_far_it_is(tmp_path: Path) -> None:
    async with api_server() as server, collecting(server, tmp_path) as heard:
        await server.put(Pod, "a")
        await heard.until(lambda: len(heard.of(Heartbeat)) == 11, 130)
        begun, *times = [when for when, record in heard.all if isinstance(record, Heartbeat)]
        assert times[0] - begun < 2
        assert [each.listing for each in heard.of(Heartbeat)] == [True] + [False] * 10
        assert isinstance(heard.all[0][1], Heartbeat)
        assert all(HEARTBEAT_SECONDS <= late - early < HEARTBEAT_SECONDS + 2 for early, late in pairwise(times))
        assert heard.of(Heartbeat)[-1].version == heard.about("a")[0].version


def listing(inventory: Inventory) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    return inventory.kind, inventory.namespaces, inventory.hashes


@hurried
async def test_an_inventory_of_each_judged_kind_follows_its_list(tmp_path: Path) -> None:
    async with api_server() as server:
        for name in "ab":
            await server.put(Pod, name)
        await server.put(Node, "n", None)
        pods = tuple(sorted(key_hash("shop", name) for name in "ab"))
        async with collecting(server, tmp_path) as heard:
            expected = {("Pod", (), pods), ("Service", (), ())}
            assert {listing(each) for each in heard.of(Inventory)} == expected
            assert {(each.low, each.high) for each in heard.of(Inventory)} == {WHOLE}
            await server.remove(Pod, "a")
            await server.forget()
            await heard.until(lambda: len(heard.of(Inventory)) == 4)
            after = {listing(each) for each in heard.of(Inventory)[2:]}
            assert after == {("Pod", (), (key_hash("shop", "b"),)), ("Service", (), ())}


@hurried
async def test_inventories_come_again_every_ten_minutes(tmp_path: Path) -> None:
    async with api_server() as server, collecting(server, tmp_path) as heard:
        begun = heard.all[-1][0]
        await heard.until(lambda: len(heard.of(Inventory)) == 6, 3 * INVENTORY_SECONDS)
        times = [when - begun for when, record in heard.all if isinstance(record, Inventory)][2:]
        assert all(abs(time - INVENTORY_SECONDS * count) < 5 for time, count in zip(times, (1, 1, 2, 2), strict=True))
        assert server.asked.count("list pods") == 1


@hurried
async def test_each_namespace_has_an_inventory_of_its_own_unless_it_may_not_be_read(tmp_path: Path) -> None:
    async with api_server() as server:
        server.refused["services in b"] = 403
        for namespace in "abc":
            await server.put(Pod, "web", namespace)
        async with collecting(server, tmp_path, "a", "b") as heard:
            await heard.until(lambda: len(heard.of(Inventory)) == 6, 2 * INVENTORY_SECONDS)
            assert {listing(each) for each in heard.of(Inventory)} == {
                ("Pod", ("a",), (key_hash("a", "web"),)),
                ("Pod", ("b",), (key_hash("b", "web"),)),
                ("Service", ("a",), ()),
            }
            assert {each.ref.namespace for each in heard.of(Evidence)} == {"a", "b"}


@hurried
async def test_the_parts_of_an_inventory_hold_every_object_once_and_leave_no_gap(tmp_path: Path) -> None:
    async with api_server() as server:
        for number in range(45_000):
            await server.put(Service, f"s{number}")
        async with collecting(server, tmp_path) as heard:
            parts = [each for each in heard.of(Inventory) if each.kind == "Service"]
    assert len(parts) == 3
    assert len({each.version for each in parts}) == 1
    assert [parts[0].low, *(each.high for each in parts)] == [*(each.low for each in parts), 2**64]
    assert parts[0].low == 0
    for part in parts:
        assert list(part.hashes) == sorted(part.hashes)
        assert all(part.low <= each < part.high for each in part.hashes)
    listed = Counter(each for part in parts for each in part.hashes)
    assert listed == Counter(key_hash("shop", f"s{number}") for number in range(45_000))


@hurried
async def test_everything_is_stated_again_in_half_an_hour(tmp_path: Path) -> None:
    async with api_server() as server:
        for number in range(20):
            await server.put(Pod, f"p{number}")
        async with collecting(server, tmp_path) as heard:
            await asyncio.sleep(RESTATE_SECONDS)
            told = Counter(each.ref.name for each in heard.of(Evidence))
            assert set(told) == {f"p{number}" for number in range(20)}
            assert set(told.values()) == {2}
            assert not heard.ended.done()


@hurried
async def test_it_speaks_under_the_id_it_is_given(tmp_path: Path) -> None:
    async with api_server() as server, collecting(server, tmp_path, cluster_id="mine") as heard:
        assert {record.cluster for _, record in heard.all} == {"mine"}
        assert heard.of(Heartbeat)[0].version == Version(1, 0)
