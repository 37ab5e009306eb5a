"""The broken shop on real controllers: explained by models of their vendors' formats, and told wherever people are."""

import asyncio
import gzip
import json
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.testbed import broken_shop
from infra.testbed.alertmanager import alertmanager
from infra.testbed.control_plane import ControlPlane
from infra.testbed.scenarios import SHOP, read
from tests.live.audited import asked, audited, granted
from tests.live.command import BARE, Running, Said, Shell
from tests.models.bedrock import Bedrock
from tests.models.far import SECRET, Far, serving
from tests.models.openai import OpenAI
from tests.services import moto
from tests.services.moto import Store, standing
from tests.services.pagers import KEY, Opsgenie, PagerDuty, paging
from tests.services.receiver import receiving
from tests.services.slack import CHANNEL, HOOK, TOKEN, Workspace
from tests.services.v4 import V4
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


async def test_run_delivers_the_broken_shop_to_all_sinks_at_once(plane: ControlPlane, tmp_path: Path) -> None:
    """Until they show all of it explained, and of what somebody mends that it is over."""
    workspace, store, told_by_file = Workspace(), Store.made(standing()), tmp_path / "findings.jsonl"
    workspace.now = time.time()
    async with (
        serving(workspace),
        serving(Far(OpenAI(), json.dumps(ANSWER))) as far,
        receiving() as hook,
        receiving() as events,
        receiving() as theirs,
        paging(PagerDuty()) as pager,
        paging(Opsgenie()) as genie,
    ):
        with alertmanager(tmp_path, theirs.url) as alerts:
            config = tmp_path / "kubewhy.yaml"
            sinks = [
                {"type": "stdout"},
                {"type": "slack", "channel": CHANNEL, "url": f"{workspace.url}/api/"},
                {"type": "slack-webhook", "digest": False},
                {"type": "s3", **store.settings().model_dump(mode="json", exclude_unset=True)},
                {"type": "webhook", "url": hook.url},
                {"type": "webhook", "name": "events", "url": events.url, "format": "cloudevents"},
                {"type": "alertmanager", "urls": [alerts]},
                {"type": "pagerduty", "routing_key": {"env": "PAGER_KEY"}, "url": pager.url},
                {"type": "opsgenie", "api_key": {"env": "PAGER_KEY"}, "url": genie.url},
                {"type": "file", "path": str(told_by_file)},
            ]
            model = {"type": "openai", "model": "m", "url": f"{far.url}/v1", "key": {"env": "MODEL_KEY"}}
            config.write_text(yaml.safe_dump({"sinks": sinks, "explain": {"backends": [model]}}))
            environ = {
                **moto.KEYS,
                "AWS_EC2_METADATA_DISABLED": "true",
                "MODEL_KEY": SECRET,
                "PAGER_KEY": KEY,
                "SLACK_BOT_TOKEN": TOKEN,
                "SLACK_WEBHOOK_URL": workspace.url + HOOK,
            }
            args: list[str | Path] = ["run", "-o", "json", "--no-hold", "--kubeconfig", granted(plane)]
            args += ["--config", config, "--state", tmp_path / "state"]
            with shell(plane, tmp_path, environ).begin(tmp_path, *args) as run:
                await asyncio.to_thread(run.until, lambda: told(run, "explained").keys() >= ROOTS, 120)
                await asyncio.to_thread(run.until, lambda: explained(workspace) >= ROOTS, 60)
                mended = told(run, "opened")["Secret payment-gateway"]["incident"]["id"]
                assert mended in pager.open
                assert mended in genie.open
                secret = {
                    "metadata": {"name": "payment-gateway", "namespace": "checkout"},
                    "stringData": {"KEY": "none"},
                }
                plane.api.create({"apiVersion": "v1", "kind": "Secret", **secret})
                over = "Secret checkout/payment-gateway"
                await asyncio.to_thread(run.until, lambda: over in said(workspace, "\u2705"), 60)
                await asyncio.to_thread(run.until, lambda: mended in pager.over and mended in genie.over, 30)
                ended = await asyncio.to_thread(run.end, signal.SIGTERM)
    assert (ended.status, ended.err) == (0, "")
    findings = [json.loads(line) for line in told_by_file.read_text().splitlines()]
    assert findings == [json.loads(line) for line in ended.out.splitlines()]
    incidents = {each["incident"]["id"] for each in findings}
    assert len(workspace.channel.roots) == len(incidents)
    assert workspace.unfit == []
    assert {each.headers["ce-id"] if "ce-id" in each.headers else each.json["id"] for each in events.taken} == {
        each["id"] for each in findings
    }
    posted = [V4.model_validate(each.json) for each in hook.taken]
    assert {each.status for each in posted} == {"firing", "resolved"}
    assert mended in {
        alert.labels.get("incident") for each in theirs.taken for alert in V4.model_validate(each.json).alerts
    }
    archived = [json.loads(line) for body in bodies(store) for line in gzip.decompress(body).splitlines()]
    assert sorted(each["id"] for each in archived) == sorted(each["id"] for each in findings)


def explained(workspace: Workspace) -> set[str]:
    """Roots whose messages in the channel tell a model's cause."""
    told = [json.dumps(each.said) for each in workspace.channel.roots]
    return {root for root in ROOTS for each in told if root.split()[1] in each and str(ANSWER["cause"]) in each}


def said(workspace: Workspace, mark: str) -> str:
    """The headers with that mark."""
    return " ".join(each.header for each in workspace.channel.roots if mark in each.header)


def bodies(store: Store) -> list[bytes]:
    return [body for name, body in store.objects().items() if name.endswith(".gz")]
