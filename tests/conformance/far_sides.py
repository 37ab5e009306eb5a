"""What sinks deliver to in the conformance tests: one entry for each sort of sink."""

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from kubewhy.contracts import Sink
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.keys import Key
from sinks import make
from sinks.settings import (
    AlertmanagerSettings,
    FileSettings,
    NotifySettings,
    OpsgenieSettings,
    PagerDutySettings,
    S3Settings,
    SinkSettings,
    SlackSettings,
    SlackWebhookSettings,
    WebhookSettings,
)
from sinks.stdout import StdoutSink
from tests.models.far import Reply, Script, half, serving, whole
from tests.services import moto
from tests.services import s3 as s3_service
from tests.services import slack as slack_service
from tests.services.moto import Store
from tests.services.pagers import KEY, Opsgenie, PagerDuty, paging
from tests.services.receiver import Receiver, receiving


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

    async with serving(workspace):
        told = {"type": "slack", "channel": slack_service.CHANNEL, "url": f"{workspace.url}/api/"}
        settings = SlackSettings.model_validate(told)
        yield of(settings, {"SLACK_BOT_TOKEN": slack_service.TOKEN}, seen, _slack_troubles(workspace))


@asynccontextmanager
async def slack_webhook(folder: Path) -> AsyncIterator[FarSide]:
    """What was said twice counts once: nothing can be taken back, and nobody says what arrived."""
    workspace = slack_service.Workspace()

    def seen() -> list[bytes]:
        return sorted({json.dumps(said).encode() for said in workspace.hooked})

    async with serving(workspace):
        settings = SlackWebhookSettings(type="slack-webhook", timeout_seconds=2)
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


def _refusing(receiver: Receiver, replies: Mapping[str, tuple[type[Exception], Reply | Script]]) -> dict[str, Trouble]:
    """Troubles that last for one post. What came of them is not seen."""

    def trouble(raises: type[Exception], reply: Reply | Script) -> Trouble:
        return Trouble(raises, lambda: receiver.then(reply), lambda: None)

    return {name: trouble(raises, reply) for name, (raises, reply) in replies.items()}


def _refusals(secret: str) -> dict[str, tuple[type[Exception], Reply | Script]]:
    return {
        "too often": (RetryLater, Reply(429, secret.encode(), {"retry-after": "3"})),
        "down": (RetryLater, Reply(503, secret.encode())),
        "unknown": (ConfigError, Reply(401, secret.encode())),
        "gone": (ConfigError, Reply(410, secret.encode())),
        "elsewhere": (ConfigError, Reply(302, b"", {"location": f"https://other.example/{secret}"})),
        "refused": (Rejected, Reply(422, secret.encode())),
    }


SECRET = "planted0123456789planted01234567"


@asynccontextmanager
async def webhook(folder: Path) -> AsyncIterator[FarSide]:
    """A receiver that heeds the idempotency key, as it should: alike posts count once."""

    def seen() -> dict[str, bytes]:
        return {asked.headers["Idempotency-Key"]: asked.body for asked in receiver.taken}

    async with receiving() as receiver:
        told = WebhookSettings.model_validate(
            {
                "type": "webhook",
                "url": f"{receiver.url}/{SECRET}",
                "bearer": {"env": "KEY"},
                "signing_key": {"env": "KEY"},
            }
        )
        yield of(told, {"KEY": SECRET}, seen, _refusing(receiver, _refusals(SECRET)))


@asynccontextmanager
async def alertmanager(folder: Path) -> AsyncIterator[FarSide]:
    """It knows alerts by their labels, and shows when each ends, where it does."""

    def seen() -> dict[str, object]:
        alerts: dict[str, object] = {}
        for asked in receiver.taken:
            for alert in asked.json:
                over = datetime.fromisoformat(alert["endsAt"]) <= datetime.now(UTC)
                alerts[json.dumps(alert["labels"])] = alert["endsAt"] if over else "firing"
        return alerts

    async with receiving() as receiver:
        told = AlertmanagerSettings.model_validate(
            {"type": "alertmanager", "urls": [receiver.url], "bearer": {"env": "KEY"}}
        )
        yield of(told, {"KEY": SECRET}, seen, _refusing(receiver, _refusals(SECRET)))


@asynccontextmanager
async def notify(folder: Path) -> AsyncIterator[FarSide]:
    """Nothing can be taken back from it, as from standard output: the same message counts once."""

    def seen() -> list[bytes]:
        return sorted({asked.body for asked in receiver.taken})

    async with receiving() as receiver:
        url = f"mmost://{receiver.url.removeprefix('http://')}/{SECRET}"
        refusals = {name: each for name, each in _refusals(SECRET).items() if name != "elsewhere"}
        yield of(
            NotifySettings(type="notify", url_key=Key(env="URL")), {"URL": url}, seen, _refusing(receiver, refusals)
        )


@asynccontextmanager
async def pagerduty(folder: Path) -> AsyncIterator[FarSide]:
    async with paging(PagerDuty()) as far:
        told = PagerDutySettings(type="pagerduty", routing_key=Key(env="KEY"), url=far.url)
        yield of(told, {"KEY": KEY}, far.seen, _refusing(far, _refusals(KEY)))


@asynccontextmanager
async def opsgenie(folder: Path) -> AsyncIterator[FarSide]:
    async with paging(Opsgenie()) as far:
        told = OpsgenieSettings(type="opsgenie", api_key=Key(env="KEY"), url=far.url)
        yield of(told, {"KEY": KEY}, far.seen, _refusing(far, _refusals(KEY)))


@asynccontextmanager
async def s3(folder: Path) -> AsyncIterator[FarSide]:
    store = Store.made(moto.standing())
    with pytest.MonkeyPatch.context() as patch:
        moto.known(patch)
        async with serving(s3_service.Door(store.url)) as door:

            def open_again() -> None:
                door.instead = None

            def answering(script: Script) -> Callable[[], None]:
                return lambda: setattr(door, "instead", script)

            troubles = {
                "its bucket is gone": Trouble(ConfigError, store.remove, store.make),
                "denied": Trouble(ConfigError, answering(whole(s3_service.refusal(403, "AccessDenied"))), open_again),
                "slow down": Trouble(RetryLater, answering(whole(s3_service.refusal(503, "SlowDown"))), open_again),
                "half an answer": Trouble(RetryLater, answering(half(s3_service.refusal(200, "Half"))), open_again),
            }
            settings = S3Settings(type="s3", bucket=store.bucket, endpoint=door.url, region=moto.REGION)
            far = of(settings, moto.KEYS, store.objects, troubles)
            yield replace(far, secrets=(*far.secrets, s3_service.SECRET))


FAR_SIDES: dict[str, Callable[[Path], AbstractAsyncContextManager[FarSide]]] = {
    "stdout": stdout,
    "file": file,
    "webhook": webhook,
    "alertmanager": alertmanager,
    "notify": notify,
    "pagerduty": pagerduty,
    "opsgenie": opsgenie,
    "slack": slack,
    "slack-webhook": slack_webhook,
    "s3": s3,
}
