"""The broken shop on real controllers, explained end to end by models that speak their vendors' formats."""

import asyncio
import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.testbed import broken_shop
from infra.testbed.control_plane import ControlPlane
from infra.testbed.scenarios import SHOP, read
from tests.live.audited import asked, audited, granted
from tests.live.command import BARE, Running, Said, Shell
from tests.models.bedrock import Bedrock
from tests.models.far import SECRET, Far, serving
from tests.models.openai import OpenAI
from tests.test_explaining import ANSWER

pytestmark = pytest.mark.live

TROUBLES = read(Path(broken_shop.__file__).with_suffix(".yaml"))
ROOTS = {
    "Deployment orders",
    "Deployment search",
    "Node edge-1",
    "ResourceQuota pricing",
    "Secret payment-gateway",
}
PRIVATE = ("payment-gateway", "checkout", "search-", "edge-1", "registry.example.com", SECRET)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited() as plane:
        SHOP.play(plane)
        for each in TROUBLES:
            each.play(plane)
        yield plane


def shell(plane: ControlPlane, folder: Path, environ: Mapping[str, str]) -> Shell:
    home = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache")}
    return Shell(Shell.of(plane, SECRET).secrets, {**BARE, **home, **environ})


def told(run: Running, transition: str) -> dict[str, dict[str, Any]]:
    """What was told so, by the root."""
    lines = (json.loads(line) for line in run.out.splitlines(keepends=True) if line.endswith("\n"))
    return {
        f"{each['incident']['root']['kind']} {each['incident']['root']['name']}": each
        for each in lines
        if each["transition"] == transition
    }


async def test_run_explains_the_broken_shop_by_bedrock(plane: ControlPlane, tmp_path: Path) -> None:
    vendor = Bedrock()
    async with serving(Far(vendor, json.dumps(ANSWER))) as far:
        config = tmp_path / "kubewhy.yaml"
        settings = vendor.settings(far.url).model_dump(mode="json", exclude_unset=True)
        config.write_text(yaml.safe_dump({"explain": {"backends": [settings]}}))
        args: list[str | Path] = ["run", "-o", "json", "--no-hold", "--kubeconfig", granted(plane), "--config", config]
        with shell(plane, tmp_path, vendor.environ()).begin(tmp_path, *args) as run:
            await asyncio.to_thread(run.until, lambda: told(run, "explained").keys() >= ROOTS, 90)
            explained, opened = told(run, "explained"), told(run, "opened")
            ended = await asyncio.to_thread(run.end, signal.SIGTERM)
    assert ended.err == ""
    for root in ROOTS:
        finding = explained[root]
        assert finding["incident"]["id"] == opened[root]["incident"]["id"]
        assert finding["explanation"]["cause"] == ANSWER["cause"]
        assert finding["explanation"]["backend"] == "bedrock"
        assert finding["explanation"]["verify"] == ["kubectl describe pod a -n shop"]
    assert not [word for each in far.asked for word in PRIVATE if word in each.body.decode()]


async def test_analyze_explains_the_broken_shop_by_openai(plane: ControlPlane, tmp_path: Path) -> None:
    vendor = OpenAI()
    async with serving(Far(vendor, json.dumps(ANSWER))) as far:
        where = shell(plane, tmp_path, {"MODEL_KEY": SECRET})

        async def kubewhy(*args: str | Path) -> Said:
            return await asyncio.to_thread(where.run, *args)

        added = await kubewhy(
            "backends", "add", "openai", "--model", "m", "--url", f"{far.url}/v1", "--key-env", "MODEL_KEY"
        )
        assert added.status == 0
        config = granted(plane)
        said = await kubewhy("analyze", "--explain", "--no-hold", "-o", "json", "--kubeconfig", config)
        one = await kubewhy("explain", "secret/payment-gateway", "--no-hold", "--kubeconfig", config)
    assert (said.status, said.err, one.status) == (0, "", 0)
    incidents = json.loads(said.out)["incidents"]
    assert {f"{each['root']['kind']} {each['root']['name']}" for each in incidents} >= ROOTS
    assert [each["explanation"]["cause"] for each in incidents] == [ANSWER["cause"]] * len(incidents)
    assert "Secret checkout/payment-gateway" in one.out
    assert f"1. {ANSWER['fix'][0]}" in one.out
    assert not [word for each in far.asked for word in PRIVATE if word in each.body.decode()]


def crashing(name: str) -> dict[str, Any]:
    """A pod whose container ends soon, after some words."""
    said = f"{name} starts\nfatal: no pool for db.{name}.svc: password=hunter2platypus"
    marks = {"labels": {"kubewhy.dev/play": "crash"}, "annotations": {"kubewhy.dev/log": said}}
    container = {"name": "app", "image": "registry.example.com/app:1"}
    meta = {"name": name, "namespace": "default", **marks}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def asked_for_logs(plane: ControlPlane) -> list[dict[str, Any]]:
    return [each for each in asked(plane) if each.get("objectRef", {}).get("subresource") == "log"]


async def test_the_last_line_of_a_crashing_container_is_told_where_it_may_be_read(
    plane: ControlPlane, tmp_path: Path
) -> None:
    assert not asked_for_logs(plane)  # of all that was done so far, without --logs
    vendor = OpenAI()
    async with serving(Far(vendor, json.dumps(ANSWER))) as far:
        backend = {"type": "openai", "model": "m", "url": f"{far.url}/v1", "key": {"env": "MODEL_KEY"}}
        config = tmp_path / "kubewhy.yaml"
        config.write_text(yaml.safe_dump({"explain": {"backends": [backend]}, "namespaces": ["default"]}))
        options = ("run", "-o", "json", "--no-hold", "--config", config, "--logs", "--kubeconfig")
        where = shell(plane, tmp_path, {"MODEL_KEY": SECRET})
        plane.api.apply(crashing("refused"))
        with where.begin(tmp_path, *options, granted(plane)) as run:
            await asyncio.to_thread(run.until, lambda: "Pod refused" in told(run, "explained"), 60)
            refused = await asyncio.to_thread(run.end, signal.SIGTERM)
        assert "pods/log" in refused.line
        assert "grant what `kubewhy rbac --logs` prints" in refused.line
        plane.api.apply(crashing("granted"))
        with where.begin(tmp_path, *options, granted(plane, "--logs")) as run:
            await asyncio.to_thread(run.until, lambda: "Pod granted" in told(run, "explained"), 60)
            finding = told(run, "explained")["Pod granted"]
            ended = await asyncio.to_thread(run.end, signal.SIGTERM)
    seen = [line for each in finding["incident"]["evidence"] for line in each["lines"]]
    assert "log of container app: fatal: no pool for db.granted.svc: password=[redacted]" in seen
    assert ended.err == ""
    assert "hunter2" not in ended.out + "".join(each.body.decode() for each in far.asked)
    assert {each["verb"] for each in asked_for_logs(plane)} == {"get"}
