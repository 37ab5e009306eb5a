"""A Slack workspace, in the test's own process: https://docs.slack.dev/reference/methods."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web

from tests.services.slack_limits import Unfit, check

TOKEN = "xoxb-planted-0123456789"
CHANNEL = "C0123456789"
HOOK = "/services/T000/B000/planted-secret"
BEGINNING = 1_767_225_600.0
SCOPES = ("chat:write", "channels:history")

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Message:
    """What stands in a channel, since when, and how often it was edited."""

    ts: str
    said: dict[str, Any]
    thread: str = ""
    edits: int = 0
    at: float = 0.0

    @property
    def header(self) -> str:
        return next((block["text"]["text"] for block in self.said["blocks"] if block["type"] == "header"), "")


@dataclass
class Channel:
    messages: list[Message] = field(default_factory=list)
    archived: bool = False
    member: bool = True

    @property
    def roots(self) -> list[Message]:
        return [each for each in self.messages if not each.thread]

    def thread(self, ts: str) -> list[Message]:
        return [each for each in self.messages if each.thread == ts]


class Workspace:
    """Of one app. `apart` is how far messages to one channel have to be, in seconds.

    Its time goes on as the clock says, or else only when a test sets `now`.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.url = ""
        self.now = BEGINNING
        self._clock = clock
        self.apart = 0.0
        self.tokens = {TOKEN}
        self.scopes = set(SCOPES)
        self.channels = {CHANNEL: Channel()}
        self.hooked: list[dict[str, Any]] = []  # what came by the webhook
        self.asked: list[tuple[str, dict[str, Any]]] = []  # all calls, by method
        self.unfit: list[str] = []  # why messages were refused as such
        self.editable = True
        self.scripts: dict[str, list[Script]] = {}  # by method, in place of the answer
        self.losing: dict[str, int] = {}  # by method, how many are to be done and not answered
        self._posted: dict[str, float] = {}
        self._count = count(1)

    def _time(self) -> float:
        return BEGINNING + self._clock() if self._clock else self.now

    @property
    def channel(self) -> Channel:
        return self.channels[CHANNEL]

    def delete(self, message: Message) -> None:
        """As a person may."""
        for channel in self.channels.values():
            if message in channel.messages:
                channel.messages.remove(message)

    def of(self, method: str) -> list[dict[str, Any]]:
        """What that method was asked."""
        return [told for name, told in self.asked if name == method]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        method = request.path.removeprefix("/api/")
        told = await _told(request)
        self.asked.append((method, told))
        if scripts := self.scripts.get(method):
            return await scripts.pop(0)(request)
        if request.path == HOOK:
            return self._hook(told)
        if not request.path.startswith("/api/"):
            return web.Response(status=404, text="no_service")
        headers = {"x-oauth-scopes": ",".join(sorted(self.scopes))}
        try:
            answer: dict[str, Any] = {"ok": True, **self._do(request, method, told)}
        except Refused as refused:
            answer = {"ok": False, "error": refused.code, **refused.more}
            if refused.code == "ratelimited":
                return web.json_response(answer, status=429, headers={**headers, "Retry-After": "1"})
        if answer["ok"] and self.losing.get(method, 0) > 0:
            self.losing[method] -= 1
            assert request.transport
            request.transport.close()
        return web.json_response(answer, headers=headers)

    def _do(self, request: web.Request, method: str, told: Mapping[str, Any]) -> dict[str, Any]:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            raise Refused("not_authed")
        if token not in self.tokens:
            raise Refused("invalid_auth")
        match method:
            case "auth.test":
                return {"team": "Shop", "user": "kubewhy", "team_id": "T000", "user_id": "U000", "bot_id": "B000"}
            case "chat.postMessage":
                self._needs("chat:write")
                return self._post(told)
            case "chat.update":
                self._needs("chat:write")
                return self._update(told)
            case "conversations.history":
                self._needs("channels:history")
                return self._history(self._joined(told).roots, told)
            case "conversations.replies":
                self._needs("channels:history")
                channel = self._joined(told)
                if told["ts"] not in {each.ts for each in channel.roots}:
                    raise Refused("thread_not_found")
                return self._history(channel.thread(told["ts"]), told)
        raise Refused("unknown_method")

    def _needs(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Refused("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))

    def _open(self, told: Mapping[str, Any]) -> Channel:
        channel = self.channels.get(told.get("channel", ""))
        if channel is None:
            raise Refused("channel_not_found")
        if channel.archived:
            raise Refused("is_archived")
        return channel

    def _joined(self, told: Mapping[str, Any]) -> Channel:
        channel = self.channels.get(told.get("channel", ""))
        if channel is None:
            raise Refused("channel_not_found")
        if not channel.member:
            raise Refused("not_in_channel")
        return channel

    def _fits(self, told: Mapping[str, Any]) -> dict[str, Any]:
        said = {key: told[key] for key in ("text", "blocks", "attachments", "metadata") if key in told}
        try:
            check(said)
        except Unfit as unfit:
            self.unfit.append(str(unfit))
            raise Refused(unfit.code) from None
        return said

    def _post(self, told: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._open(told)
        if not channel.member:
            raise Refused("not_in_channel")
        said = self._fits(told)
        self._paced(told["channel"])
        thread = told.get("thread_ts", "")
        if thread and thread not in {each.ts for each in channel.roots}:
            raise Refused("thread_not_found")
        message = Message(
            f"{self._time():.0f}.{next(self._count):06d}", {"blocks": [], "attachments": [], **said}, thread
        )
        channel.messages.append(message)
        return {"channel": told["channel"], "ts": message.ts, "message": said}

    def _paced(self, channel: str) -> None:
        if self._time() - self._posted.get(channel, 0.0) < self.apart:
            raise Refused("ratelimited")
        self._posted[channel] = self._time()

    def _update(self, told: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._open(told)
        message = next((each for each in channel.messages if each.ts == told.get("ts")), None)
        if message is None:
            raise Refused("message_not_found")
        if not self.editable:
            raise Refused("edit_window_closed")
        message.said |= self._fits(told)
        message.edits += 1
        return {"channel": told["channel"], "ts": message.ts, "text": message.said["text"]}

    def _history(self, messages: list[Message], told: Mapping[str, Any]) -> dict[str, Any]:
        """Newest first, by pages."""
        after = float(told.get("oldest", 0))
        found = [each for each in reversed(messages) if float(each.ts) > after]
        begin, limit = int(told.get("cursor") or 0), int(told.get("limit", 100))
        whole = str(told.get("include_all_metadata", "")).lower() in ("1", "true")
        shown = [
            {"type": "message", "ts": each.ts, "text": each.said["text"]}
            | ({"metadata": each.said["metadata"]} if whole and "metadata" in each.said else {})
            for each in found[begin : begin + limit]
        ]
        more = begin + limit < len(found)
        return {
            "messages": shown,
            "has_more": more,
            "response_metadata": {"next_cursor": str(begin + limit) if more else ""},
        }

    def _hook(self, told: dict[str, Any]) -> web.Response:
        if self.channel.archived:
            return web.Response(status=410, text="channel_is_archived")
        try:
            said = self._fits(told)
            self._paced("hook")
        except Refused as refused:
            if refused.code == "ratelimited":
                return web.json_response({"ok": False}, status=429, headers={"Retry-After": "1"})
            return web.Response(status=400, text=refused.code)
        self.hooked.append(said)
        if self.losing.get(HOOK, 0) > 0:
            self.losing[HOOK] -= 1
            return web.Response(status=502, text="bad gateway")
        return web.Response(text="ok")


class Refused(Exception):
    """By this code."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code, self.more = code, more


async def _told(request: web.Request) -> dict[str, Any]:
    """What a request says, in whichever way it does."""
    if request.method == "GET":
        return dict(request.query)
    if request.content_type == "application/json":
        told: dict[str, Any] = await request.json()
        return told
    form = {key: str(value) for key, value in (await request.post()).items()}
    nested = ("blocks", "attachments", "metadata")
    return {key: json.loads(value) if key in nested else value for key, value in form.items()}


def says(status: int, body: str = "", content_type: str = "application/json", **headers: str) -> Script:
    """Just this."""

    async def script(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=body, content_type=content_type, headers=named)

    return script


def refuses(code: str) -> Script:
    """As Slack does: with 200."""
    return says(200, json.dumps({"ok": False, "error": code}))


async def hangs(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def breaks(request: web.Request) -> web.StreamResponse:
    """Half an answer."""
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "100"})
    await response.prepare(request)
    await response.write(b'{"ok": true, ')
    assert request.transport
    request.transport.close()
    return response
