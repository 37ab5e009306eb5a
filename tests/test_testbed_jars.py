"""Java archives come from where Maven's own settings say, all of them or none."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from infra.testbed.errors import TestbedError
from infra.testbed.jars import fetch

NEEDS = "<dependency><groupId>shop</groupId><artifactId>lib</artifactId><version>2</version></dependency>"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "mirror"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of somebody who cannot reach Maven's central repository, nor has a Maven."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("MAVEN_HOME", raising=False)
    (tmp_path / ".m2").mkdir()
    return tmp_path


def publish(home: Path, name: str, version: str, needs: str = "") -> None:
    place = home / "mirror" / "shop" / name / version
    place.mkdir(parents=True)
    (place / f"{name}-{version}.jar").write_text(name)
    about = f"<groupId>shop</groupId><artifactId>{name}</artifactId><version>{version}</version>"
    pom = f"<project><modelVersion>4.0.0</modelVersion>{about}<dependencies>{needs}</dependencies></project>"
    (place / f"{name}-{version}.pom").write_text(pom)


def settle(home: Path, of: str, url: str) -> None:
    space = "http://maven.apache.org/SETTINGS/1.2.0"
    mirror = f"<mirror><id>near</id><mirrorOf>{of}</mirrorOf><url>{url}</url></mirror>"
    settings = f'<settings xmlns="{space}"><mirrors>{mirror}</mirrors></settings>'
    (home / ".m2" / "settings.xml").write_text(settings)


@pytest.mark.parametrize("of", ["central", "*", "external:*, !other"])
def test_a_mirror_of_the_central_repository_stands_for_it(of: str, home: Path, mirror: str) -> None:
    publish(home, "till", "1", NEEDS)
    publish(home, "lib", "2")
    settle(home, of, mirror)
    fetch(["shop:till:1"], home / "jars")
    assert sorted(each.name for each in (home / "jars").iterdir()) == ["lib-2.jar", "till-1.jar"]


@pytest.mark.parametrize("of", ["other", "*,!central"])
def test_a_mirror_of_others_does_not(of: str, home: Path, mirror: str) -> None:
    publish(home, "till", "1")
    settle(home, of, mirror)
    with pytest.raises(TestbedError, match=r"cannot fetch shop:till:1: .*proxy"):
        fetch(["shop:till:1"], home / "jars")


def test_what_is_missing_is_told_in_one_line(home: Path, mirror: str) -> None:
    publish(home, "till", "1", NEEDS)
    settle(home, "*", mirror)
    with pytest.raises(TestbedError, match=r"cannot fetch shop:till:1: .*shop:lib:.*2 not found") as told:
        fetch(["shop:till:1"], home / "jars")
    assert "\n" not in str(told.value)


def test_settings_that_cannot_be_read_are_named(home: Path) -> None:
    (home / ".m2" / "settings.xml").write_text("<settings")
    with pytest.raises(TestbedError, match=r"cannot read .*settings\.xml"):
        fetch(["shop:till:1"], home / "jars")
