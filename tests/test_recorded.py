"""Recordings: what goes in comes out, with its times, and nothing but a recording is taken for one."""

import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from collectors.recorded import SCHEMA, Header, Recorder, read, replay
from kubewhy import __version__
from kubewhy.errors import ConfigError
from kubewhy.kube.core import Node, Pod
from kubewhy.kube.meta import Object, Resource
from kubewhy.related import decode_object

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
HEADER = Header(schema=SCHEMA, kubewhy=__version__, cluster="uid-1", name="shop", server="v1.35.4")
POD = b"""{"metadata": {"name": "web", "namespace": "shop"},
 "spec": {"containers": [{"name": "app", "env": [{"name": "KEY", "value": "hunter2"}]}]}}"""


class Calls:
    """A target that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.told.append(("begin", resource, namespace, at))

    def put(self, resource: Resource, subject: Object, at: datetime) -> None:
        self.told.append(("put", resource, subject, at))

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        self.told.append(("remove", resource, namespace, name, at))

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None:
        self.told.append(("synced", resource, namespace, at))

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        self.told.append(("refused", resource, namespace, reason, at))


def pod() -> Pod:
    return decode_object(POD, Pod)


def tell(target: Recorder | Calls) -> None:
    target.begin(Pod.resource, "shop", START)
    target.put(Pod.resource, pod(), START)
    target.synced(Pod.resource, "shop", START + timedelta(seconds=1))
    target.refused(Node.resource, None, "forbidden", START + timedelta(seconds=1))
    target.remove(Pod.resource, "shop", "web", START + timedelta(seconds=90))


def played(path: Path) -> Calls:
    calls = Calls()
    for _ in replay(read(path), calls):
        pass
    return calls


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.kwrec"


@pytest.fixture
def recorded(path: Path) -> Path:
    with Recorder(path, HEADER) as recorder:
        tell(recorder)
    return path


def lines(path: Path) -> list[bytes]:
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        return stream.read().splitlines()


def test_a_replay_tells_what_was_recorded(recorded: Path) -> None:
    told = Calls()
    tell(told)
    assert played(recorded).told == told.told
    assert read(recorded).header == HEADER


def test_a_replay_gives_each_time_before_its_call(recorded: Path) -> None:
    calls = Calls()
    steps: Iterator[datetime] = replay(read(recorded), calls)
    assert next(steps) == START
    assert calls.told == []
    assert next(steps) == START
    assert len(calls.told) == 1
    assert list(steps)[-1] == START + timedelta(seconds=90)


def test_a_whole_recording_is_replayed_without_a_warning(recorded: Path, caplog: pytest.LogCaptureFixture) -> None:
    played(recorded)
    assert not caplog.records


def test_an_empty_recording_is_whole(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Recorder(path, HEADER).close()
    assert played(path).told == []
    assert not caplog.records


def times(path: Path) -> list[datetime]:
    return list(replay(read(path), Calls()))


def test_a_recording_lasts_until_it_was_closed(path: Path) -> None:
    end = START + timedelta(minutes=5)
    with Recorder(path, HEADER) as recorder:
        tell(recorder)
        recorder.close(end)
    assert json.loads(lines(path)[-1]) == {"do": "end", "at": "2026-01-01T12:05:00Z"}
    assert times(path)[-2:] == [START + timedelta(seconds=90), end]
    assert len(played(path).told) == 5


@pytest.mark.parametrize("last", [['{"do":"end"}'], ['{"do":"end","at":null}'], []])
def test_one_that_does_not_say_when_it_ends_lasts_until_its_last_call(path: Path, last: list[str]) -> None:
    entry = json.dumps({"at": START.isoformat(), "do": "begin", "kind": "Pod"})
    path.write_bytes(compressed(msgspec.json.encode(HEADER).decode(), entry, *last))
    assert times(path) == [START]


def test_nothing_comes_after_the_end(path: Path) -> None:
    entry = json.dumps({"at": START.isoformat(), "do": "begin", "kind": "Pod"})
    path.write_bytes(compressed(msgspec.json.encode(HEADER).decode(), '{"do":"end"}', entry))
    assert times(path) == []


def test_only_declared_fields_are_recorded(recorded: Path) -> None:
    assert b"hunter2" not in b"".join(lines(recorded))


def test_only_the_owner_may_read_it(recorded: Path) -> None:
    assert stat.S_IMODE(recorded.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_kept(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ConfigError, match="there is a file already"):
        Recorder(path, HEADER)
    assert path.read_text() == "mine"


def test_overwriting_takes_away_the_rights_of_others(path: Path) -> None:
    path.write_text("mine" * 1000)
    path.chmod(0o644)
    with Recorder(path, HEADER, overwrite=True) as recorder:
        tell(recorder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(played(path).told) == 5


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        Recorder(tmp_path / "none" / "x.kwrec", HEADER)


def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(ConfigError, match="No space left"):
        Recorder(Path("/dev/full"), HEADER, overwrite=True)


def test_a_killed_recording_has_every_call_since_its_list(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(path, HEADER)
    tell(recorder)
    killed = path.with_name("killed.kwrec")
    killed.write_bytes(path.read_bytes())
    assert len(played(killed).told) == 5
    assert "cut off" in caplog.text
    recorder.close()


def test_a_list_is_not_flushed_object_by_object(path: Path) -> None:
    recorder = Recorder(path, HEADER)
    recorder.begin(Pod.resource, None, START)
    before = path.stat().st_size
    for _ in range(100):
        recorder.put(Pod.resource, pod(), START)
    assert path.stat().st_size == before
    recorder.synced(Pod.resource, None, START)
    assert path.stat().st_size > before
    recorder.close()


def test_cut_anywhere_it_is_replayed_as_far_as_it_goes(recorded: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, told = recorded.read_bytes(), played(recorded).told
    for size in range(4, len(whole) - 1):
        recorded.write_bytes(whole[:size])
        try:
            calls = played(recorded).told
        except ConfigError as error:
            assert "cut off before its header" in str(error)  # noqa: PT017
        else:
            assert calls == told[: len(calls)]


def compressed(*texts: str) -> bytes:
    return zstandard.compress("".join(f"{text}\n" for text in texts).encode())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"apiVersion: v1\n", "is no recording"),
        (b"\x28\xb5\x2f\xfdgarbage", "is damaged"),
        (compressed("hello"), "is no recording"),
        (compressed("[1]"), "is no recording"),
        (compressed('{"schema": "other/v1"}'), "is no recording"),
        (compressed('{"schema": "kubewhy.recording/v2", "kubewhy": "9.0"}'), "made by kubewhy 9.0"),
        (compressed('{"schema": "kubewhy.recording/v1"}'), "header is damaged"),
    ],
)
def test_what_is_no_recording_is_one_line(path: Path, content: bytes, told: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_one_line(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        read(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"do": "dance"}',
        '{"do": "synced", "kind": "Pod"}',
        '{"at": "2026-03-01T12:00:00", "do": "synced", "kind": "Pod"}',
        '{"at": "0001-01-01T00:00:00Z", "do": "synced", "kind": "Pod"}',
        '{"at": "9999-12-31T23:59:59Z", "do": "synced", "kind": "Pod"}',
        '{"do":"end","at":"9999-12-31T23:59:59Z"}',
    ],
)
def test_a_damaged_line_names_its_number(path: Path, line: str) -> None:
    path.write_bytes(compressed(msgspec.json.encode(HEADER).decode(), line))
    with pytest.raises(ConfigError, match="line 2 is damaged"):
        played(path)


def test_kinds_of_a_newer_version_are_left_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = json.dumps({"at": START.isoformat(), "do": "begin", "kind": "Gizmo", "group": "new.dev"})
    path.write_bytes(compressed(msgspec.json.encode(HEADER).decode(), entry, entry, '{"do":"end"}'))
    assert played(path).told == []
    assert [record.message for record in caplog.records].count(
        "the recording holds a kind that this version does not read"
    ) == 1


def test_a_raw_recording_warns_and_gives_the_same_objects(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Recorder(path, msgspec.structs.replace(HEADER, raw=True)) as recorder:
        recorder.on_raw(Pod.resource, "LISTED", POD)
        recorder.put(Pod.resource, pod(), START)
    assert any("environment values" in record.message for record in caplog.records)
    assert b"hunter2" in b"".join(lines(path))
    assert played(path).told == [("put", Pod.resource, pod(), START)]


def test_without_raw_only_declared_fields_are_kept(path: Path) -> None:
    with Recorder(path, HEADER) as recorder:
        recorder.on_raw(Pod.resource, "LISTED", POD)
        recorder.put(Pod.resource, pod(), START)
    assert b"hunter2" not in b"".join(lines(path))


def test_an_object_of_odd_shape_is_left_out_with_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = json.dumps({"at": START.isoformat(), "do": "put", "kind": "Pod", "raw": {"spec": 7}})
    path.write_bytes(compressed(msgspec.json.encode(HEADER).decode(), entry, '{"do":"end"}'))
    assert played(path).told == []
    assert "not readable" in caplog.text
