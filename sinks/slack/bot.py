"""A Slack app in one channel: one message an incident, edited as it goes on, with a thread for what it leaves out."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from pydantic import SecretStr

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import Rejected
from kubewhy.records import Finding, encode
from sinks.settings import SlackSettings
from sinks.slack import thread
from sinks.slack.blocks import Message, is_open, message
from sinks.slack.look import Look
from sinks.slack.posts import Post, Poster, read
from sinks.slack.shown import beneath, shown

MANNER = Manner(at_most=1, merges=True, apart=timedelta(seconds=1), aside=True)

_KEPT = timedelta(days=1)  # what is remembered of an incident after its end
_SWEPT = timedelta(hours=1)

# What keys of the memo begin with: messages in the channel, what stands in their threads, and what has yet to go there.
_POST, _REPLY, _WAIT = "post/", "reply/", "wait/"


class SlackBot:
    """Edits in place. What goes into threads waits in the memo until there is nothing better to do."""

    def __init__(
        self, settings: SlackSettings, token: SecretStr, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._look = Look.of(settings)
        self._poster = Poster(settings, token.get_secret_value(), clock)
        self._clock = clock
        self._swept: datetime | None = None

    @property
    def manner(self) -> Manner:
        return MANNER

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Into the channel; but what a digest stands for goes into its thread."""
        for finding in (letter.finding for letter in letters):
            if not finding.digest:
                await self._poster.show(memo, _POST + finding.incident.id, message(finding, self._look), finding)
            _put_off(finding, memo)

    def preview(self, finding: Finding) -> str:
        """The message, and beneath it what stands in its thread."""
        if finding.digest:
            return beneath(message(finding, self._look.silent))
        details = thread.details(finding)
        under = [beneath(details)] if details else []
        return "\n".join([shown(message(finding, self._look)), *under])

    async def spare(self, memo: Memo) -> bool:
        """One message in one thread."""
        for key, row in list(memo.scan(_WAIT)):
            asked = self._poster.asked
            try:
                done = await self._beneath(msgspec.json.decode(row, type=Finding), memo)
            except Rejected:
                memo.put(key, None)
                raise
            if done:
                memo.put(key, None)
            if self._poster.asked > asked:
                return True
        self._sweep(memo)
        return False

    async def check(self) -> list[str]:
        """What people should know before they rely on it. Raises ConfigError for what does not work at all."""
        return await self._poster.check()

    async def close(self) -> None:
        await self._poster.close()

    async def _beneath(self, finding: Finding, memo: Memo) -> bool:
        """Whether all that belongs into a thread is there. At most one message is sent."""
        parent = read(memo, _POST + (finding.digest or finding.incident.id))
        if parent is None or not parent.ts:
            # It may yet come, but not for ever.
            return bool(parent and parent.lost) or self._clock() - finding.at > _KEPT
        for key, told in self._replies(finding, parent):
            asked = self._poster.asked
            await self._poster.show(memo, key, told, finding, parent)
            if self._poster.asked > asked:
                return False
        return True

    def _replies(self, finding: Finding, parent: Post) -> Iterator[tuple[str, Message]]:
        if parent.lost:
            return
        incident = finding.incident
        if finding.digest:
            yield _POST + incident.id, message(finding, self._look.silent)
            return
        ours = f"{_REPLY}{incident.id}/"
        call = self._look.mentions.get(incident.severity)
        if call and is_open(incident) and incident.severity.rank > parent.rank:
            yield f"{ours}worse/{incident.severity}", thread.worse(finding, call)
        if told := thread.details(finding):
            yield f"{ours}details", told
        if finding.transition == "repeated":
            yield f"{ours}repeated/{finding.revision}", thread.repeated(finding)
        if not is_open(incident):
            yield f"{ours}ended", thread.ended(finding)

    def _sweep(self, memo: Memo) -> None:
        """Forgets incidents that have long been over."""
        now = self._clock()
        if self._swept and now - self._swept < _SWEPT:
            return
        self._swept = now
        for key, _ in list(memo.scan(_POST)):
            post = read(memo, key)
            if post is None or (post.over and now - post.over > _KEPT):
                for reply, _ in list(memo.scan(f"{_REPLY}{key.removeprefix(_POST)}/")):
                    memo.put(reply, None)
                memo.put(key, None)


def _put_off(finding: Finding, memo: Memo) -> None:
    """The worst comes first. What was put off before of the same incident is out of date."""
    for rank in range(3):
        key = f"{_WAIT}{2 - rank}/{finding.incident.id}"
        if rank == finding.incident.severity.rank:
            memo.put(key, encode(finding))
        elif memo.get(key) is not None:
            memo.put(key, None)
