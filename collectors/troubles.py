"""What keeps us from following a cluster: said once, however many kinds it befalls and however long it lasts."""

import logging
from collections.abc import Callable

from collectors.answers import Unreachable

log = logging.getLogger(__name__)


class Troubles:
    """Which of a cluster's kinds are out of reach just now, and why."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._causes: dict[str, int] = {}
        self._unanswered: set[str] = set()
        # Is told why the server does not answer, and nothing once it does.
        self.on_reach: Callable[[str], None] = lambda reason: None

    def begins(self, who: str, trouble: Unreachable) -> None:
        """Tells of it, unless another kind is in the same trouble: one of the same status, or no answer at all."""
        known = {0, trouble.status} & set(self._causes.values())
        if who not in self._causes:
            self._causes[who] = trouble.status
            level = logging.INFO if known else logging.WARNING
            log.log(level, "%s: out of reach (%s); trying again", self._cluster, trouble)
        if not trouble.status:
            self._unanswered.add(who)
            self.on_reach(str(trouble))

    def ends(self, who: str) -> None:
        """Tells when the last of them is over."""
        if self._causes.pop(who, None) is not None and not self._causes:
            log.warning("%s: in step again", self._cluster)
        if who in self._unanswered:
            self._unanswered.discard(who)
            if not self._unanswered:
                self.on_reach("")
