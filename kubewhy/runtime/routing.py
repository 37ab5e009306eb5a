"""Which findings go to which sinks, by the routes of the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from explainer.digests import is_digest
from explainer.matchers import LABEL, NAMESPACE_LABEL, Matchers, fit, parse_all
from explainer.storms import Storms
from kubewhy.contracts import State
from kubewhy.records import Finding, IncidentView, Severity, Told
from kubewhy.settings import Settings

ROUTED = "routed\x1f"  # begins the keys of the rows that say who was told of an open incident
STORM = "storm\x1f"  # begins those of the rows of storms, before the name of the sink


@dataclass(frozen=True)
class Route:
    """Every route that fits delivers; their order means nothing."""

    matchers: Matchers
    severity: Severity
    sinks: tuple[str, ...]

    def fits(self, incident: IncidentView) -> bool:
        """Whether one of its failures fits in all respects."""
        return any(
            failure.severity.rank >= self.severity.rank and fit(self.matchers, _labels(incident, failure))
            for failure in incident.failures
        )


class Router:
    """Who is told what. A sink that no route names is told everything.

    Who was once told of an incident is told all about it to its end, also where no route fits any more; and who was
    not is not told that it has ended. What is silenced goes only to sinks that ask for it.
    """

    def __init__(self, settings: Settings) -> None:
        self._archives = {sink.called: sink.silenced for sink in settings.sinks}
        self._routes = [Route(parse_all(each.matchers), each.severity, each.sinks) for each in settings.routes]
        self._routed = {name for route in self._routes for name in route.sinks}
        repeat = settings.incidents.repeat
        self._storms = {sink.called: Storms(sink.called, repeat) for sink in settings.sinks if sink.digest}
        self._told: dict[str, frozenset[str]] = {}  # of each open incident, which sinks that routes name
        self._ended: set[str] = set()
        self._changed: set[str] = set()
        self._stale: set[str] = set()  # keys of rows that nobody needs any more

    @property
    def labels(self) -> frozenset[str]:
        """The labels that findings have to carry."""
        names = {matcher.name for route in self._routes for matcher in route.matchers}
        return frozenset(name for name in names if name.startswith((LABEL, NAMESPACE_LABEL)))

    def sinks(self, finding: Finding) -> list[str]:
        """Who is told of it, in the order of the settings. Asked again before `rows`, the answer is the same."""
        incident = finding.incident
        before = self._told.get(incident.id)
        told = before if before is not None and finding.transition == "resolved" else self._fitting(incident)
        told |= before or frozenset()
        if self._routes:
            self._told[incident.id] = told
            if told != before:
                self._changed.add(incident.id)
            if finding.transition == "resolved":
                self._ended.add(incident.id)
        return [
            name
            for name, archives in self._archives.items()
            if (name in told or name not in self._routed) and (archives or not incident.silenced)
        ]

    def shares(self, finding: Finding) -> Iterator[tuple[str, Finding]]:
        """Which sinks get what, one after the other. A digest goes to the sink that it was made for."""
        if is_digest(finding.incident):
            # One that nobody claims is of a sink that has none any more: it gets the incidents themselves.
            yield from ((name, finding) for name, storms in self._storms.items() if storms.claims(finding))
            return
        for name in self.sinks(finding):
            storms = self._storms.get(name)
            yield from ((name, each) for each in (storms.feed(finding, finding.at) if storms else [finding]))

    def tick(self, now: datetime) -> list[Finding]:
        """Digests that are due, to be sent as other findings are."""
        return [digest for storms in self._storms.values() for digest in storms.tick(now)]

    def flush(self, now: datetime) -> list[Finding]:
        """Digests with what they have not told yet: for when nothing comes after."""
        return [digest for storms in self._storms.values() for digest in storms.flush(now)]

    def rows(self) -> dict[str, bytes | None]:
        """What has changed since this was last asked, to be written when the findings have arrived; None deletes."""
        for key in self._ended:
            del self._told[key]
        changed = {ROUTED + key: _encoded(self._told.get(key)) for key in self._changed | self._ended}
        changed |= dict.fromkeys(self._stale)
        self._ended, self._changed, self._stale = set(), set(), set()
        for name, storms in self._storms.items():
            changed |= {f"{STORM}{name}\x1f{key}": row for key, row in storms.rows().items()}
        return changed

    def restore(self, state: State) -> None:
        """As it was when those rows were written. A row that is none is as good as none."""
        for key, row in state.scan(ROUTED):
            try:
                self._told[key.removeprefix(ROUTED)] = msgspec.json.decode(row, type=frozenset[str])
            except msgspec.DecodeError:
                continue
        by_sink: dict[str, list[tuple[str, bytes]]] = {}
        for whole, row in state.scan(STORM):
            name, _, key = whole.removeprefix(STORM).partition("\x1f")
            if name in self._storms:
                by_sink.setdefault(name, []).append((key, row))
            else:
                self._stale.add(whole)
        for name, rows in by_sink.items():
            self._storms[name].restore(rows)

    def _fitting(self, incident: IncidentView) -> frozenset[str]:
        return frozenset(name for route in self._routes if route.fits(incident) for name in route.sinks)


def _labels(incident: IncidentView, failure: Told) -> dict[str, str]:
    ref = failure.object
    return {
        "cluster": incident.cluster,
        "namespace": ref.namespace or "",
        "kind": ref.kind,
        "name": ref.name,
        "rule": failure.rule,
        "severity": str(failure.severity),
        **failure.labels,
    }


def _encoded(told: frozenset[str] | None) -> bytes | None:
    return None if told is None else msgspec.json.encode(sorted(told))
