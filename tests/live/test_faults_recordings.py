"""Recordings that are damaged, foreign or absent, and files that none can be written to."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from infra.testbed.control_plane import ControlPlane
from tests.live.audited import audited
from tests.live.broken import broken_pod
from tests.live.command import Shell

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited(controllers=False) as plane:
        broken_pod(plane, "shop", "web")
        yield plane


@pytest.fixture(scope="module")
def shell(plane: ControlPlane) -> Shell:
    return Shell.of(plane)


@pytest.fixture(scope="module")
def recording(plane: ControlPlane, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("recording") / "shop.kwrec"
    told = shell.run("record", "--for", "0", path, "--kubeconfig", plane.admin_kubeconfig)
    assert told.status == 0, told
    return path.read_bytes()


def repacked(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """The recording with its lines changed, compressed again."""

    def repack(whole: bytes) -> bytes:
        lines = zstandard.ZstdDecompressor().decompressobj().decompress(whole).splitlines(keepends=True)
        return zstandard.compress(b"".join(change(lines)))

    return repack


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda whole: b"", "is empty; name a file that `kubewhy record` wrote"),
    "a picture": (lambda whole: b"\x89PNG\r\n\x1a\n" + bytes(100), "is no recording; name a file"),
    "plain JSON": (lambda whole: b'{"kind": "PodList"}', "is no recording; name a file"),
    "compressed text": (lambda whole: zstandard.compress(b"hello\n"), "is no recording; name a file"),
    "cut in the first bytes": (lambda whole: whole[:2], "is no recording"),
    "cut in the header": (lambda whole: whole[:20], "is cut off before its header; record it again"),
    "of a newer version": (
        repacked(lambda lines: [lines[0].replace(b"recording/v1", b"recording/v7"), *lines[1:]]),
        "as kubewhy.recording/v7; this is",
    ),
    "damaged in the middle": (
        lambda whole: whole[: len(whole) // 2] + bytes(16) + whole[len(whole) // 2 + 16 :],
        "the recording is damaged; record it again",
    ),
    "one bit": (
        lambda whole: whole[:-60] + bytes([whole[-60] ^ 1]) + whole[-59:],
        "the recording is damaged; record it again",
    ),
    "a damaged line": (
        repacked(lambda lines: [*lines[:3], lines[3][:-5] + b"\n", *lines[4:]]),
        "line 4 is damaged",
    ),
    "a hostile line": (
        repacked(lambda lines: [*lines[:3], b'{"do": "\xe2\x80\xae\x1b[31m"}\n', *lines[4:]]),
        "line 4 is damaged",
    ),
}


@pytest.mark.parametrize("command", ["analyze", "run"])
@pytest.mark.parametrize(("damage", "said"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_whole_recording(
    shell: Shell, tmp_path: Path, recording: bytes, command: str, damage: Callable[[bytes], bytes], said: str
) -> None:
    path = tmp_path / "x.kwrec"
    path.write_bytes(damage(recording))
    told = shell.run(command, "-o", "json", "--from", path)
    assert told.status == 1
    assert said in told.line
    assert str(path) in told.line
    if command == "analyze":
        assert told.out == ""


@pytest.mark.parametrize(
    "cut",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-20],
        repacked(lambda lines: lines[:1]),
        repacked(lambda lines: lines[:-1]),
        repacked(lambda lines: [*lines[:-2], lines[-2][:20]]),
    ],
    ids=["in the middle of a frame", "in the last bytes", "after the header", "before the last line", "within a line"],
)
def test_a_recording_that_was_cut_off_is_used_as_far_as_it_goes(
    shell: Shell, tmp_path: Path, recording: bytes, cut: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "x.kwrec"
    path.write_bytes(cut(recording))
    for command in ("analyze", "run"):
        told = shell.run(command, "-o", "json", "--from", path)
        assert told.status == 0
        assert f"the recording is cut off; what is readable of it is used file={path}" in told.line


def test_recordings_that_are_not_there(shell: Shell, tmp_path: Path) -> None:
    told = shell.run("analyze", "--from", tmp_path / "none.kwrec")
    assert told.status == 1
    assert "none.kwrec: cannot read the recording (No such file or directory); name another file" in told.line
    told = shell.run("run", "--from", tmp_path)
    assert told.status == 1
    assert "cannot read the recording (Is a directory); name another file" in told.line


def test_a_recording_that_comes_through_a_pipe(shell: Shell, recording: bytes) -> None:
    for command in ("analyze", "run"):
        reader, writer = os.pipe()
        os.write(writer, recording)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            told = shell.run(command, "--no-hold", "-o", "json", "--from", "/dev/stdin", stdin=pipe)
        assert (told.status, told.err) == (0, "")
        assert '"web"' in told.out


def test_a_namespace_that_a_recording_does_not_hold(shell: Shell, tmp_path: Path, recording: bytes) -> None:
    path = tmp_path / "x.kwrec"
    path.write_bytes(recording)
    told = shell.run("analyze", "--no-hold", "-n", "nowhere", "-n", "shop", "--from", path, "-o", "json")
    assert told.status == 0
    assert "the recording holds nothing of namespace nowhere" in told.line
    assert [each["name"] for each in json.loads(told.out)["diagnoses"]] == ["web"]
    assert shell.run("run", "--no-hold", "-n", "nowhere", "--from", path).out == ""
    assert '"web"' in shell.run("run", "--no-hold", "-n", "shop", "--from", path).out


@pytest.fixture
def record(plane: ControlPlane) -> list[str | Path]:
    return ["record", "--for", "0", "--kubeconfig", plane.admin_kubeconfig]


def test_a_file_that_is_there_is_kept(shell: Shell, tmp_path: Path, record: list[str | Path]) -> None:
    path = tmp_path / "x.kwrec"
    path.write_text("mine")
    told = shell.run(*record, path)
    assert told.status == 1
    assert "x.kwrec: there is a file already; name another, or give --overwrite" in told.line
    assert path.read_text() == "mine"
    assert shell.run(*record, "--overwrite", path).status == 0
    assert shell.run("analyze", "--from", path).status == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/x.kwrec", "cannot write there (No such file or directory); name another file"),
        (".", "cannot write there (Is a directory); name another file"),
        ("x" * 300, "cannot write there (File name too long); name another file"),
        ("/dev/full", "the recording broke off (No space left on device)"),
    ],
    ids=["missing folder", "a folder", "too long", "full disk"],
)
def test_where_no_recording_can_be_written(
    shell: Shell, tmp_path: Path, record: list[str | Path], name: str, said: str
) -> None:
    mode = Path("/dev/full").stat().st_mode
    told = shell.run(*record, "--overwrite", tmp_path / name)
    assert told.status == 1
    assert said in told.line
    assert Path("/dev/full").stat().st_mode == mode


def test_a_disk_that_fills_while_it_is_recorded(shell: Shell, tmp_path: Path, record: list[str | Path]) -> None:
    path = tmp_path / "x.kwrec"
    told = shell.run(*record, path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)))
    assert told.status == 1
    assert "x.kwrec: the recording broke off (File too large); what was written can be read" in told.line
    assert shell.run("analyze", "--from", path).status == 0


def test_what_nothing_can_be_read_of_leaves_no_file(plane: ControlPlane, shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "x.kwrec"
    told = shell.run("record", "--for", "0", path, "--kubeconfig", plane.kubeconfig("nobody"))
    assert told.status == 1
    assert "may read nothing" in told.line
    assert not path.exists()
