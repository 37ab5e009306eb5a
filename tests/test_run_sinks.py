"""`kubewhy run` as a program, with several sinks."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from kubewhy.runtime.outbox import OUTBOX
from kubewhy.runtime.state import SqliteState
from tests.api_server import api_server
from tests.test_run import EXAMPLE, kubewhy, lose, start


def configured(folder: Path, *sinks: str) -> Path:
    path = folder / "kubewhy.yaml"
    path.write_text(f"sinks: [{', '.join(('{type: stdout}', *sinks))}]")
    return path


def file(path: Path, name: str = "kept") -> str:
    return f"{{type: file, name: {name}, path: {path}}}"


async def test_each_sink_gets_the_same_of_a_recording(tmp_path: Path) -> None:
    config = configured(tmp_path, file(tmp_path / "kept"))
    told = await kubewhy("run", "--from", EXAMPLE, "--config", config, "-o", "json")
    assert (told.status, told.err) == (0, "")
    assert told.out == (tmp_path / "kept").read_text()
    assert told.findings


async def test_a_sink_that_does_not_work_keeps_nobody_from_hearing_and_is_said_once(tmp_path: Path) -> None:
    config = configured(tmp_path, file(tmp_path / "none" / "kept"))
    told = await kubewhy("run", "--from", EXAMPLE, "--config", config, "-o", "json")
    alone = await kubewhy("run", "--from", EXAMPLE, "-o", "json")
    assert (told.status, told.out) == (0, alone.out)
    begins, ends = told.err.splitlines()
    assert "sink kept: " in begins
    assert "cannot be written (No such file or directory); mend that, or name another file" in begins
    assert (
        f"not all could be delivered before the end delivered=0 failed=1 dead=0 waiting={len(alone.findings)}" in ends
    )


async def test_what_a_sink_has_missed_it_gets_after_a_restart(tmp_path: Path) -> None:
    folder, state = tmp_path / "later", tmp_path / "state"
    config = configured(tmp_path, file(folder / "kept"))
    async with api_server() as server:
        await lose(server, "data")
        args: list[str | Path] = [
            "run",
            "--kubeconfig",
            server.kubeconfig(tmp_path),
            "--config",
            config,
            "--state",
            state,
        ]
        first = await kubewhy(*args, "--until-idle", "0.5")
        folder.mkdir()
        second = await kubewhy(*args, "--until-idle", "0.5")
    assert [each["transition"] for each in first.findings] == ["opened"]
    assert second.out == ""
    assert (folder / "kept").read_text() == first.out


async def test_when_it_is_stopped_what_waits_stays_in_the_state(tmp_path: Path) -> None:
    state, config = tmp_path / "state", configured(tmp_path, file(tmp_path / "none" / "kept"))
    async with api_server() as server:
        await lose(server, "data")
        args: list[str | Path] = [
            "--kubeconfig",
            server.kubeconfig(tmp_path),
            "--config",
            config,
            "--state",
            state,
            "--no-hold",
        ]
        process = await start("run", *args)
        assert process.stdout
        async with asyncio.timeout(60):
            await process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
    assert process.returncode == 0
    assert b"waiting=1" in err.splitlines()[-1]
    kept = SqliteState(state)
    assert [key.split("\x1f")[1] for key, _ in kept.scan(OUTBOX)] == ["kept"]
    kept.close()


async def test_whoever_reads_one_line_only_ends_it_and_the_other_sinks_get_what_there_was(tmp_path: Path) -> None:
    config = configured(tmp_path, file(tmp_path / "kept"))
    command = f"{sys.executable} -m kubewhy run --from {EXAMPLE} --config {config} -o json | head -1"
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (out.count(b"\n"), err) == (1, b"")
    kept = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
    assert json.loads(out) in kept


async def test_two_sinks_may_write_to_standard_output(tmp_path: Path) -> None:
    config = configured(tmp_path, "{type: stdout, name: again}")
    twice = await kubewhy("run", "--from", EXAMPLE, "--config", config, "-o", "json")
    once = await kubewhy("run", "--from", EXAMPLE, "-o", "json")
    assert sorted(twice.out.splitlines()) == sorted(once.out.splitlines() * 2)


async def test_a_sort_of_sink_that_there_is_not_is_one_line_with_those_there_are(tmp_path: Path) -> None:
    config = configured(tmp_path, "{type: files, path: x}")
    told = await kubewhy("run", "--from", EXAMPLE, "--config", config)
    assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert "sinks[1].type: there is no such type of sink; known: " in told.err
