"""What sinks deliver to in the conformance tests: one entry for each sort of sink."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from kubewhy.contracts import Sink
from kubewhy.errors import ConfigError, RetryLater
from sinks import make
from sinks.settings import FileSettings, S3Settings, SinkSettings
from sinks.stdout import StdoutSink
from tests.models.far import Script, half, whole
from tests.services import moto
from tests.services.moto import Store
from tests.services.s3 import SECRET, Door, refusal, standing


class Trouble(NamedTuple):
    """`make` makes it, `mend` ends it; while it lasts, `send` raises that."""

    raises: type[Exception]
    make: Callable[[], None]
    mend: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class FarSide:
    """`seen` is all that a person there gets to see. No secret may stand in an error."""

    sink: Callable[[], Sink]
    seen: Callable[[], object]
    secrets: tuple[str, ...] = ()
    troubles: Mapping[str, Trouble] = field(default_factory=dict)


def of(
    settings: SinkSettings, environ: Mapping[str, str], seen: Callable[[], object], troubles: Mapping[str, Trouble]
) -> FarSide:
    """That of a sink as people set it up. All that its environment holds is secret."""
    return FarSide(sink=lambda: make(settings, environ), seen=seen, secrets=tuple(environ.values()), troubles=troubles)


@asynccontextmanager
async def stdout(folder: Path) -> AsyncIterator[FarSide]:
    """Nothing can be taken back from it: what is printed twice is the same word for word, and counts once."""
    path = folder / "out"
    with path.open("wb", buffering=0) as out:
        yield FarSide(sink=lambda: StdoutSink(out), seen=lambda: sorted(set(path.read_bytes().splitlines())))


@asynccontextmanager
async def file(folder: Path) -> AsyncIterator[FarSide]:
    path = folder / "here" / "findings.jsonl"
    path.parent.mkdir()
    away = folder / "away"
    troubles = {
        "its folder is gone": Trouble(
            ConfigError, lambda: os.rename(path.parent, away), lambda: os.rename(away, path.parent)
        )
    }
    yield of(FileSettings(type="file", path=path), {}, lambda: path.read_bytes() if path.exists() else b"", troubles)


@asynccontextmanager
async def s3(folder: Path) -> AsyncIterator[FarSide]:
    store = Store.made(moto.standing())
    with pytest.MonkeyPatch.context() as patch:
        moto.known(patch)
        async with standing(Door(store.url)) as door:

            def open_again() -> None:
                door.instead = None

            def answering(script: Script) -> Callable[[], None]:
                return lambda: setattr(door, "instead", script)

            troubles = {
                "its bucket is gone": Trouble(ConfigError, store.remove, store.make),
                "denied": Trouble(ConfigError, answering(whole(refusal(403, "AccessDenied"))), open_again),
                "slow down": Trouble(RetryLater, answering(whole(refusal(503, "SlowDown"))), open_again),
                "half an answer": Trouble(RetryLater, answering(half(refusal(200, "Half"))), open_again),
            }
            settings = S3Settings(type="s3", bucket=store.bucket, endpoint=door.url, region=moto.REGION)
            far = of(settings, moto.KEYS, store.objects, troubles)
            yield replace(far, secrets=(*far.secrets, SECRET))


FAR_SIDES: dict[str, Callable[[Path], AbstractAsyncContextManager[FarSide]]] = {
    "stdout": stdout,
    "file": file,
    "s3": s3,
}
