"""A Slack incoming webhook, which can only add: one message when an incident opens, and one when it is over."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.errors import ConfigError
from kubewhy.records import Finding
from sinks.settings import SlackWebhookSettings
from sinks.slack.blocks import compact, is_open
from sinks.slack.client import Connection, refused, webhook
from sinks.slack.look import Look
from sinks.slack.refusals import Refusal, meaning
from sinks.slack.shown import shown

MANNER = Manner(at_most=1, merges=True, apart=timedelta(seconds=1), aside=True)

_KEPT = timedelta(days=1)  # what is remembered of an incident after its end
_OPEN, _OVER = b"open", b"over "


class SlackWebhook:
    """Slack tells nothing of a message that it took, so one of which nobody knows whether it arrived comes again."""

    def __init__(
        self,
        settings: SlackWebhookSettings,
        url: SecretStr,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._url, self._clock = settings, url, clock
        self._look = Look.of(settings)
        if not url.get_secret_value().startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ConfigError(f"{settings.url_key} holds no address of a webhook: it begins with https://")
        self._connection = Connection(url.get_secret_value(), settings.timeout_seconds, settings.ca_file)

    @property
    def manner(self) -> Manner:
        return MANNER

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """What a digest stands for has no lines of its own: there is no thread to put them into."""
        for finding in (letter.finding for letter in letters):
            told = memo.get(finding.incident.id) or b""
            lasts = is_open(finding.incident)
            if finding.digest or told.startswith(_OVER) or (told and lasts):
                continue
            await self._post(finding)
            memo.put(finding.incident.id, _OPEN if lasts else _OVER + self._clock().isoformat().encode())

    def preview(self, finding: Finding) -> str:
        """The message, where there is one: updates are not told."""
        told = finding.transition in ("opened", "resolved") and not finding.digest
        return shown(compact(finding, self._look)) if told else ""

    async def spare(self, memo: Memo) -> bool:
        """Forgets incidents that have long been over."""
        for key, told in list(memo.scan()):
            if told.startswith(_OVER):
                over = datetime.fromisoformat(told.removeprefix(_OVER).decode())
                if self._clock() - over > _KEPT:
                    memo.put(key, None)
        return False

    async def check(self) -> list[str]:
        """What people should know before they rely on it. Nothing but a message tells whether it works."""
        return ["a webhook does not tell what has arrived, so a message may come twice; `type: slack` prevents that"]

    async def close(self) -> None:
        await self._connection.close()

    async def _post(self, finding: Finding) -> None:
        client = webhook(self._connection, self._url.get_secret_value())
        told = {**compact(finding, self._look), "parse": "none", "link_names": False}
        answer = await self._connection.within(client.send_dict(told))
        if answer.status_code == 200 and answer.body.strip() == "ok":
            return
        # Here the code is the whole of the answer.
        error = refused(self._connection.host, answer.status_code, {"error": answer.body.strip()}, answer.headers)
        if isinstance(error, Refusal):
            error = meaning(error, channel="of the webhook", secret=str(self._settings.url_key))
        raise error
