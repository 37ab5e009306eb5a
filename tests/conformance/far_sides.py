"""What sinks deliver to in the conformance tests: one entry for each sort of sink."""

import atexit
import functools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from kubewhy.contracts import Sink
from kubewhy.errors import ConfigError, RetryLater
from sinks import make
from sinks.settings import FileSettings, S3Settings, SinkSettings, SlackSettings, SlackWebhookSettings
from sinks.stdout import StdoutSink
from tests.services import slack as slack_service
from tests.services.moto import KEYS, REGION, Store, known, moto


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
async def slack(folder: Path) -> AsyncIterator[FarSide]:
    """Seen is what stands in the channel and in its threads now, whenever that was written."""
    workspace = slack_service.Workspace()
    workspace.now = time.time()

    def seen() -> list[tuple[bool, object]]:
        return [(bool(each.thread), each.said) for each in workspace.channel.messages]

    async with slack_service.serving(workspace):
        told = {"type": "slack", "channel": slack_service.CHANNEL, "url": f"{workspace.url}/api/"}
        settings = SlackSettings.model_validate(told)
        yield of(settings, {"SLACK_BOT_TOKEN": slack_service.TOKEN}, seen, _slack_troubles(workspace))


@asynccontextmanager
async def slack_webhook(folder: Path) -> AsyncIterator[FarSide]:
    """What was said twice counts once: nothing can be taken back, and nobody says what arrived."""
    workspace = slack_service.Workspace()

    def seen() -> list[bytes]:
        return sorted({json.dumps(said).encode() for said in workspace.hooked})

    async with slack_service.serving(workspace):
        settings = SlackWebhookSettings(type="slack-webhook", timeout_seconds=0.5)
        environ = {"SLACK_WEBHOOK_URL": workspace.url + slack_service.HOOK}
        yield of(settings, environ, seen, {"archived": _slack_troubles(workspace)["archived"]})


def _slack_troubles(workspace: slack_service.Workspace) -> dict[str, Trouble]:
    def archive(archived: bool) -> None:
        workspace.channel.archived = archived

    def revoke(revoked: bool) -> None:
        workspace.tokens = set() if revoked else {slack_service.TOKEN}

    def hasten(pace: float) -> None:
        workspace.apart = pace

    return {
        "archived": Trouble(ConfigError, lambda: archive(True), lambda: archive(False)),
        "revoked": Trouble(ConfigError, lambda: revoke(True), lambda: revoke(False)),
        "too often": Trouble(RetryLater, lambda: hasten(1e12), lambda: hasten(0)),
    }


@functools.cache
def _moto() -> str:
    """One for all tests."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(moto())


@asynccontextmanager
async def s3(folder: Path) -> AsyncIterator[FarSide]:
    with pytest.MonkeyPatch.context() as patched:
        known(patched)
        store = Store.made(_moto())
        settings = S3Settings(type="s3", **store.settings().model_dump(exclude_unset=True))
        troubles = {
            "its bucket is gone": Trouble(
                ConfigError,
                lambda: store.client.delete_bucket(Bucket=store.bucket),
                lambda: store.client.create_bucket(
                    Bucket=store.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
                ),
            )
        }
        yield of(settings, KEYS, store.objects, troubles)


FAR_SIDES: dict[str, Callable[[Path], AbstractAsyncContextManager[FarSide]]] = {
    "stdout": stdout,
    "file": file,
    "slack": slack,
    "slack-webhook": slack_webhook,
    "s3": s3,
}
