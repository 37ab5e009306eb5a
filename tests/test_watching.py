"""All kinds of a cluster followed at once: who is told, when it is settled, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collectors.credentials import connect
from collectors.watching import Watching
from kubewhy.errors import ConfigError
from kubewhy.kube.core import Node, Pod
from tests.api_server import ApiServer, api_server
from tests.hurry import hurried
from tests.test_recorded import Calls


@asynccontextmanager
async def watching(
    server: ApiServer, folder: Path, *targets: Calls, namespaces: tuple[str, ...] = (), **more: Any
) -> AsyncIterator[Watching]:
    async with await connect(str(server.kubeconfig(folder, namespace="own"))) as cluster:
        watching = Watching(cluster, [Pod, Node], namespaces, targets, **more)
        try:
            yield watching
        finally:
            await watching.close()


async def until(watched: Watching, true: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await watched.wait(1.0)


def words(target: Calls) -> list[str]:
    """Each call: its verb, its kind, and whose it is."""
    found = []
    for verb, resource, *rest in target.told:
        name = rest[0].name if verb == "put" else rest[1] if verb == "remove" else rest[0] or "all"
        found.append(f"{verb} {resource.kind} {name}")
    return found


@hurried
async def test_every_target_is_told_all(tmp_path: Path) -> None:
    first, second = Calls(), Calls()
    async with api_server() as server, watching(server, tmp_path, first, second) as watched:
        await server.put(Pod, "a")
        await watched.settle()
        assert sorted(words(first)) == sorted(
            ["begin Pod all", "put Pod a", "synced Pod all", "begin Node all", "synced Node all"]
        )
        assert watched.listed == {(Pod, None), (Node, None)}
        await server.put(Node, "n")
        await until(watched, lambda: words(first)[-1] == "put Node n")
        await server.remove(Pod, "a")
        await until(watched, lambda: words(first)[-1] == "remove Pod a")
        assert second.told == first.told


@hurried
async def test_with_namespaces_only_kinds_that_have_one_are_watched_in_each(tmp_path: Path) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target, namespaces=("a", "b")) as watched:
        assert watched.scopes == [(Pod, "a"), (Pod, "b"), (Node, None)]
        for namespace in "abc":
            await server.put(Pod, f"in-{namespace}", namespace)
        await watched.settle()
        assert {word for word in words(target) if word.startswith("put")} == {"put Pod in-a", "put Pod in-b"}


@hurried
async def test_settled_means_that_every_kind_is_read_or_refused(tmp_path: Path) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        server.refused["nodes"] = 403
        await watched.settle()
        assert {"synced Pod all", "refused Node all"} < set(words(target))
        assert watched.listed == {(Pod, None)}


@hurried
async def test_where_all_namespaces_are_forbidden_the_contexts_own_is_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        server.refused |= {"pods": 403, "nodes": 403}
        await server.put(Pod, "a", "own")
        await watched.settle()
        assert watched.scopes == [(Pod, "own"), (Node, None)]
        assert "put Pod a" in words(target)
        assert [each.message for each in caplog.records].count(
            "listing all namespaces is forbidden: watching namespace own only"
        ) == 1


@pytest.mark.parametrize("asked", [{"namespaces": ("other",)}, {"all_namespaces": True}])
@hurried
async def test_what_was_asked_for_and_is_forbidden_is_an_error(tmp_path: Path, asked: dict[str, Any]) -> None:
    async with api_server() as server, watching(server, tmp_path, Calls(), **asked) as watched:
        server.refused |= {"pods": 403, "pods in other": 403}
        with pytest.raises(ConfigError, match=r"shop: may read nothing \(forbidden: no\).*`kubewhy rbac`"):
            await watched.settle()


@hurried
async def test_where_nothing_may_be_read_at_all_that_is_an_error(tmp_path: Path) -> None:
    async with api_server() as server, watching(server, tmp_path, Calls()) as watched:
        server.refused |= {"pods": 403, "pods in own": 403}
        with pytest.raises(ConfigError, match="may read nothing"):
            await watched.settle()


@hurried
async def test_what_waiting_cannot_mend_ends_it_all(tmp_path: Path) -> None:
    async with api_server() as server, watching(server, tmp_path, Calls()) as watched:
        server.refused["pods"] = 400
        with pytest.raises(ConfigError, match="does not accept the request for pods"):
            await watched.settle()


@hurried
async def test_a_bad_gateway_in_between_ends_nothing(tmp_path: Path) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        await watched.settle()
        server.refused["pods"] = 400
        await server.forget()
        await until(watched, lambda: server.asked.count("list pods") == 3)
        server.refused.clear()
        await until(watched, lambda: words(target).count("synced Pod all") == 2)


@hurried
async def test_a_kind_that_the_server_keeps_failing_to_list_holds_up_no_other(tmp_path: Path) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        server.refused["nodes"] = 503
        await watched.settle()
        assert {"synced Pod all", "refused Node all"} < set(words(target))
        server.refused.clear()
        await until(watched, lambda: "synced Node all" in words(target))


@hurried
async def test_a_permission_that_is_taken_away_and_given_back_is_noticed(tmp_path: Path) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        await watched.settle()
        server.refused["nodes"] = 403
        await server.forget()
        await until(watched, lambda: "refused Node all" in words(target), 300)
        server.refused.clear()
        await until(watched, lambda: words(target)[-1] == "synced Node all", 900)
        assert words(target).count("refused Pod all") == 0


@hurried
async def test_a_version_that_was_forgotten_is_listed_again(tmp_path: Path) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        await watched.settle()
        watched.listed.clear()
        await server.forget()
        await until(watched, lambda: watched.listed == {(Pod, None), (Node, None)})
        assert words(target).count("synced Pod all") == 2


@hurried
async def test_closing_ends_every_watch(tmp_path: Path) -> None:
    async with api_server() as server, watching(server, tmp_path, Calls()) as watched:
        await watched.settle()
        await until(watched, lambda: server.watching == 2)
        await watched.close()
        await until(watched, lambda: server.watching == 0)


@hurried
async def test_a_refusal_that_lasts_is_told_once_and_one_that_passes_not_at_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = Calls()
    async with api_server() as server, watching(server, tmp_path, target) as watched:
        await watched.settle()
        server.refused["pods"] = 403
        await server.forget()
        await until(watched, lambda: server.asked.count("watch pods") >= 3)
        server.refused.clear()
        await until(watched, lambda: words(target).count("synced Pod all") == 2)
        assert not caplog.records
        server.refused["pods"] = 403
        await server.forget()
        await until(watched, lambda: words(target).count("refused Pod all") == 2, 900)
    assert [each.message for each in caplog.records] == ["shop: cannot read pods any more (forbidden: no)"]


@hurried
async def test_what_befalls_all_kinds_is_told_once_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with api_server() as server, watching(server, tmp_path, Calls()) as watched:
        await watched.settle()
        for told in (2, 4):
            server.refused |= {"pods": 503, "nodes": 503}
            await server.forget()
            await until(watched, lambda: len(caplog.records) == told - 1, 300)  # noqa: B023
            server.refused.clear()
            await until(watched, lambda: len(caplog.records) == told, 300)  # noqa: B023
    lasting = "shop: out of reach ({} answers 503 for {}: no); trying again"
    for begun, over in zip(caplog.records[::2], caplog.records[1::2], strict=True):
        assert begun.message in {lasting.format(server.url, kind) for kind in ("pods", "nodes")}
        assert over.message == "shop: in step again"
