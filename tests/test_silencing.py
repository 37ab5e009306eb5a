"""Silences as people add them, and as what runs hears of them."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec import Raw

from explainer.incidents import Incidents
from explainer.matchers import parse
from kubewhy.cli.main import cli, main
from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.kube.core import Pod
from kubewhy.records import Attached, Evidence, Failure, Ref, Severity, Silence, SilenceChange, Tick, Version, encode
from kubewhy.related import Related
from kubewhy.runtime.embedded import INCIDENTS, Pipeline, restore
from kubewhy.runtime.routing import ROUTED, Router
from kubewhy.runtime.silencing import (
    KEPT,
    SILENCE,
    add,
    already_seen,
    expire,
    kept,
    of_settings,
    silence_changes,
)
from kubewhy.runtime.state import MemoryState, SqliteState
from kubewhy.settings import Settings
from tests.test_incidents import broken
from tests.test_silences import Muted

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHOP = parse("namespace=shop")


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


def test_what_is_added_is_kept_until_it_ends(state: MemoryState) -> None:
    later = add(state, parse("name=~a.*,kind!=Pod"), NOW, NOW + 2 * HOUR, author="ann", comment="known")
    sooner = add(state, SHOP, NOW, NOW + HOUR)
    assert kept(state, NOW) == [sooner, later]
    assert later.matchers == ('name=~"a.*"', 'kind!="Pod"')
    assert kept(state, NOW + HOUR) == [later]


def test_what_is_taken_back_ends_at_once_and_only_once(state: MemoryState) -> None:
    silence = add(state, SHOP, NOW, NOW + HOUR)
    assert expire(state, silence.id, NOW) == silence
    assert kept(state, NOW) == []
    with pytest.raises(ConfigError, match=f"there is no silence {silence.id}; "):
        expire(state, silence.id, NOW)


def test_what_has_ended_by_itself_cannot_be_taken_back(state: MemoryState) -> None:
    silence = add(state, SHOP, NOW, NOW + HOUR)
    with pytest.raises(ConfigError, match=f"there is no silence {silence.id} any more; "):
        expire(state, silence.id, NOW + HOUR)


def test_a_wrong_id_is_told_with_the_nearest(state: MemoryState) -> None:
    silence = add(state, SHOP, NOW, NOW + HOUR)
    with pytest.raises(ConfigError, match=f"did you mean {silence.id}?"):
        expire(state, silence.id[:-1] + "x", NOW)
    with pytest.raises(ConfigError, match="`kubewhy silence list` lists those there are"):
        expire(state, "zzz", NOW)
    with pytest.raises(ConfigError, match="stands in the settings"):
        expire(state, "settings-1234", NOW)


@pytest.mark.parametrize(
    ("matchers", "ends", "starts", "told"),
    [
        ("name=~.*", HOUR, None, "these matchers match everything"),
        ("", HOUR, None, "these matchers match everything"),
        ("name=a", -HOUR, None, "2026-03-01T11:00:00Z is in the past; name a later end"),
        ("name=a", timedelta(0), None, "is in the past"),
        ("name=a", HOUR, 2 * HOUR, "it ends at 2026-03-01T13:00:00Z, before it begins; name a later end"),
    ],
)
def test_a_silence_that_makes_no_sense_is_not_kept(
    state: MemoryState, matchers: str, ends: timedelta, starts: timedelta | None, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        add(state, parse(matchers), NOW, NOW + ends, starts_at=NOW + starts if starts else None)
    assert list(state.scan()) == []


def test_what_ended_long_ago_is_forgotten(state: MemoryState) -> None:
    add(state, SHOP, NOW, NOW + HOUR)
    other = add(state, SHOP, NOW + HOUR + KEPT, NOW + 2 * HOUR + KEPT)
    assert [key for key, _ in state.scan()] == [SILENCE + other.id]


def test_each_change_is_heard_of_once(state: MemoryState) -> None:
    seen: dict[str, bytes] = {}
    assert silence_changes(state, seen) == []
    silence = add(state, SHOP, NOW, NOW + HOUR)
    assert silence_changes(state, seen) == [SilenceChange(id=silence.id, silence=silence)]
    assert silence_changes(state, seen) == []
    expire(state, silence.id, NOW)
    assert silence_changes(state, seen) == [SilenceChange(id=silence.id)]
    assert silence_changes(state, seen) == []


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"no json",
        b'{"id":"s1"}',
        b'{"id":"s1","matchers":["name=a"],"ends_at":"2026-03-01T12:00:00Z","newer":1}',
        encode(Silence(id="s1", matchers=("nme=a",), ends_at=NOW)),
        encode(Silence(id="s2", matchers=("name=a",), ends_at=NOW)),
    ],
)
def test_a_row_that_is_none_is_said_once_and_the_others_count(
    state: MemoryState, caplog: pytest.LogCaptureFixture, row: bytes
) -> None:
    silence = add(state, SHOP, NOW, NOW + HOUR)
    state.write({SILENCE + "s1": row})
    seen: dict[str, bytes] = {}
    with caplog.at_level(logging.WARNING):
        changes = [change for _ in range(3) for change in silence_changes(state, seen)]
    assert changes == [SilenceChange(id=silence.id, silence=silence)]
    assert [record.getMessage() for record in caplog.records] == [
        "silence s1 is of another version, or damaged; it silences nothing: add it again"
    ]


def settings(*silences: dict[str, Any]) -> Settings:
    return Settings.model_validate({"silences": [{"until": "2027-01-01T00:00:00Z", **each} for each in silences]})


def test_the_silences_of_the_settings_last_as_long_as_they_stand_there(state: MemoryState) -> None:
    told = of_settings(settings({"matchers": ["namespace=shop"], "comment": "old"}, {"matchers": ["kind=Job,name=a"]}))
    assert [each.matchers for each in told] == [('namespace="shop"',), ('kind="Job"', 'name="a"')]
    stage, seen = Incidents(), dict[str, bytes]()
    for change in silence_changes(state, seen, told):
        list(stage.feed(change, NOW))
    assert {each.comment for each in stage.silences()} == {"old", ""}
    # After a restart one of them stands there no more.
    seen = already_seen(stage.silences())
    assert silence_changes(state, seen, told[1:]) == [SilenceChange(id=told[0].id)]
    assert silence_changes(None, seen, told[1:]) == []


def test_after_a_restart_only_what_is_new_is_heard_of(state: MemoryState) -> None:
    first = add(state, SHOP, NOW, NOW + HOUR)
    stage = Incidents()
    list(stage.feed(SilenceChange(id=first.id, silence=first), NOW))
    second = add(state, SHOP, NOW, NOW + HOUR)
    changes = silence_changes(state, already_seen(stage.silences()))
    assert changes == [SilenceChange(id=second.id, silence=second)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A state in which one object fails that is to be ignored, and a silence of the settings."""
    clock = Muted()
    clock.silence("namespace=bank", key="settings-1", lasts=timedelta(days=36500), comment="moves")
    clock.say("Pod shop/web", broken(), ignore="crash", namespace_ignore="pod-*")
    path = tmp_path / "kubewhy.state"
    state = SqliteState(path)
    state.write({INCIDENTS + key: row for key, row in clock.stage.rows().items()})
    state.close()
    return path


def silence(*args: object) -> Result:
    return CliRunner().invoke(cli, ["silence", *map(str, args)])


def listed(path: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(silence("list", "--state", path, "-o", "json").output)
    return told


def test_the_commands_add_list_and_expire(file: Path) -> None:
    before = listed(file)
    args = ("--for", "2h", "--comment", "known", "--author", "ann", "namespace=shop", 'name=~"web-.*",kind=Pod')
    key = silence("add", "--state", file, *args).output.strip()
    (added,) = [each for each in listed(file) if each["id"] == key]
    assert added["matchers"] == ['namespace="shop"', 'name=~"web-.*"', 'kind="Pod"']
    assert (added["author"], added["comment"], added["state"], added["source"]) == ("ann", "known", "active", "command")
    shown = silence("list", "--state", file).output
    assert key in shown
    assert "in 119m" in shown or "in 2h" in shown
    assert silence("expire", "--state", file, key).output == ""
    assert listed(file) == before


def test_what_objects_and_settings_say_is_listed_with_the_others(file: Path) -> None:
    of_settings, namespace, pod = listed(file)
    assert (of_settings["id"], of_settings["source"], of_settings["comment"]) == ("settings-1", "settings", "moves")
    assert (pod["id"], pod["source"], pod["rules"]) == (None, "annotation", "crash")
    assert pod["object"] == {"kind": "Pod", "name": "web", "namespace": "shop", "group": ""}
    assert (namespace["object"]["kind"], namespace["object"]["name"], namespace["rules"]) == (
        "Namespace",
        "shop",
        "pod-*",
    )
    shown = silence("list", "--state", file).output
    for words in ("settings-1", "the settings", "crash of Pod shop/web in c", "pod-* of Namespace shop in c", "never"):
        assert words in shown


def test_a_silence_can_begin_later(file: Path) -> None:
    args = ("--start", "2098-01-01T00:00:00+01:00", "--until", "2099-01-01T00:00:00Z", "name=a")
    key = silence("add", "--state", file, *args).output.strip()
    (added,) = [each for each in listed(file) if each["id"] == key]
    assert (added["starts_at"], added["state"]) == ("2097-12-31T23:00:00Z", "pending")
    assert "begins in" in silence("list", "--state", file).output


def test_nothing_silenced_is_said_so(tmp_path: Path) -> None:
    SqliteState(tmp_path / "state").close()
    assert silence("list", "--state", tmp_path / "state").output == "Nothing is silenced.\n"
    assert listed(tmp_path / "state") == []


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (("add", "name=a"), 2, "give either --for or --until: a silence has to end"),
        (("add", "--for", "1h", "--until", "2099-01-01T00:00:00Z", "name=a"), 2, "give either --for or --until"),
        (("add", "--for", "1h"), 2, "missing argument 'MATCHER"),
        (("add", "--for", "1h", "nme=a"), 2, "'nme=a': nothing is called 'nme' at character 1"),
        (("add", "--for", "1h", "name=~("), 2, "this is no regular expression (missing ): () at character 7"),
        (("add", "--for", "1h", "name=~.*"), 1, "these matchers match everything"),
        (("add", "--for", "soon", "name=a"), 2, "'soon' is no length of time; write 90s"),
        (("add", "--for", "0s", "name=a"), 2, "'0s' is no time at all"),
        (("add", "--for", "999999d", "--start", "9000-01-01T00:00:00Z", "name=a"), 2, "beyond all calendars"),
        (("add", "--until", "2020-01-01T00:00:00Z", "name=a"), 1, "2020-01-01T00:00:00Z is in the past"),
        (("add", "--until", "2099-01-01T00:00:00", "name=a"), 2, "has no time zone; write 2099-01-01T00:00:00Z"),
        (("add", "--until", "0001-01-01T00:00:00+23:00", "name=a"), 2, "is beyond all calendars"),
        (("add", "--until", "tomorrow", "name=a"), 2, "'tomorrow' is no time; write 2026-12-01T08:00:00Z"),
        (("expire", "nope"), 1, "there is no silence nope"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], status: int, told: str
) -> None:
    before = listed(file)
    with pytest.raises(SystemExit) as caught:
        main(["silence", args[0], "--state", str(file), *args[1:]])
    assert caught.value.code == status
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert listed(file) == before


@pytest.mark.parametrize("args", [("add", "--for", "1h", "name=a"), ("list",), ("expire", "x")])
def test_a_state_that_is_not_there_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    path = tmp_path / "none"
    with pytest.raises(SystemExit):
        main(["silence", args[0], "--state", str(path), *args[1:]])
    assert "no such file; start `kubewhy run --state" in capsys.readouterr().err
    assert not path.exists()


def test_hostile_words_do_not_steer_the_terminal(file: Path) -> None:
    silence("add", "--state", file, "--for", "1h", "--comment", "\x1b[2Jgone\nnext", "--author", "\u202eann", "name=a")
    shown = silence("list", "--state", file).output
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert Ref("Pod", "web", "shop").name in shown


def find(pod: Pod, related: Related) -> Iterator[Failure]:
    if pod.status.phase == "Failed":
        yield Failure(rule="pod-failed", severity=Severity.CRITICAL, message="it failed", title="It failed")


class Running:
    """What runs on a state: it looks for silences each second, and writes what it has to remember."""

    def __init__(self, state: MemoryState, told: Settings) -> None:
        self.state, self.settings = state, told
        self.router = Router(told)
        incidents = Incidents(labels=self.router.labels)
        restore(incidents, state)
        self.router.restore(state)
        self.seen = already_seen(incidents.silences())
        self.pipeline = Pipeline([Analyzer(Pod, (), find)], incidents=incidents)

    def feed(self, *records: Evidence | SilenceChange | Tick) -> list[str]:
        """What each sink is told."""
        findings = self.pipeline.feed(records, NOW)
        told = [f"{name}: {each.transition}" for each in findings for name in self.router.sinks(each)]
        self.state.write(self.pipeline.rows() | self.router.rows())
        return told

    def second(self) -> list[str]:
        return self.feed(*silence_changes(self.state, self.seen, of_settings(self.settings)), Tick())


def evidence(phase: str, seq: int) -> Evidence:
    meta = {"name": "web", "namespace": "shop", "labels": {"app": "web"}}
    namespace = Raw(msgspec.json.encode({"metadata": {"name": "shop", "labels": {"team": "a"}}}))
    return Evidence(
        cluster="c",
        version=Version(1, seq),
        ref=Ref("Pod", "web", "shop"),
        observed_at=NOW,
        object=Raw(msgspec.json.encode({"metadata": meta, "status": {"phase": phase}})),
        related=(Attached(view="Namespace", objects=(namespace,), count=1),),
    )


def test_the_whole_way_from_the_labels_of_a_namespace_to_the_sinks(state: MemoryState) -> None:
    told = Settings.model_validate(
        {
            "sinks": [{"type": "stdout", "name": name, "silenced": name == "archive"} for name in ("team", "archive")],
            "routes": [{"matchers": ["namespace-label:team=a", "label:app=web"], "sinks": ["team"]}],
        }
    )
    running = Running(state, told)
    assert running.feed(evidence("Failed", 1)) == ["team: opened", "archive: opened"]
    silence = add(state, parse("namespace-label:team=a"), NOW, NOW + HOUR)
    assert running.second() == ["team: resolved", "archive: resolved", "archive: opened"]
    assert running.second() == []
    running = Running(state, told)
    assert running.second() == []
    assert running.feed(evidence("Failed", 2)) == []
    expire(state, silence.id, NOW)
    running = Running(state, told)
    assert running.second() == ["archive: resolved", "team: opened", "archive: opened"]
    assert running.feed(evidence("Running", 3)) == ["team: resolved", "archive: resolved"]
    assert not any(key.startswith((SILENCE, ROUTED)) for key, _ in state.scan())


def test_a_silence_that_leaves_the_settings_ends_at_the_next_start(state: MemoryState) -> None:
    before = settings({"matchers": ["namespace=shop"]})
    running = Running(state, before)
    running.second()
    assert running.feed(evidence("Failed", 1)) == []
    running = Running(state, before)
    assert running.second() == []
    assert Running(state, settings()).second() == ["stdout: opened"]
