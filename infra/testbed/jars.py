"""Fetches Java archives with all that they need, without Maven, but from where Maven would fetch them."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from infra.testbed.errors import TestbedError

_TIMEOUT_SECONDS = 60


def fetch(coordinates: Sequence[str], folder: Path) -> None:
    """Fills a folder that does not exist yet. Raises TestbedError with the cause if anything cannot be had.

    Coordinates are group:artifact:version.
    """
    try:
        from jgo.maven import MavenContext  # only who fetches needs it
    except ImportError:
        raise TestbedError("jgo is not installed: pip install 'kubewhy[testbed]' brings it") from None
    mirror = _mirror()
    folder.mkdir()
    with TemporaryDirectory(dir=folder.parent) as scratch:
        maven = MavenContext(
            repo_cache=Path(scratch), remote_repos={"central": mirror} if mirror else None, timeout=_TIMEOUT_SECONDS
        )
        wanted = [maven.create_dependency(each) for each in coordinates]
        try:
            asked, needed = maven.resolver.resolve(wanted)
            with ThreadPoolExecutor(max_workers=8) as pool:
                for jar in pool.map(lambda each: each.artifact.resolve(), [*asked, *needed]):
                    jar.rename(folder / jar.name)
        # The library raises what it comes across: its own RuntimeError, errors of HTTP, of XML and of files.
        except (RuntimeError, OSError, ValueError, ElementTree.ParseError) as error:
            raise TestbedError(f"cannot fetch {coordinates[0]}: {error}") from None


def _mirror() -> str | None:
    """What stands for Maven's central repository on this machine, by the first of Maven's settings that says so."""
    home = os.environ.get("MAVEN_HOME")
    files = [Path.home() / ".m2" / "settings.xml", *([Path(home) / "conf" / "settings.xml"] if home else [])]
    return next((mirror for file in files if file.is_file() for mirror in _mirrors(file)), None)


def _mirrors(settings: Path) -> Iterator[str]:
    try:
        root = ElementTree.parse(settings).getroot()
    except ElementTree.ParseError as error:
        raise TestbedError(f"cannot read {settings}: {error}") from None
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        of = (mirror.findtext("{*}mirrorOf") or "").replace(" ", "").split(",")
        url = (mirror.findtext("{*}url") or "").strip().rstrip("/")
        # https://maven.apache.org/guides/mini/guide-mirror-settings.html
        if url and {"central", "*", "external:*"} & set(of) and "!central" not in of:
            yield url
