"""`kubewhy why` and `kubectl why` as programs, and `kubewhy analyze --wait`: what they take, say, and end with."""

import asyncio
import json
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kubewhy.cli.why import BLAMED, object_named
from kubewhy.kube import KINDS
from kubewhy.kube.core import Node, PersistentVolumeClaim, Pod
from tests.api_server import ApiServer, api_server
from tests.test_run import EXAMPLE, ROOT, Ended, kubewhy, lose, start
from tests.test_settling import roll_out, stamp

SCHEMA = json.loads((ROOT / "docs" / "reference" / "schemas" / "answer.json").read_text())


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["pod/web-0"], "Pod"),
        (["po/web-0"], "Pod"),
        (["pods/web-0"], "Pod"),
        (["Pod", "web-0"], "Pod"),
        (["deploy/web-0"], "Deployment"),
        (["deployments.apps", "web-0"], "Deployment"),
        (["pvc/web-0"], "PersistentVolumeClaim"),
        (["secrets/web-0"], "Secret"),
        (["cm/web-0"], "ConfigMap"),
        (["sc/web-0"], "StorageClass"),
    ],
)
def test_an_object_is_named_as_kubectl_names_it(words: list[str], kind: str) -> None:
    resource, name = object_named(words)
    assert (resource.kind, name) == (kind, "web-0")


def test_no_kind_is_blamed_under_another_name_than_it_is_read() -> None:
    read = {kind.resource.kind: kind.resource for kind in KINDS}
    assert all(read.get(each.kind, each) == each for each in BLAMED)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["podd/web"], "unknown kind 'podd'; did you mean pod?"),
        (["pod"], "which Pod? Give its name too, as pod/NAME"),
        (["pod/"], "which Pod?"),
        (["pod/shop/web"], "its namespace goes with -n"),
        (["pod/a", "pod/b"], "give one object"),
        (["pod", "a", "b"], "give one object"),
        (["pod,svc/a"], "give one object"),
        ([], "missing argument 'KIND/NAME'"),
        (["pod/a", "-n", "No_Name"], "no name of a namespace"),
        (["pod/a", "-o", "yaml"], "'yaml' is not one of"),
        (["pod/a", "--from", "x", "--context", "y"], "not both"),
    ],
)
async def test_wrong_usage_is_one_line(args: list[str], said: str) -> None:
    told = await kubewhy("why", *args)
    assert (told.status, told.out, told.err.count("\n")) == (2, "", 1)
    assert said in told.err
    assert "(see kubewhy why --help)" in told.err


async def why(*args: str, status: int = 0) -> Ended:
    told = await kubewhy("why", "--from", EXAMPLE, *args)
    assert told.status == status, told
    assert told.err.count("\n") == (1 if status else 0)
    return told


@pytest.fixture(scope="module")
def broken() -> Any:
    """What the shipped recording shows."""
    return json.loads(asyncio.run(kubewhy("analyze", "--from", EXAMPLE, "-o", "json")).out)


async def test_every_object_that_analyze_names_is_answered_for(broken: Any) -> None:
    assert broken["diagnoses"]
    for each in broken["diagnoses"]:
        told = await why(f"{each['kind']}/{each['name']}", "-n", each["namespace"] or "default", "-o", "json")
        document = json.loads(told.out)
        jsonschema.Draft202012Validator(SCHEMA).validate(document)
        incidents = {incident["title"]: incident for incident in document["incidents"]}
        (titles,) = {tuple(one["title"] for one in broken["incidents"] if one["root"] == each["root"])}
        incident = incidents[titles[0]]
        assert [failure["message"] for failure in incident["failures"]] == [one["message"] for one in each["failures"]]
        assert incident["chain"][-1]["object"] == each["root"]


async def test_an_object_of_a_recording_needs_no_namespace(broken: Any) -> None:
    pod = next(each for each in broken["diagnoses"] if each["kind"] == "Pod")
    told = await why(f"pod/{pod['name']}")
    assert f"Pod {pod['namespace']}/{pod['name']} is a symptom of" in told.out


async def test_what_is_not_there_names_what_is_near() -> None:
    assert "did you mean web-" in (await why("pod/web", status=1)).err
    assert (await why("deploy/wbe", status=1)).err == "kubewhy: there is no Deployment wbe; did you mean web?\n"
    assert "there is no Job nothing" in (await why("job/nothing", "-n", "shop", status=1)).err


async def test_what_is_not_judged_and_not_blamed_either_says_so() -> None:
    told = await why("secret/other", "-n", "shop", status=1)
    assert told.err == "kubewhy: secrets are not judged, and nothing that fails in namespace shop comes from other\n"


async def test_the_same_is_told_by_text_and_json(broken: Any) -> None:
    root = broken["incidents"][0]["root"]
    asked = [f"{root['kind']}/{root['name']}", "-n", root["namespace"]]
    text, document = (await why(*asked)).out, json.loads((await why(*asked, "-o", "json")).out)
    for incident in document["incidents"]:
        assert incident["title"] in text
        assert all(command in text for command in incident["next"])


async def test_a_recording_that_is_not_there_is_one_line() -> None:
    told = await kubewhy("why", "--from", "none.kwrec", "pod/a")
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)


SECRET = "hunter2"


async def crash(server: ApiServer, name: str, namespace: str = "shop") -> None:
    ended = {"terminated": {"exitCode": 1, "startedAt": stamp(9), "finishedAt": stamp(8), "message": SECRET}}
    status = {
        "name": "app",
        "restartCount": 5,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": ended,
    }
    container = {"name": "app", "env": [{"name": "PASSWORD", "value": SECRET}], "args": [SECRET]}
    await server.put(
        Pod,
        name,
        namespace,
        metadata={"annotations": {"note": SECRET}, "creationTimestamp": stamp(600)},
        spec={"containers": [container], "nodeName": "n1"},
        status={"phase": "Running", "containerStatuses": [status]},
    )


async def node(server: ApiServer, status: str) -> None:
    condition = {"type": "Ready", "status": status, "lastTransitionTime": stamp(600)}
    await server.put(Node, "n1", metadata={"creationTimestamp": stamp(9000)}, status={"conditions": [condition]})


async def test_the_namespace_is_the_contexts_own_as_with_kubectl(tmp_path: Path) -> None:
    async with api_server() as server:
        await node(server, "True")
        await crash(server, "app-0", "shop")
        config = server.kubeconfig(tmp_path, "shop")
        told = await kubewhy("why", "pod", "app-0", "--kubeconfig", config)
        assert told.status == 0
        assert "Pod shop/app-0 is the root" in told.out
        assert "exit code 1" in told.out
        assert SECRET not in told.out
        assert SECRET not in (await kubewhy("why", "pod", "app-0", "--kubeconfig", config, "-o", "json")).out
        assert {each for each in server.asked if "in shop" not in each} <= {
            f"list {kind.resource.plural}" for kind in KINDS if not kind.resource.namespaced
        }
        await crash(server, "other", "bank")
        told = await kubewhy("why", "pod/app-0", "-n", "bank", "--kubeconfig", config)
        assert (told.status, told.out, told.err) == (
            1,
            "",
            "kubewhy: there is no Pod app-0 in namespace bank, only other\n",
        )


async def test_an_incident_that_reaches_into_other_namespaces_is_told_whole(tmp_path: Path) -> None:
    async with api_server() as server:
        await node(server, "Unknown")
        for space in ("shop", "bank"):
            await crash(server, "app", space)
        config = server.kubeconfig(tmp_path, "shop")
        document = json.loads((await kubewhy("why", "po/app", "--kubeconfig", config, "-o", "json")).out)
        (incident,) = document["incidents"]
        assert [each["object"]["namespace"] for each in incident["others"]] == ["bank"]
        assert document["skipped"] == []

        for kinds in ([Pod], [kind for kind in KINDS if kind.resource.namespaced]):
            server.refused = dict.fromkeys((kind.resource.plural for kind in kinds), 403)
            told = await kubewhy("why", "po/app", "--kubeconfig", config)
            assert "Pod shop/app is a symptom of Node n1" in told.out
            assert "Not looked at\n  other namespaces: " in told.out
            assert "bank" not in told.out


async def test_a_kind_that_may_not_be_read_is_no_missing_object(tmp_path: Path) -> None:
    async with api_server() as server:
        await lose(server, "data")
        server.refused["pods in shop"] = 403
        told = await kubewhy("why", "po/app", "-n", "shop", "--kubeconfig", server.kubeconfig(tmp_path))
        assert (told.status, told.out) == (1, "")
        assert "kubewhy: Pod shop/app cannot be looked at: " in told.err.splitlines()[-1]


async def test_commands_name_the_context_that_was_chosen(tmp_path: Path) -> None:
    async with api_server() as server:
        await lose(server, "data")
        config = server.kubeconfig(tmp_path)
        told = await kubewhy("why", "pvc/data", "-n", "shop", "--kubeconfig", config, "--context", "shop")
    assert "kubectl describe persistentvolumeclaim data -n shop --context shop" in told.out


async def plugin(*args: str | Path) -> Ended:
    """kubectl-why, as the console script that is installed of it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["kubectl-why"].partition(":")
    code = f"from {module} import {function}; {function}()"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *map(str, args), stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def test_as_a_plugin_it_is_called_kubectl_why() -> None:
    told = await plugin("--help")
    assert told.status == 0
    assert "Usage: kubectl why [OPTIONS] KIND/NAME" in told.out
    assert "kubectl why pod/web-0 -n shop" in told.out
    assert "kubewhy why" not in told.out
    told = await plugin("podd/web")
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith("kubectl why: ")
    assert told.err.endswith("(see kubectl why --help)\n")
    told = await plugin("deploy/wbe", "--from", EXAMPLE)
    assert (told.status, told.err) == (1, "kubectl why: there is no Deployment wbe; did you mean web?\n")


async def test_as_a_plugin_it_says_the_same() -> None:
    assert (await plugin("deploy/web", "--from", EXAMPLE)).out == (await why("deploy/web")).out


async def wait(server: ApiServer, folder: Path, *args: str) -> Ended:
    return await kubewhy("analyze", "--kubeconfig", server.kubeconfig(folder), *args)


async def test_what_has_settled_ends_the_waiting_with_success(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server)
        told = await wait(server, tmp_path, "--wait", "5m")
        assert told.status == 0
        assert told.out.startswith("Nothing is broken among 1 object ")
        assert told.err == "settled after less than 1s\n"
        assert (await wait(server, tmp_path, "--wait", "0", "-f", "pod")).err == (
            "still not settled after less than 1s: there is nothing in scope yet\n"
        )


async def test_what_fires_is_told_as_analyze_tells_it(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0)
        await lose(server, "data")
        for args, status in (([], 1), (["--fail-on", "critical"], 3)):
            told = await wait(server, tmp_path, "--wait", "1h", *args, "-o", "json")
            document, once = json.loads(told.out), json.loads((await wait(server, tmp_path, "-o", "json")).out)
            assert told.status == status
            assert told.err.startswith("fired after less than 1s: critical, ")
            assert {key: document[key] for key in document if key != "observed_at"} == {
                key: once[key] for key in once if key != "observed_at"
            }


async def test_what_is_in_no_namespace_does_not_end_the_waiting_for_one(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server)
        await node(server, "Unknown")
        assert (await wait(server, tmp_path, "--wait", "1m")).status == 1
        told = await wait(server, tmp_path, "--wait", "1m", "-n", "shop", "--fail-on", "info")
        assert (told.status, told.err) == (0, "settled after less than 1s\n")
        assert "Node n1" in told.out  # as analyze tells it


async def test_what_does_not_settle_in_time_is_no_success(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0)
        told = await wait(server, tmp_path, "--wait", "1", "--fail-on", "info")
    assert told.status == 1
    assert told.err == "still not settled after 1s: Deployment shop/web: 0 of 1 replicas are updated\n"
    assert told.out.startswith("Nothing is broken among 1 object")


async def test_a_namespace_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    async with api_server() as server:
        server.missing.add("shpo")
        told = await wait(server, tmp_path, "--wait", "1h", "-n", "shpo")
    assert (told.status, told.out) == (1, "")
    assert told.err == "kubewhy: there is no namespace shpo in shop: check -n and the context\n"


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 m", "5d", "1m1h", "inf", "nan", "1e3", "٣"])
async def test_what_is_no_duration_is_wrong_usage(text: str) -> None:
    told = await kubewhy("analyze", f"--wait={text}")
    assert (told.status, told.out, told.err.count("\n")) == (2, "", 1)
    assert "is no duration: write 30s, 5m, 1h or a number of seconds" in told.err


@pytest.mark.parametrize("args", [["--no-hold"], ["--from", "x.kwrec"]])
async def test_waiting_goes_with_a_live_cluster_and_with_holds_only(args: list[str]) -> None:
    for words in (["--wait", "0", *args], [*args, "--wait", "0"]):
        told = await kubewhy("analyze", *words)
        assert (told.status, told.out) == (2, "")
        assert "not both" in told.err


async def test_progress_is_shown_on_a_terminal_and_is_gone_at_the_end(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0)
        ours, theirs = os.openpty()
        command = [
            sys.executable,
            "-m",
            "kubewhy",
            "analyze",
            "--wait",
            "1m",
            "--kubeconfig",
            str(server.kubeconfig(tmp_path)),
        ]
        process = await asyncio.create_subprocess_exec(*command, stderr=theirs, stdout=asyncio.subprocess.DEVNULL)
        os.close(theirs)
        shown = b""
        async with asyncio.timeout(60):
            while b"0 of 1 replicas are updated" not in shown:
                shown += await asyncio.to_thread(os.read, ours, 1000)
            await roll_out(server)
            while b"settled after" not in shown:
                shown += await asyncio.to_thread(os.read, ours, 1000)
            assert await process.wait() == 0
        os.close(ours)
    assert b"\x1b[Ksettled after" in shown


async def test_an_interrupt_ends_the_waiting_quietly(tmp_path: Path) -> None:
    async with api_server() as server:
        await roll_out(server, updated=0)
        process = await start("analyze", "--wait", "1h", "--kubeconfig", server.kubeconfig(tmp_path))
        async with asyncio.timeout(60):
            while server.watching < len(KINDS):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


async def test_claims_are_waited_for_within_their_hold(tmp_path: Path) -> None:
    async with api_server() as server:
        await server.put(
            PersistentVolumeClaim,
            "data",
            metadata={"creationTimestamp": stamp()},
            spec={"storageClassName": "none"},
            status={"phase": "Pending"},
        )
        told = await wait(server, tmp_path, "--wait", "1s")
    assert told.status == 1
    assert told.err.startswith("still not settled after 1s: PersistentVolumeClaim shop/data: ")
    assert "Not yet counted" in told.out
