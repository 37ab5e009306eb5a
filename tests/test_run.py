"""`kubewhy run` and `kubewhy record` as programs: what they print, what they take, and how they end."""

import asyncio
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from kubewhy.kube.core import PersistentVolumeClaim
from kubewhy.plain import clean
from tests.api_server import CLUSTER, ApiServer, api_server
from tests.test_recorded import lines

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "broken-shop.kwrec"
SCHEMA = json.loads((ROOT / "docs" / "reference" / "schemas" / "finding.json").read_text())


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def findings(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


async def start(*args: str | Path, seed: str = "random") -> asyncio.subprocess.Process:
    environ = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    environ |= {"HOME": "/nowhere", "PYTHONHASHSEED": seed}
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "kubewhy", *map(str, args)]
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ, limit=2**20)


async def kubewhy(*args: str | Path, seed: str = "random") -> Ended:
    process = await start(*args, seed=seed)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def replayed(*args: str, seed: str = "random") -> Ended:
    told = await kubewhy("run", "--from", EXAMPLE, *args, seed=seed)
    assert (told.status, told.err) == (0, "")
    return told


async def test_elsewhere_than_on_a_terminal_each_line_is_a_finding() -> None:
    findings = (await replayed()).findings
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for finding in findings:
        validator.validate(finding)
    assert findings[0]["transition"] == "opened"
    assert {finding["incident"]["cluster_name"] for finding in findings} == {"testbed"}
    times = [finding["at"] for finding in findings]
    assert times == sorted(times)


async def test_two_runs_tell_the_same_and_no_id_comes_twice() -> None:
    first, second = await replayed(seed="1"), await replayed(seed="2")
    assert first.out == second.out
    ids = [finding["id"] for finding in first.findings]
    assert len(set(ids)) == len(ids)


async def test_text_says_of_each_finding_what_json_says() -> None:
    text, findings = (await replayed("-o", "text")).out, (await replayed("-o", "json")).findings
    assert "\x1b" not in text
    heads = [line for line in text.splitlines() if not line.startswith(" ")]
    for head, finding in zip(heads, findings, strict=True):
        assert head.startswith(finding["at"][11:19])
        assert finding["transition"].upper() in head
        assert clean(finding["incident"]["title"]) in head


async def test_on_a_terminal_people_get_text() -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "kubewhy", "run", "--from", str(EXAMPLE)]
    process = await asyncio.create_subprocess_exec(*command, stdout=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = await asyncio.to_thread(os.read, ours, 1000)
    os.close(ours)  # as if the window were closed
    async with asyncio.timeout(60):
        await process.wait()
    assert b"OPENED" in shown
    assert b"\x1b[" in shown


def failures(told: Ended) -> set[tuple[str, str, str]]:
    return {
        (failure["object"]["kind"], failure["object"]["namespace"] or "", failure["rule"])
        for finding in told.findings
        for failure in finding["incident"]["failures"]
    }


async def test_without_holds_more_is_told(tmp_path: Path) -> None:
    nothing_kept = tmp_path / "kubewhy.yaml"
    nothing_kept.write_text("incidents: {keep_open: 0s}")
    held, all_of_it = await replayed("--config", str(nothing_kept)), await replayed("--no-hold")
    assert failures(held) < failures(all_of_it)


async def test_only_the_kinds_and_namespaces_asked_for_are_told() -> None:
    every = failures(await replayed("--no-hold"))
    pods = failures(await replayed("--no-hold", "-f", "po,deploy", "-f", "svc"))
    assert {kind for kind, _, _ in pods} == {"Pod", "Deployment", "Service"}
    space = next(namespace for kind, namespace, _ in sorted(every) if kind == "Pod")
    told = failures(await replayed("--no-hold", "-n", space))
    assert space in {namespace for _, namespace, _ in told} <= {space, ""}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-o", "yaml"], "'yaml' is not one of"),
        (["--until-idle", "0"], "--until-idle"),
        (["--until-idle", "soon"], "--until-idle"),
        (["-n", "a", "-A"], "not both"),
        (["-n", "No_Name"], "no name of a namespace"),
        (["-f", "podd"], "did you mean pod?"),
        (["--from"], "--from"),
        (["more"], "unexpected extra argument"),
    ],
)
async def test_wrong_usage_is_one_line(args: list[str], said: str) -> None:
    told = await kubewhy("run", *args)
    assert (told.status, told.out, told.err.count("\n")) == (2, "", 1)
    assert said in told.err


async def test_a_recording_that_is_not_there_is_one_line() -> None:
    told = await kubewhy("run", "--from", "none.kwrec")
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert "none.kwrec: cannot read the recording" in told.err


async def lose(server: ApiServer, *names: str) -> None:
    for name in names:
        await server.put(PersistentVolumeClaim, name, spec={"volumeName": f"pv-{name}"}, status={"phase": "Lost"})


def broken(told: Ended) -> list[str]:
    return [finding["incident"]["members"][0]["name"] for finding in told.findings]


async def test_a_cluster_is_watched_until_nothing_happens(tmp_path: Path) -> None:
    async with api_server() as server:
        await lose(server, "data")
        told = await kubewhy("run", "--kubeconfig", server.kubeconfig(tmp_path), "--until-idle", "1")
    assert (told.status, told.err) == (0, "")
    assert broken(told) == ["data"]
    assert told.findings[0]["incident"]["cluster"] == CLUSTER


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_what_changes_is_told_as_it_comes_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    async with api_server() as server:
        process = await start("run", "-o", "text", "--no-hold", "--kubeconfig", server.kubeconfig(tmp_path))
        assert process.stdout
        assert process.stderr
        async with asyncio.timeout(60):
            assert f"watching shop ({server.url})" in (await process.stderr.readline()).decode()
            for happens, change in (
                ("OPENED", lose(server, "data")),
                ("RESOLVED", server.remove(PersistentVolumeClaim, "data")),
            ):
                await change
                line = b""
                while happens.encode() not in line:
                    line = await process.stdout.readline()
                    assert line, "it ended too soon"
            process.send_signal(number)
            assert await process.wait() == 0
            assert await process.stderr.read() == b""


async def record(server: ApiServer, folder: Path, file: Path, *args: str) -> Ended:
    return await kubewhy("record", "--kubeconfig", server.kubeconfig(folder), *args, file)


async def test_what_was_recorded_is_analyzed_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "now.kwrec"
    async with api_server() as server:
        await lose(server, "data", "logs")
        told = await record(server, tmp_path, file, "--for", "0")
    assert (told.status, told.out) == (0, "")
    assert told.err == f"recording shop ({server.url}) to {file}; for 0 s\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(lines(file)[-1])["at"]
    analyzed = json.loads((await kubewhy("analyze", "--from", file, "-o", "json")).out)
    assert analyzed["cluster"] == {"id": CLUSTER, "name": "shop"}
    assert [each["name"] for each in analyzed["diagnoses"]] == ["data", "logs"]
    assert broken(await kubewhy("run", "--from", file)) == ["data", "logs"]


async def test_a_recording_lasts_until_a_signal(tmp_path: Path) -> None:
    file = tmp_path / "shop.kwrec"
    async with api_server() as server:
        process = await start("record", "--kubeconfig", server.kubeconfig(tmp_path), file)
        assert process.stderr
        async with asyncio.timeout(60):
            assert b"Ctrl-C ends it" in await process.stderr.readline()
            await lose(server, "data")
            size = file.stat().st_size
            while file.stat().st_size == size:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    told = await kubewhy("run", "--from", file)
    assert (told.status, told.err) == (0, "")
    assert broken(told) == ["data"]


async def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("mine")
    async with api_server() as server:
        told = await record(server, tmp_path, file, "--for", "0")
        assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
        assert "there is a file already" in told.err
        assert file.read_text() == "mine"
        assert (await record(server, tmp_path, file, "--for", "0", "--overwrite")).status == 0
    assert (await kubewhy("analyze", "--from", file)).status == 0


async def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    async with api_server() as server:
        told = await record(server, tmp_path, tmp_path / "none" / "x.kwrec", "--for", "0")
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert "No such file or directory" in told.err


async def test_people_who_want_digests_read_of_a_storm_in_few_lines(tmp_path: Path) -> None:
    config, file = tmp_path / "kubewhy.yaml", tmp_path / "shop.kwrec"
    config.write_text("cluster: {id: prod}\nsinks: [{type: stdout, digest: true}]")
    async with api_server() as server:
        await lose(server, *(f"data-{number}" for number in range(50)))
        seen: list[str | Path] = ["--kubeconfig", server.kubeconfig(tmp_path), "--until-idle", "1"]
        run: list[str | Path] = ["run", "--config", config, "-o", "text"]
        watched = await kubewhy(*run, *seen, "--state", tmp_path / "state")
        restarted = await kubewhy(*run, *seen, "--state", tmp_path / "state")
        assert (await record(server, tmp_path, file, "--for", "1")).status == 0
    replayed = await kubewhy(*run, "--from", file)
    for told in watched, replayed:
        assert told.status == 0
        heads = [line for line in told.out.splitlines() if "OPENED" in line or "UPDATED" in line]
        assert len(heads) == 20 + 2
        assert "OPENED    CRITICAL  21 new incidents in cluster " in heads[-2]
        assert "UPDATED   CRITICAL  50 new incidents in cluster " in heads[-1]
        assert "20 are told one by one, 30 in this digest: 30 critical still open" in told.out
    assert restarted.out == ""
