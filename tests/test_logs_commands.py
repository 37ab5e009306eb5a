"""`--logs`: what the commands tell and send of the last lines of containers that died, and what they refuse."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubewhy.kube.batch import Job
from kubewhy.kube.core import Pod
from kubewhy.runtime.oneshot import LOGS_PODS
from tests.api_server import ApiServer, api_server
from tests.models.far import Far, serving
from tests.models.openai import OpenAI
from tests.test_explaining import ANSWER
from tests.test_logs import crashed, ended, pod, status
from tests.test_run import EXAMPLE, kubewhy, start

MASKED = re.compile(r"log of container CONTAINER_\w+: cannot open SERVICE_\w+\.NAM[A-Z]+_\w+\.svc: password=")
SAID = b"starting\ncannot open db.shop.svc: password=hunter2platypus\n"


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MODEL_KEY", "sk-planted")


@asynccontextmanager
async def crashing(pods: int = 1) -> AsyncIterator[ApiServer]:
    """A cluster of pods that crash."""
    async with api_server() as server:
        for number in range(pods):
            server.logs[f"web-{number}", "app-p"] = SAID
            await server.put(Pod, f"web-{number}", **crashed(5))
        yield server


@pytest.mark.parametrize("asked", [("--logs",), ()])
async def test_run_tells_the_lines_without_secrets(tmp_path: Path, asked: tuple[str, ...]) -> None:
    """By the option, or by the settings."""
    async with crashing() as server, serving(Far(OpenAI(), json.dumps(ANSWER))) as far:
        backend = {"type": "openai", "model": "m", "url": far.url + "/v1", "key": {"env": "MODEL_KEY"}}
        path = tmp_path / "settings.json"
        path.write_text(json.dumps({"explain": {"backends": [backend], "cache": False}, "logs": not asked}))
        where = ("--kubeconfig", server.kubeconfig(tmp_path), "--config", path)
        process = await start("run", "-o", "json", *where, *asked)
        assert process.stdout
        told = b""
        async with asyncio.timeout(60):
            while b'"transition":"explained"' not in told:
                told = await process.stdout.readline()
                assert told, "it ended too soon"
            process.send_signal(signal.SIGTERM)
            await process.wait()
        seen = [line for each in json.loads(told)["incident"]["evidence"] for line in each["lines"]]
        assert "log of container app: cannot open db.shop.svc: password=[redacted]" in seen
        assert MASKED.search(far.asked[0].body.decode())
        assert b"hunter2" not in told + far.asked[0].body
        assert len(server.read) == 1


async def test_what_stays_the_same_but_for_its_lines_is_told_once(tmp_path: Path) -> None:
    async with crashing() as server:
        config = ("run", "--kubeconfig", server.kubeconfig(tmp_path), "--until-idle", "2", "-o", "json")
        plain, logged = await kubewhy(*config), await kubewhy(*config, "--logs")
        assert [each["transition"] for each in logged.findings] == [each["transition"] for each in plain.findings]
        assert len(server.read) == 1


async def test_a_refusal_costs_nothing_but_the_lines(tmp_path: Path) -> None:
    async with crashing(5) as server:
        server.refused["log"] = 403
        told = await kubewhy("run", "--kubeconfig", server.kubeconfig(tmp_path), "--until-idle", "2", "--logs")
        assert told.status == 0
        assert len(told.findings) == 5
        (line,) = told.err.splitlines()
        assert "shop: cannot read logs (forbidden: not to be had): going on without; grant what `kubewhy rbac" in line


@pytest.mark.parametrize("wait", [(), ("--wait", "20s")])
async def test_analyze_has_a_model_read_them(tmp_path: Path, wait: tuple[str, ...]) -> None:
    async with crashing() as server, serving(Far(OpenAI(), json.dumps(ANSWER))) as far:
        where = ("--model", "model-7", "--url", far.url + "/v1", "--key-env", "MODEL_KEY")
        assert (await kubewhy("backends", "add", "openai", *where)).status == 0
        config: tuple[str | Path, ...] = (
            "analyze",
            "--explain",
            "--no-cache",
            *wait,
            "--kubeconfig",
            server.kubeconfig(tmp_path),
        )
        plain, logged = await kubewhy(*config), await kubewhy(*config, "--logs")
        assert plain.status == logged.status == (1 if wait else 0)
        before, after = (each.body.decode() for each in far.asked)
        assert "cannot open" not in before
        assert "cannot open" in after
        assert "hunter2" not in after
        assert "db.shop.svc" not in after


async def test_the_preview_shows_them_masked(tmp_path: Path) -> None:
    async with crashing() as server:
        config = ("explain", "preview", "--kubeconfig", server.kubeconfig(tmp_path))
        plain, logged = await kubewhy(*config), await kubewhy(*config, "--logs")
        assert "cannot open" not in plain.out
        assert MASKED.search(logged.out)
        assert "hunter2" not in logged.out


async def test_a_job_that_failed_has_the_lines_of_its_pod(tmp_path: Path) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate", "uid": "uid-migrate", "controller": True}
    over = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    async with api_server() as server:
        server.logs["migrate-x", "app"] = b"no such table\n"
        await server.put(Job, "migrate", status={"failed": 1, "conditions": [over]})
        await server.put(Pod, "migrate-x", **pod(status(ended()), ownerReferences=[owner]))
        told = await kubewhy("explain", "preview", "--no-hold", "--logs", "--kubeconfig", server.kubeconfig(tmp_path))
    assert "root: Job " in told.out
    assert re.search("log of container .*: no such table", told.out)


async def test_of_so_many_pods_and_no_more(tmp_path: Path) -> None:
    async with crashing(LOGS_PODS + 10) as server:
        await server.put(Pod, "fine", **pod(status(ended(0))))
        told = await kubewhy("explain", "preview", "--logs", "--kubeconfig", server.kubeconfig(tmp_path))
        assert told.status == 0
        assert len({name for name, _ in server.read}) == len(server.read) == LOGS_PODS


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (("analyze", "--logs"), "--logs goes with --explain"),
        (("run", "--from", EXAMPLE, "--logs"), "give either --from or --logs, not both"),
        (("explain", "preview", "--logs", "--from", EXAMPLE), "give either --from or --logs, not both"),
        (("explain", "--logs", "--state", "x"), "--state goes without a cluster, a recording, namespaces and --logs"),
    ],
)
async def test_what_has_no_logs_is_wrong_usage(args: tuple[str, ...], fault: str) -> None:
    told = await kubewhy(*args)
    assert told.status == 2
    assert fault in told.err
    assert len(told.err.splitlines()) == 1
