"""The command line's frame: statuses, one clear line for each failure, and quick help."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import analyzers
from analyzers.service import ANALYZER as SERVICE
from explainer.profiles import PROFILES
from kubewhy import __version__
from kubewhy.cli import main as frame
from kubewhy.cli import options
from kubewhy.cli.logs import JsonFormatter, TextFormatter
from kubewhy.cli.main import COMMANDS, cli, main
from kubewhy.durations import parse_duration
from kubewhy.errors import ConfigError
from kubewhy.kube import KINDS
from kubewhy.settings import Settings, load

JUDGED = [view.resource for view in KINDS if view.resource.kind in options.SHORT_NAMES]


def status(*args: str) -> int:
    with pytest.raises(SystemExit) as raised:
        main(args)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def python(*args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, check=False, **kwargs)


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = before, level


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Makes `kubewhy rules` raise what is put in the list."""
    raised: list[BaseException] = []

    @click.command()
    def fails() -> None:
        raise raised[0]

    monkeypatch.setattr(frame.Commands, "get_command", lambda self, context, name: fails)
    return raised


def test_help_lists_every_command_and_imports_none() -> None:
    told = python("-X", "importtime", "-m", "kubewhy", "--help")
    assert told.returncode == 0
    for name in ("rbac", "rules", "completion"):
        assert f"\n  {name} " in told.stdout
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"kubernetes", "pydantic", "rich", "msgspec", "analyzers", "yaml", "asyncio"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_the_module_of_its_name(name: str) -> None:
    context = click.Context(cli)
    if name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_version() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"kubewhy {__version__}\n"


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("ruls") == 2
    assert "no such command 'ruls'; did you mean rules?" in capsys.readouterr().err


def test_an_unknown_option_is_wrong_usage() -> None:
    assert status("rules", "--frobnicate") == 2


def test_what_the_user_gave_wrong_is_one_line(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(ConfigError("x.yaml: no such file; name another"))
    assert status("rules") == 1
    assert capsys.readouterr().err == "kubewhy: x.yaml: no such file; name another\n"


def test_what_a_cluster_says_in_an_error_never_steers_the_terminal(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(ConfigError("no such \x1b[31mthing\n\u202egniht"))
    assert status("rules") == 1
    assert capsys.readouterr().err == "kubewhy: no such \\x1b[31mthing\\n\\u202egniht\n"


def test_a_bug_is_one_line_that_says_so(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(ZeroDivisionError("secret"))
    assert status("rules") == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "ZeroDivisionError: this is a bug" in told
    assert "KUBEWHY_DEBUG=1" in told


def test_a_bug_shows_its_traceback_when_asked(failing: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    failing.append(ZeroDivisionError("here"))
    monkeypatch.setenv("KUBEWHY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["rules"])


def test_an_interrupt_is_quiet(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(KeyboardInterrupt())
    assert status("rules") == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    told = subprocess.run(
        [sys.executable, "-m", "kubewhy", "rules"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert told.stderr == ""
    assert told.returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_each_shell(shell: str) -> None:
    told = CliRunner().invoke(cli, ["completion", shell])
    assert told.exit_code == 0
    assert "_KUBEWHY_COMPLETE" in told.output
    assert f"{shell}_complete" in told.output


def test_completion_completes_commands_and_options() -> None:
    def complete(words: str, number: str) -> str:
        environment = {**os.environ, "_KUBEWHY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
        return python("-m", "kubewhy", env=environment).stdout

    assert "plain,rules" in complete("kubewhy ru", "1")
    assert "plain,--output" in complete("kubewhy rules --o", "2")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["po"], ("Pod",)),
        (["Pods,deploy"], ("Pod", "Deployment")),
        (["pod", "PO", "pods"], ("Pod",)),
        (["sts", "rs", "ds", "svc"], ("StatefulSet", "ReplicaSet", "DaemonSet", "Service")),
        (["pvc", "no", "cj", "job"], ("PersistentVolumeClaim", "Node", "CronJob", "Job")),
        (["deployments.apps"], ("Deployment",)),
        ([], ()),
    ],
)
def test_kinds_are_named_as_kubectl_names_them(words: list[str], found: tuple[str, ...]) -> None:
    known = [view.resource for view in KINDS if view.resource.kind != "Event"]
    assert options.kinds(words, known) == found


def test_an_unknown_kind_names_the_nearest_and_all() -> None:
    with pytest.raises(click.BadParameter, match=r"unknown kind 'podd'; did you mean pod\? \(known: CronJob, "):
        options.kinds(["podd"], JUDGED)


def test_the_kinds_that_may_be_named_are_those_that_are_judged() -> None:
    assert {resource.kind for resource in options.judged()} == {each.name for each in analyzers.enabled()}


@pytest.mark.parametrize(
    ("text", "labels", "fits"),
    [
        ("app=web", {"app": "web"}, True),
        ("app==web,tier!=db", {"app": "web"}, True),
        ("app=web,tier!=db", {"app": "web", "tier": "db"}, False),
        ("zone in (a, b),app", {"zone": "b", "app": ""}, True),
        ("zone notin (a,b)", {"zone": "a"}, False),
        ("!old", {"old": "1"}, False),
        ("example.com/name=x", {"example.com/name": "x"}, True),
        ("app=", {"app": ""}, True),
    ],
)
def test_a_selector_fits_as_in_kubectl(text: str, labels: dict[str, str], fits: bool) -> None:
    assert options.selector(text).matches(labels) is fits


@pytest.mark.parametrize("text", ["", "app=web,", "=web", "app in web", "app in ()x", "app=a b", "a/b/c", "-x=1"])
def test_what_is_no_selector_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no label selector"):
        options.selector(text)


@click.command()
@options.cluster_options
@options.scope_options
def scoped(**told: Any) -> None:
    click.echo(repr(told["namespaces"]))


@pytest.mark.parametrize("args", [["-n", "a", "-A"], ["-A", "-n", "a"]])
def test_a_namespace_and_all_of_them_is_wrong_usage(args: list[str]) -> None:
    told = CliRunner().invoke(scoped, args)
    assert told.exit_code == 2
    assert "not both" in told.output


@pytest.mark.parametrize("name", ["Shop", "a_b", "-a", "a" * 64, "a/b", ""])
def test_what_no_namespace_is_called_is_wrong_usage(name: str) -> None:
    assert CliRunner().invoke(scoped, ["-n", name]).exit_code == 2


def test_a_namespace_given_twice_counts_once() -> None:
    assert CliRunner().invoke(scoped, ["-n", "a", "-n", "b", "-n", "a"]).output == "('a', 'b')\n"


def record(text: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "kubewhy.x", "levelname": "WARNING", "msg": text, "created": 0.0})
    vars(made).update(extra)
    return made


def test_a_log_line_is_one_line_with_its_fields() -> None:
    told = TextFormatter().format(record("lost\nit \x1b[31m", kind="Pod", why="a b", count=3))
    assert told == '00:00:00 warning kubewhy.x: lost\\nit \\x1b[31m kind=Pod why="a b" count=3'


def test_a_json_log_line_has_its_fields() -> None:
    told = json.loads(JsonFormatter().format(record("lost", kind="Pod", message="other")))
    assert told == {
        "at": "1970-01-01T00:00:00+00:00",
        "level": "warning",
        "logger": "kubewhy.x",
        "message": "lost",
        "kind": "Pod",
    }


def test_verbose_and_log_format_set_logging_up() -> None:
    CliRunner().invoke(cli, ["-vv", "--log-format", "json", "rules"])
    root = logging.getLogger()
    assert root.level == logging.DEBUG
    assert isinstance(root.handlers[0].formatter, JsonFormatter)


def test_rules_lists_every_rule_with_its_documentation() -> None:
    told = json.loads(CliRunner().invoke(cli, ["rules", "-o", "json"]).output)
    assert {each["id"] for each in told} == {rule.id for each in analyzers.enabled() for rule in each.rules}
    assert all(each["docs"] for each in told)


def test_rules_of_one_kind_say_why_they_matter_and_what_to_look_at_and_all_rules_are_a_line_each() -> None:
    told = CliRunner().invoke(cli, ["rules", "svc"]).output.splitlines()
    rules = SERVICE.rules
    assert [line.strip() for line in told[2::3]] == [rule.why for rule in rules]
    assert [line.strip() for line in told[3::3]] == [rule.look for rule in rules]
    every = CliRunner().invoke(cli, ["rules"]).output
    assert sum(rule.id in line for line in every.splitlines() for rule in rules) == len(rules)
    assert not any(rule.why in every or rule.look in every for rule in rules)


def test_rules_of_one_kind_are_only_its_own() -> None:
    told = json.loads(CliRunner().invoke(cli, ["rules", "po", "-o", "json"]).output)
    assert {each["kind"] for each in told} == {"Pod"}


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "kubewhy.yaml"
    path.write_text(text)
    return path


def test_settings_have_defaults(tmp_path: Path) -> None:
    told = load(settings(tmp_path, ""))
    assert told.namespaces == ()
    assert [sink.type for sink in told.sinks] == ["stdout"]


def test_settings_are_read(tmp_path: Path) -> None:
    told = load(settings(tmp_path, "cluster: {id: c1, name: shop}\nnamespaces: [a]\nsinks: [{type: stdout}]\n"))
    assert told.cluster.id == "c1"
    assert told.namespaces == ("a",)


def test_patience_is_what_the_settings_say_and_else_what_the_profile_says(tmp_path: Path) -> None:
    told = load(settings(tmp_path, "incidents: {profile: mixin, repeat: 4h, holds: {node-not-ready: 1h30m}}"))
    assert told.incidents.repeat == timedelta(hours=4)
    assert told.incidents.holds == {"node-not-ready": timedelta(minutes=90)}
    assert told.incidents.keep_open is None


def test_without_settings_it_is_as_patient_as_the_fast_profile() -> None:
    assert Settings().incidents.profile == "fast"
    assert PROFILES["fast"].keep_open == timedelta(minutes=2)


def test_a_hold_for_a_rule_that_does_not_exist_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings(tmp_path, "incidents: {holds: {pod-crash-loop: 1m}}")
    assert status("run", "--config", str(path), "--from", str(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "incidents.holds: no rule pod-crash-loop; did you mean pod-crash-looping?" in told


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604800), ("1d1h1m1s", 90061), ("0s", 0)]
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1m1h", "-5m", "1.5h", "5 m", "9999999h", "٣m"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no length of time; write 90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clustr: {id: c1}", r"clustr: unknown key; did you mean cluster\? \(known here: cluster, collector, cont"),
        ("cluster: {nam: c1}", r"cluster.nam: unknown key; did you mean name\? \(known here: id, name\)"),
        ("cluster: c1", r"cluster: must hold keys and values \(id, name\)"),
        ("- a", "the file: must hold keys and values"),
        ("sinks: [{type: slak}]", r"sinks\[0\].type: there is no such type of sink; known: .*file, "),
        ("namespaces: 3", "namespaces: input should be a valid tuple"),
        ("incidents: {keep_open: 5}", "incidents.keep_open: 5 has no unit; write 90s, 15m, 1h30m or 7d"),
        ("incidents: {repeat: 4 hours}", "incidents.repeat: '4 hours' is no length of time; write 90s, "),
        ("incidents: {profile: slow}", "incidents.profile: input should be 'fast' or 'mixin'"),
        ("incidents: {keepopen: 5m}", "incidents.keepopen: unknown key; did you mean keep_open"),
        ("cluster: {id: [}", r"kubewhy.yaml:1:16: not YAML"),
    ],
)
def test_a_fault_in_the_settings_names_file_key_and_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        load(settings(tmp_path, text))
    assert "\n" not in str(raised.value)
    assert "kubewhy.yaml" in str(raised.value)


def test_settings_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings"):
        load(tmp_path / "none.yaml")
