"""The watch against a real API server, and against all that can come between."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from collectors.credentials import connect
from collectors.requests import Cluster, Limits
from collectors.watch import follow, read_once
from infra.testbed.control_plane import ControlPlane
from kubewhy.kube import KINDS
from kubewhy.kube.core import Pod, Service
from kubewhy.kube.meta import Object, Resource
from tests.live.audited import audited
from tests.live.faults import Fault, FaultProxy

pytestmark = pytest.mark.live

QUICK = Limits(first_wait=0.05, longest_wait=0.2)
SERVICES = "/api/v1/services"


class ConfigMap(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("ConfigMap", "configmaps")


class Gateway(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("Gateway", "gateways", "gateway.networking.k8s.io")


class Mirror:
    """A target that holds what it was told, and how."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Resource, str | None, str], Object] = {}
        self.lists = 0
        self.synced_kinds: set[Resource] = set()
        self.refusals: list[tuple[Resource, str | None, str]] = []
        self.times: list[datetime] = []
        self._before: set[tuple[Resource, str | None, str]] = set()

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.lists += 1
        self._before = {key for key in self.objects if key[0] == resource and namespace in (None, key[1])}
        self.times.append(at)

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        key = (resource, subject.namespace, subject.name)
        self.objects[key] = subject
        self._before.discard(key)

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        self.objects.pop((resource, namespace, name), None)

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        for key in self._before:
            del self.objects[key]
        self._before = set()
        self.synced_kinds.add(resource)

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        self.refusals.append((resource, namespace, reason))

    def names(self, namespace: str) -> set[str]:
        return {name for _, within, name in self.objects if within == namespace}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        yield plane


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    with FaultProxy(plane) as proxy:
        yield proxy


@pytest.fixture
def space(plane: ControlPlane, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    name: str = request.node.name.replace("_", "-")[:50].rstrip("-")
    plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def service(space: str, name: str) -> dict[str, Any]:
    spec = {"ports": [{"port": 80}], "clusterIP": "None"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": space}, "spec": spec}


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 (what is awaited is anything)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def following(
    kubeconfig: Path, target: Mirror, view: type[Object] = Service, limits: Limits = QUICK, **options: Any
) -> AsyncIterator[Cluster]:
    """Follows one kind until the block ends, and fails with the follower."""
    namespace = options.pop("namespace", None)
    async with await connect(str(kubeconfig), limits=limits) as cluster:
        task = asyncio.create_task(follow(cluster, view.resource, view, namespace, target, **options))
        try:
            yield cluster
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_and_what_changes_arrives(plane: ControlPlane, space: str) -> None:
    mirror = Mirror()
    plane.api.create(service(space, "old"))
    async with following(plane.admin_kubeconfig, mirror) as cluster:
        await until(lambda: mirror.names(space) == {"old"})
        plane.api.create(service(space, "new"))
        await until(lambda: mirror.names(space) == {"old", "new"})
        plane.api.delete(f"/api/v1/namespaces/{space}/services/old")
        await until(lambda: mirror.names(space) == {"new"})
        assert abs((cluster.now() - mirror.times[0]).total_seconds()) < 30


async def test_one_namespace_is_followed_alone(plane: ControlPlane, space: str) -> None:
    mirror = Mirror()
    plane.api.create(service(space, "ours"))
    plane.api.create(service("default", f"theirs-{space}"))
    async with following(plane.admin_kubeconfig, mirror, namespace=space):
        await until(lambda: mirror.names(space) == {"ours"})
        assert not mirror.names("default")


async def test_a_killed_api_server_loses_nothing(
    plane: ControlPlane, space: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "collectors")
    mirror = Mirror()
    plane.api.create(service(space, "a"))
    plane.api.create(service(space, "b"))
    async with following(plane.admin_kubeconfig, mirror):
        await until(lambda: mirror.names(space) == {"a", "b"})
        plane.kill_api_server()
        await until(lambda: "out of reach" in caplog.text)
        await asyncio.to_thread(plane.start_api_server)
        plane.api.create(service(space, "c"))
        plane.api.delete(f"/api/v1/namespaces/{space}/services/a")
        await until(lambda: mirror.names(space) == {"b", "c"})
        plane.api.create(service(space, "d"))
        await until(lambda: mirror.names(space) == {"b", "c", "d"})
    # Many tries, and one line for each change of state.
    assert caplog.text.count("out of reach") == 1, caplog.text
    assert caplog.text.count("in step") == 1, caplog.text


async def test_a_version_that_etcd_has_compacted_is_listed_anew(
    plane: ControlPlane, proxy: FaultProxy, space: str
) -> None:
    mirror = Mirror()
    plane.api.create(service(space, "gone"))
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror):
        await until(lambda: mirror.names(space) == {"gone"} and proxy.count(SERVICES, watch=True) == 1)
        proxy.script(Fault("watch=1", times=10_000, status=503))
        proxy.cut()
        plane.api.delete(f"/api/v1/namespaces/{space}/services/gone")
        plane.api.create(service(space, "new"))
        plane.compact_etcd()
        # Its own memory of past versions would still do otherwise.
        await asyncio.to_thread(_restart, plane)
        proxy.clear()
        await until(lambda: mirror.names(space) == {"new"})
        assert mirror.lists == 2


def _restart(plane: ControlPlane) -> None:
    plane.kill_api_server()
    plane.start_api_server()


@pytest.mark.parametrize("way", ["status", "event"])
async def test_410_is_understood_either_way(plane: ControlPlane, proxy: FaultProxy, way: str) -> None:
    gone = b'{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version: 1 (2)"}'
    status = Fault("watch=1", status=410, body=gone)
    event = Fault("watch=1", status=200, body=b'{"type":"ERROR","object":' + gone + b"}\n")
    proxy.script(status if way == "status" else event)
    mirror = Mirror()
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror):
        await until(lambda: mirror.lists == 2 and proxy.count(SERVICES, watch=True) == 2)


async def test_a_version_from_another_history_is_given_up(plane: ControlPlane, proxy: FaultProxy) -> None:
    large = b'{"kind":"Status","code":504,"message":"Too large resource version: 9, current: 1"}'
    proxy.script(Fault("watch=1", times=8, status=504, body=large))
    mirror = Mirror()
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror):
        await until(lambda: proxy.count(SERVICES, watch=True) == 9)
    assert 2 <= mirror.lists <= 5


async def test_a_normal_end_reopens_without_a_list(plane: ControlPlane, proxy: FaultProxy, space: str) -> None:
    mirror = Mirror()
    limits = replace(QUICK, watch=(1.0, 1.0))
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror, limits=limits):
        await until(lambda: proxy.count(SERVICES, watch=True) == 3)
        plane.api.create(service(space, "late"))
        await until(lambda: mirror.names(space) == {"late"})
    assert mirror.lists == 1


async def test_a_silent_watch_is_given_up_and_nothing_is_lost(
    plane: ControlPlane, proxy: FaultProxy, space: str
) -> None:
    mirror = Mirror()
    limits = replace(QUICK, watch=(2.0, 2.0), watch_grace=0.5, silence=1.0)
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror, limits=limits):
        await until(lambda: proxy.count(SERVICES, watch=True) == 1)
        proxy.silent = True
        plane.api.create(service(space, "unheard"))
        await until(lambda: proxy.count(SERVICES, watch=True) >= 2)
        assert mirror.names(space) == set()
        proxy.silent = False
        await until(lambda: mirror.names(space) == {"unheard"})
    assert mirror.lists == 1


async def test_cut_connections_go_on_from_the_last_version(plane: ControlPlane, proxy: FaultProxy, space: str) -> None:
    mirror = Mirror()
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror):
        for number in range(5):
            await until(lambda: proxy.count(SERVICES, watch=True) > number)  # noqa: B023
            plane.api.create(service(space, f"s{number}"))
            proxy.cut()
        await until(lambda: len(mirror.names(space)) == 5)
    assert mirror.lists == 1


async def test_an_event_cut_in_the_middle_comes_again_whole(plane: ControlPlane, proxy: FaultProxy, space: str) -> None:
    mirror = Mirror()
    proxy.script(Fault("watch=1", cut_after=100))
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror):
        await until(lambda: proxy.count(SERVICES, watch=True) == 1)
        plane.api.create(service(space, "whole"))
        await until(lambda: mirror.names(space) == {"whole"})
    assert mirror.lists == 1


async def test_an_odd_object_is_skipped_and_the_stream_goes_on(
    plane: ControlPlane, proxy: FaultProxy, space: str, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(line: bytes) -> bytes:
        return line.replace(b'"clusterIP":"None"', b'"type":[1]') if b'"name":"odd"' in line else line

    proxy.script(Fault("watch=1", times=10, rewrite=spoil))
    mirror = Mirror()
    async with following(plane.kubeconfig("admin", url=proxy.url), mirror):
        await until(lambda: proxy.count(SERVICES, watch=True) == 1)
        made = plane.api.create(service(space, "odd"))
        plane.api.patch(plane.api.path(made), {"metadata": {"labels": {"changed": "yes"}}})
        plane.api.create(service(space, "fine"))
        await until(lambda: mirror.names(space) == {"fine"})
        plane.api.delete(plane.api.path(made))
    told = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert len(told) == 1
    assert f"Service {space}/odd" in told[0]
    assert "$.spec.type" in told[0]


async def test_an_event_of_six_megabytes_passes(plane: ControlPlane, space: str) -> None:
    mirror = Mirror()
    sizes: list[int] = []
    # The largest ConfigMap that is allowed; in JSON each of these characters takes six.
    big = {"data": {"file": "<" * 1_000_000}, "metadata": {"name": "big", "namespace": space}}
    async with following(
        plane.admin_kubeconfig,
        mirror,
        ConfigMap,
        namespace=space,
        on_raw=lambda resource, kind, raw: sizes.append(len(raw)),
    ):
        await until(lambda: mirror.lists == 1)
        plane.api.create({"apiVersion": "v1", "kind": "ConfigMap", **big})
        plane.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "next", "namespace": space}})
        await until(lambda: mirror.names(space) == {"big", "next"})
    assert max(sizes) > 6_000_000


async def test_a_refused_kind_is_tried_again(plane: ControlPlane, space: str) -> None:
    mirror = Mirror()
    plane.api.create(service(space, "mine"))
    async with following(plane.kubeconfig("user-01"), mirror, namespace=space, refused_retry=0.2):
        await until(lambda: len(mirror.refusals) >= 2)
        assert "forbidden" in mirror.refusals[0][2]
        _grant(plane, space, "user-01", "services")
        await until(lambda: mirror.names(space) == {"mine"})


async def test_an_absent_api_group_is_refused(plane: ControlPlane) -> None:
    mirror = Mirror()
    async with following(plane.admin_kubeconfig, mirror, Gateway):
        await until(lambda: bool(mirror.refusals))
    assert mirror.refusals[0][0] == Gateway.resource
    assert "has no API for gateways.gateway.networking.k8s.io" in mirror.refusals[0][2]


async def test_a_mended_token_ends_401(plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = tmp_path / "token"
    token.write_text("wrong")
    kubeconfig = _with_user(plane, tmp_path, {"tokenFile": "token"})
    mirror = Mirror()
    async with following(kubeconfig, mirror):
        await until(lambda: "does not know these credentials (401)" in caplog.text)
        token.write_text(plane.token("admin") + "\n")
        await until(lambda: Service.resource in mirror.synced_kinds)


async def test_everything_is_read_once(plane: ControlPlane, space: str) -> None:
    plane.api.create(service(space, "there"))
    mirror, raw = Mirror(), []
    async with await connect(str(plane.admin_kubeconfig)) as cluster:
        skipped = await read_once(cluster, (*KINDS, Gateway), (space,), mirror, on_raw=lambda *each: raw.append(each))
    assert [each.resource for each in skipped] == [Gateway.resource]
    assert mirror.synced_kinds == {kind.resource for kind in KINDS}
    assert mirror.names(space) == {"there"}
    assert any(resource == Service.resource and kind == "LISTED" and b'"there"' in body for resource, kind, body in raw)


async def test_one_shot_tells_what_it_may_not_read(plane: ControlPlane, space: str) -> None:
    _grant(plane, space, "user-02", "services")
    mirror = Mirror()
    async with await connect(str(plane.kubeconfig("user-02"))) as cluster:
        skipped = await read_once(cluster, (Service, Pod), (space,), mirror)
        assert [(each.resource, each.namespace) for each in skipped] == [(Pod.resource, space)]
        assert "cannot list resource" in skipped[0].reason
        everything = await read_once(cluster, KINDS, (), mirror)
        assert len(everything) == len(KINDS)


async def test_labels_choose_only_among_the_labelled_kinds(plane: ControlPlane, space: str) -> None:
    plane.api.create(service(space, "plain"))
    labelled = service(space, "labelled")
    labelled["metadata"]["labels"] = {"app": "a"}
    plane.api.create(labelled)
    async with await connect(str(plane.admin_kubeconfig)) as cluster:
        only, every = Mirror(), Mirror()
        await read_once(cluster, (Service,), (space,), only, "app=a", labelled=frozenset({Service.resource}))
        await read_once(cluster, (Service,), (space,), every, "app=a", labelled=frozenset({Pod.resource}))
    assert only.names(space) == {"labelled"}
    assert every.names(space) == {"plain", "labelled"}


def _grant(plane: ControlPlane, space: str, user: str, resource: str) -> None:
    name = f"{user}-{resource}"
    api = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": [resource], "verbs": ["get", "list", "watch"]}]
    meta = {"name": name, "namespace": space}
    plane.api.apply([{"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": rules}])
    binding = {"roleRef": {"apiGroup": api, "kind": "Role", "name": name}}
    subjects = [{"kind": "User", "name": user, "apiGroup": api}]
    plane.api.apply(
        [{"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": meta, **binding, "subjects": subjects}]
    )


def _with_user(plane: ControlPlane, folder: Path, user: dict[str, Any]) -> Path:
    document = json.loads(plane.admin_kubeconfig.read_text())
    document["users"][0]["user"] = user
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path
