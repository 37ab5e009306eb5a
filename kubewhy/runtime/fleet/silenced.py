"""The silences of a fleet, as they are on their topic and in the settings."""

import asyncio
import logging
from typing import Any

from explainer.matchers import parse_all
from kubewhy.errors import Rejected
from kubewhy.events import decode
from kubewhy.records import SilenceChange
from kubewhy.runtime.fleet.kafka import Kafka
from kubewhy.runtime.fleet.tailing import Tail
from kubewhy.runtime.silencing import of_settings
from kubewhy.settings import Settings
from kubewhy.topics import SILENCES

log = logging.getLogger(__name__)


class Silenced:
    """The silences of the settings, and those that people have added, as they come."""

    def __init__(self, kafka: Kafka, settings: Settings) -> None:
        self._kafka = kafka
        self._known = {each.id: SilenceChange(id=each.id, silence=each) for each in of_settings(settings)}
        self._ours = frozenset(self._known)
        self.caught_up = asyncio.Event()

    def known(self) -> dict[str, SilenceChange]:
        """By id. Those that have ended are among them: what they go by is the record's time."""
        return dict(self._known)

    async def follow(self) -> None:
        """For ever."""
        async for records in Tail(self._kafka, SILENCES).batches():
            for record in records:
                self._take((record.key or b"").decode(errors="replace"), record)
            if not records:
                self.caught_up.set()

    def _take(self, key: str, record: Any) -> None:
        if key in self._ours:
            return
        try:
            change: SilenceChange | None = decode(SILENCES, record.value, record.headers) if record.value else None
            if change and change.silence:
                parse_all(change.silence.matchers)
        except (Rejected, ValueError) as error:
            log.warning("silence %s cannot be read (%s); it silences nothing: add it again", key[:100], error)
            return
        if change is None or change.silence is None:
            self._known.pop(key, None)
        else:
            self._known[key] = change
