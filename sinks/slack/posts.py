"""Messages that are posted once, whatever happens in between, and edited from then on.

Before a message is posted, that it will be is remembered; and it says itself, as metadata, which one it is. So where
nobody knows whether it arrived, it is looked for.
"""

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec

from kubewhy.contracts import Memo
from kubewhy.errors import RetryLater
from kubewhy.records import Finding
from sinks.settings import SlackSettings
from sinks.slack.blocks import Message, is_open
from sinks.slack.client import Connection, web
from sinks.slack.refusals import Refusal, meaning

log = logging.getLogger(__name__)

EVENT = "kubewhy_incident"
_SKEW = timedelta(hours=1)  # Slack's clock may differ from ours
_PAGE, _PAGES = 200, 50
_DELETED = {"message_not_found", "thread_not_found"}
_FIXED = {"cant_update_message", "edit_window_closed"}
_NO_THREADS = {"cannot_reply_to_message", "restricted_action_non_threadable_channel", "not_reply_enabled"}
_NO_HISTORY = {"missing_scope", "not_in_channel", "channel_not_found", "no_permission", "access_denied"}


_HISTORY = "give the app the scope channels:history (groups:history for a private channel), and invite it"


class Post(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. Without `ts` it may have arrived, or not."""

    channel: str
    intended: datetime
    ts: str = ""
    revision: int = 0  # of the finding that it shows
    shown: str = ""  # what it shows, as a digest
    rank: int = 0  # of the severity with which it was posted
    lost: bool = False  # a person deleted it
    fixed: bool = False  # it can be edited no more
    over: datetime | None = None  # since when the incident is


def read(memo: Memo, key: str) -> Post | None:
    """What is remembered of a message. A row that is none is as good as none."""
    try:
        return msgspec.json.decode(memo.get(key) or b"", type=Post)
    except msgspec.DecodeError:
        return None


def write(memo: Memo, key: str, post: Post) -> Post:
    """Remembers it."""
    memo.put(key, msgspec.json.encode(post))
    return post


class Poster:
    """Knows one channel."""

    def __init__(self, settings: SlackSettings, token: str, clock: Callable[[], datetime]) -> None:
        self._settings, self._token, self._clock = settings, token, clock
        self._connection = Connection(settings.url, settings.timeout_seconds, settings.ca_file)
        self.asked = 0  # how often Slack was

    async def close(self) -> None:
        await self._connection.close()

    async def call(self, method: str, **told: Any) -> Mapping[str, Any]:
        """One of the library's methods. Raises RetryLater, ConfigError, and Refusal where Slack says no."""
        self.asked += 1
        client = web(self._connection, self._settings.url, self._token)
        answer = await self._connection.within(getattr(client, method)(**told))
        if not isinstance(answer.data, dict):
            raise self._odd()
        return {**answer.data, "headers": answer.headers}

    def error(self, refusal: Refusal) -> Exception:
        """What it stands for."""
        return meaning(refusal, channel=self._settings.channel, secret=str(self._settings.token))

    async def check(self) -> list[str]:
        """What people should know before they rely on it. Raises ConfigError for what does not work at all."""
        try:
            known = await self.call("auth_test")
        except Refusal as refusal:
            raise self.error(refusal) from None
        scopes = known["headers"].get("x-oauth-scopes", "chat:write").split(",")
        if "chat:write" not in scopes:
            raise self.error(Refusal("missing_scope", scope="chat:write"))
        try:
            await self.call("conversations_history", channel=self._settings.channel, limit=1)
        except Refusal as refusal:
            if refusal.code not in _NO_HISTORY:
                raise self.error(refusal) from None
            return [f"cannot look whether a message has arrived ({refusal.code}), so one may come twice: {_HISTORY}"]
        return []

    async def show(self, memo: Memo, key: str, message: Message, finding: Finding, parent: Post | None = None) -> Post:
        """Sees to it that the message shows that finding or a later one, in the thread of `parent` if there is one."""
        look = blake2b(msgspec.json.encode(message), digest_size=8).hexdigest()
        post = read(memo, key)
        if post and (post.lost or post.revision >= finding.revision):
            return post
        if post and not post.ts and (ts := await self._find(post, key, parent)):
            post = write(memo, key, msgspec.structs.replace(post, ts=ts))
        if post and post.ts:
            post = post if post.fixed or post.shown == look else await self._edit(post, key, message)
        else:
            channel = parent.channel if parent else self._settings.channel
            intent = Post(channel=channel, intended=self._clock(), rank=finding.incident.severity.rank)
            post = await self._add(memo, post or write(memo, key, intent), key, message, parent)
        over = None if is_open(finding.incident) else self._clock()
        return write(memo, key, msgspec.structs.replace(post, revision=finding.revision, shown=look, over=over))

    async def _add(self, memo: Memo, post: Post, key: str, message: Message, parent: Post | None) -> Post:
        thread = {"thread_ts": parent.ts} if parent else {}
        told = {**message, **_ours(key), "unfurl_links": False, "unfurl_media": False, **thread}
        try:
            answer = await self.call("chat_postMessage", channel=post.channel, **told)
        except Refusal as refusal:
            if parent and (refusal.code in _DELETED | _NO_THREADS or self._is_left(post, refusal)):
                return msgspec.structs.replace(post, lost=True)
            error = self.error(refusal)
            if not isinstance(error, RetryLater) or refusal.too_often:
                memo.put(key, None)  # it has not arrived, which is as good as never tried
            raise error from None
        ts = answer.get("ts")
        if not isinstance(ts, str) or not re.fullmatch(r"[0-9]{1,20}\.[0-9]{1,9}", ts):
            raise self._odd()
        return msgspec.structs.replace(post, ts=ts)

    async def _edit(self, post: Post, key: str, message: Message) -> Post:
        try:
            # What is left out stays as it was: a message without attachments says so.
            told = {"blocks": [], "attachments": [], **message, **_ours(key)}
            await self.call("chat_update", channel=post.channel, ts=post.ts, **told)
        except Refusal as refusal:
            if refusal.code in _DELETED or self._is_left(post, refusal):
                return msgspec.structs.replace(post, lost=True)
            if refusal.code in _FIXED:
                return msgspec.structs.replace(post, fixed=True)
            raise self.error(refusal) from None
        return post

    async def _find(self, post: Post, key: str, parent: Post | None) -> str | None:
        """When the message was posted, by Slack's clock, if it was."""
        asked: dict[str, Any] = {
            "channel": post.channel,
            "oldest": f"{(post.intended - _SKEW).timestamp():.6f}",
            "include_all_metadata": True,
            "limit": _PAGE,
        }
        method = "conversations_history"
        if parent:
            method, asked["ts"] = "conversations_replies", parent.ts
        for _ in range(_PAGES):
            try:
                page = await self.call(method, **asked)
            except Refusal as refusal:
                if refusal.code in _DELETED:
                    return None
                if refusal.code not in _NO_HISTORY:
                    raise self.error(refusal) from None
                log.warning(
                    "sink %s: cannot look whether a message has arrived (%s), so one may come twice: %s",
                    self._settings.called,
                    refusal.code,
                    _HISTORY,
                )
                return None
            found, asked["cursor"] = _in(page, key)
            if found or not asked["cursor"]:
                return found
        return None

    def _is_left(self, post: Post, refusal: Refusal) -> bool:
        """Whether it is in a channel that is no more, and that the settings name no more."""
        return post.channel != self._settings.channel and refusal.no_channel

    def _odd(self) -> RetryLater:
        return RetryLater(f"what {self._connection.host} answers is not what Slack answers; is `url` right?")


def _ours(key: str) -> Message:
    """What all messages have in common: nothing in them calls anybody but by mark-up, and each says which it is."""
    return {
        "parse": "none",
        "link_names": False,
        "metadata": {"event_type": EVENT, "event_payload": {"message": key}},
    }


def _in(page: Mapping[str, Any], key: str) -> tuple[str | None, str | None]:
    """The message on a page of the history, and where the next page begins."""
    try:
        for each in page["messages"]:
            ours = each.get("metadata") or {}
            if ours.get("event_type") == EVENT and ours.get("event_payload", {}).get("message") == key:
                return str(each["ts"]), None
        return None, (page.get("response_metadata") or {}).get("next_cursor") or None
    except (AttributeError, KeyError, TypeError):
        raise RetryLater("the history that Slack gives is not understood") from None
