"""`kubewhy sinks`: what it lists, tries and shows."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubewhy.cli.main import cli, main
from kubewhy.runtime.outbox import DEAD, OUTBOX
from kubewhy.runtime.state import SqliteState
from tests.test_run import EXAMPLE


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "kubewhy.yaml"
    path.write_text(
        f"""
        sinks:
          - {{type: stdout}}
          - {{type: file, name: kept, path: {tmp_path}/kept.jsonl, silenced: true}}
          - {{type: file, name: gone, path: {tmp_path}/none/kept.jsonl}}
        routes:
          - {{matchers: [kind=Pod], sinks: [stdout]}}
          - {{matchers: [kind=Node], sinks: [stdout]}}
        """
    )
    return path


def shell(*args: str | Path) -> str:
    told = CliRunner().invoke(cli, [*map(str, args)], catch_exceptions=False)
    assert told.exit_code == 0
    return told.output


def refused(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, args)])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_without_settings_there_is_standard_output() -> None:
    assert shell("sinks", "list").split() == ["NAME", "TYPE", "GETS", "stdout", "stdout", "everything"]


def test_it_lists_what_each_gets(config: Path) -> None:
    told = json.loads(shell("sinks", "list", "--config", config, "-o", "json"))
    assert [each["gets"] for each in told] == ["2 routes", "everything, also what is silenced", "everything"]
    text = shell("sinks", "list", "--config", config)
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [
        ["stdout", "stdout"],
        ["kept", "file"],
        ["gone", "file"],
    ]


def test_it_lists_what_waits(config: Path, tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "state")
    state.write({f"{OUTBOX}kept\x1f{number:016x}": b"" for number in range(3)} | {f"{DEAD}gone\x1f1": b""})
    state.close()
    args = ["sinks", "list", "--config", str(config), "--state", str(tmp_path / "state"), "-o", "json"]
    told = json.loads(shell(*args))
    assert [(each["waiting"], each["refused"]) for each in told] == [(0, 0), (3, 0), (0, 1)]


def test_a_state_that_is_not_there_is_not_made(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "sinks", "list", "--state", tmp_path / "none")
    assert "none: no such file; name the state of `kubewhy run --state`" in said
    assert not (tmp_path / "none").exists()


def test_one_that_works_is_told_of_an_incident_that_never_was(config: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert shell("sinks", "test", "kept", "--config", config).startswith("kept: it works (")
    findings = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [each["transition"] for each in findings] == ["opened", "explained", "resolved"] * 2
    assert all(each["incident"]["title"].startswith("A test: ") for each in findings)
    assert len({each["incident"]["id"] for each in findings}) == 2


def test_one_that_does_not_work_says_why_in_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "sinks", "test", "gone", "--config", config)
    assert "kubewhy: sink gone: " in said
    assert "No such file or directory" in said


@pytest.mark.parametrize("does", ["test", "preview"])
def test_one_that_is_not_there_is_told_with_the_nearest(
    config: Path, capsys: pytest.CaptureFixture[str], does: str
) -> None:
    said = refused(capsys, "sinks", does, "keep", "--config", config)
    assert "there is no sink keep; did you mean kept? (sinks: stdout, kept, gone)" in said


def test_a_preview_shows_and_sends_nothing(config: Path, tmp_path: Path) -> None:
    told = [json.loads(line) for line in shell("sinks", "preview", "kept", "--config", config).splitlines()]
    assert [each["transition"] for each in told] == ["opened", "explained", "resolved"]
    assert not (tmp_path / "kept.jsonl").exists()


def test_a_preview_of_a_recording_shows_what_its_routes_let_through(config: Path, tmp_path: Path) -> None:
    def shown(name: str) -> list[str]:
        lines = shell("sinks", "preview", name, "--config", config, "--from", EXAMPLE).splitlines()
        return [json.loads(line)["id"] for line in lines]

    every, routed = shown("kept"), shown("stdout")
    assert set(routed) < set(every)


def test_a_shell_completes_names(config: Path) -> None:
    environ = {
        "_KUBEWHY_COMPLETE": "bash_complete",
        "COMP_WORDS": f"kubewhy sinks test --config {config} k",
        "COMP_CWORD": "5",
    }
    told = CliRunner().invoke(cli, [], prog_name="kubewhy", env=environ)
    assert told.output.split() == ["plain,kept"]
