"""Tells the many services that apprise knows, in short messages for people."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, NotifyType, OverflowMode

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.keys import read
from kubewhy.plain import clean
from kubewhy.records import Finding, Severity
from sinks.apart import apart
from sinks.news import is_news, may_be_news, told
from sinks.settings import NotifySettings
from sinks.wording import Word, headline, lines, worded

# It tells of addresses, which are secrets. What of it matters is heard here.
_LOG = logging.getLogger("apprise")
_LOG.propagate = False

_STATUS = re.compile(r"error=(\d{3})\b")
_SEVERAL = re.compile(r"[\s,][a-z0-9]+://", re.I)
# Services see mentions, links and markup in the plainest text, and apprise does not keep all of it from all of them. A
# character that takes no room stands in between, or one that looks alike instead.
_MENTION = re.compile(r"@(?=everyone|here|channel|all|room|\*\*)|(?<!\w)@(?=\w)|&(?=#?\w{1,32};)|\](?=\()", re.I)
_ALIKE = str.maketrans("<>", "\u2039\u203a")
_TYPES = {
    Severity.CRITICAL: NotifyType.FAILURE,
    Severity.WARNING: NotifyType.WARNING,
    Severity.INFO: NotifyType.INFO,
}


class Message(NamedTuple):
    """Plain text; apprise escapes it as the service has it."""

    sort: NotifyType
    title: str
    text: str


def made(settings: NotifySettings, environ: Mapping[str, str]) -> "NotifySink":
    """The sink of these settings. Raises ConfigError for an address that apprise cannot use."""
    key = str(settings.url_key)
    url = read(settings.url_key, environ).get_secret_value()
    if _SEVERAL.search(url):
        raise ConfigError(f"{key} holds several addresses: give each a sink of its own")
    # Pictures would be fetched from elsewhere by whoever reads.
    asset = AppriseAsset(app_id="kubewhy", image_url_mask="", image_url_logo="", async_mode=False)
    service = Apprise.instantiate(url, asset=asset)
    if service is None:
        raise ConfigError(
            f"what {key} gives is no address that apprise can use: something is missing in it, or the library for it; "
            "https://appriseit.com/services has them all"
        )
    service.socket_connect_timeout = min(10.0, settings.timeout_seconds)
    service.socket_read_timeout = settings.timeout_seconds
    title, text = worded(settings.templates, _title, _text, harmless)
    return NotifySink(service, key, settings.timeout_seconds, lambda finding: render(finding, title, text))


def render(finding: Finding, title: Word, text: Word) -> Message:
    """How a finding is told."""
    over = finding.transition == "resolved"
    head = title(finding) or harmless(headline(finding))
    return Message(NotifyType.SUCCESS if over else _TYPES[finding.incident.severity], head, text(finding) or head)


def harmless(text: str) -> str:
    """The same to the eye, and nothing else to any service."""
    return _MENTION.sub(lambda found: f"{found[0]}\u200b", text.translate(_ALIKE))


def _title(finding: Finding) -> str:
    return harmless(headline(finding))


def _text(finding: Finding) -> str:
    return harmless("\n".join(lines(finding)))


class NotifySink:
    """Its library blocks, so each message has a thread. There is one at a time, even of one that hangs."""

    manner = Manner(at_most=1)

    def __init__(self, service: NotifyBase, key: str, seconds: float, render: Callable[[Finding], Message]) -> None:
        self._service = service
        self._name = str(service.service_name or "the service")
        self._key = key
        self._seconds = seconds
        self._render = render
        self._sending: tuple[str, asyncio.Future[tuple[bool, str]]] | None = None

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns once all are sent. One that was sent just before the process died is sent again."""
        for letter in letters:
            if is_news(memo, letter.finding):
                await self._send(letter.finding)
                told(memo, letter.finding)

    def preview(self, finding: Finding) -> str:
        """The message: its title, and the text beneath."""
        if not may_be_news(finding):
            return ""
        message = self._render(finding)
        return "\n".join([clean(message.title), *(f"  {clean(each)}" for each in message.text.splitlines())])

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """Nothing is held open."""

    async def _send(self, finding: Finding) -> None:
        if self._sending and self._sending[0] != finding.id and not self._sending[1].done():
            raise RetryLater(f"{self._name} has not yet taken the message before")
        if not self._sending or self._sending[0] != finding.id:
            message = self._render(finding)
            self._sending = finding.id, apart(lambda: _notify(self._service, message))
        try:
            # One that came too late still counts, if it is asked for again.
            async with asyncio.timeout(self._seconds):
                taken, heard = await asyncio.shield(self._sending[1])
        except TimeoutError:
            raise RetryLater(f"{self._name} does not answer within {self._seconds:g} seconds") from None
        self._sending = None
        if not taken:
            raise self._refusal(heard)

    def _refusal(self, heard: str) -> Exception:
        name, found = self._name, _STATUS.search(heard)
        status = int(found[1]) if found else 0
        match status:
            case 401 | 403:
                return ConfigError(f"{name} does not accept what {self._key} gives ({status}): check or renew it")
            case 404 | 410:
                return ConfigError(f"{name} knows no such place ({status}): check what {self._key} gives")
            case 400 | 413 | 422:
                return Rejected(f"{name} refuses it ({status})")
        told = f" ({status})" if status else ""
        return RetryLater(f"{name} does not take it{told}; is the address right, and does it run?")


class _Heard(logging.Handler):
    """The statuses that the library hears of: it returns none."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _notify(service: NotifyBase, message: Message) -> tuple[bool, str]:
    heard = _Heard()
    _LOG.addHandler(heard)
    try:
        taken = service.notify(
            body=message.text,
            title=message.title,
            notify_type=message.sort,
            overflow=OverflowMode.TRUNCATE,
            body_format=NotifyFormat.TEXT,
        )
    finally:
        _LOG.removeHandler(heard)
    return taken, "\n".join(heard.lines)
