"""The board of a fleet: how each incident stands, by its last finding. Needs the findings' topic, and nothing else."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from kubewhy.errors import Rejected
from kubewhy.events import ALONE, decode
from kubewhy.records import Finding, IncidentView
from kubewhy.topics import FINDINGS

# So long resolved incidents are shown where they are asked for.
LOOKED_BACK = timedelta(days=1)


class Board:
    """The last finding of each incident. What cannot be read is passed over."""

    def __init__(self) -> None:
        self._last: dict[str, Finding] = {}

    def take(self, records: Iterable[Any]) -> bool:
        """The records of a consumer. Whether they change what is shown."""
        changed = False
        for record in records:
            if ALONE in dict(record.headers):
                continue
            key = (record.key or b"").decode(errors="replace")
            if record.value is None:
                changed |= self._last.pop(key, None) is not None
                continue
            try:
                finding: Finding = decode(FINDINGS, record.value, record.headers)
            except Rejected:
                continue
            before = self._last.get(key)
            if before is None or finding.revision >= before.revision:
                self._last[key] = finding
                changed = True
        return changed

    def forget(self, now: datetime) -> None:
        """Those that were resolved long ago."""
        for key, finding in list(self._last.items()):
            ended = finding.incident.resolved_at
            if ended and now - ended > LOOKED_BACK:
                del self._last[key]

    def views(self, *, resolved: bool = False, cluster: str | None = None) -> list[IncidentView]:
        """What is open, and with `resolved` what has ended of late; of all clusters, or of one, by its id or name."""
        return [
            finding.incident
            for finding in self._last.values()
            if (resolved or finding.incident.state == "open")
            and (cluster is None or cluster in (finding.incident.cluster, finding.incident.cluster_name))
        ]
