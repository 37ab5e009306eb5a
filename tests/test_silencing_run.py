"""`kubewhy run` heeds silences that somebody adds meanwhile, and routes of its settings."""

import asyncio
import json
from pathlib import Path

from tests.api_server import ApiServer, api_server
from tests.test_run import kubewhy, lose, start


async def lines(process: asyncio.subprocess.Process, happens: str) -> dict[str, object]:
    """The next finding of that transition."""
    assert process.stdout
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            finding: dict[str, object] = json.loads(line)
            if finding["transition"] == happens:
                return finding
    raise AssertionError("it ended too soon")


async def running(server: ApiServer, folder: Path, *args: str | Path) -> asyncio.subprocess.Process:
    return await start("run", "-o", "json", "--kubeconfig", server.kubeconfig(folder), *args)


async def test_a_silence_that_is_added_meanwhile_ends_what_is_told(tmp_path: Path) -> None:
    state = tmp_path / "kubewhy.state"
    async with api_server() as server:
        await lose(server, "data")
        process = await running(server, tmp_path, "--state", state)
        await lines(process, "opened")
        added = await kubewhy("silence", "add", "kind=PersistentVolumeClaim", "--for", "1h", "--state", state)
        assert added.status == 0, added.err
        resolved = await lines(process, "resolved")
        assert resolved["incident"]["resolution"] == "silenced"  # type: ignore[index]
        process.terminate()
        assert await process.wait() == 0
        listed = await kubewhy("silence", "list", "--state", state)
        assert "PersistentVolumeClaim" in listed.out


async def test_what_no_route_leads_to_is_not_told(tmp_path: Path) -> None:
    config = tmp_path / "kubewhy.yaml"
    config.write_text("routes: [{matchers: ['namespace=\"bank\"'], sinks: [stdout]}]\n")
    async with api_server() as server:
        await lose(server, "data")
        arguments = ("--kubeconfig", server.kubeconfig(tmp_path), "--until-idle", "1", "--config", config)
        assert (await kubewhy("run", *arguments)).findings == []
        config.write_text("routes: [{matchers: ['namespace=\"shop\"'], sinks: [stdout]}]\n")
        assert [each["transition"] for each in (await kubewhy("run", *arguments)).findings] == ["opened"]
