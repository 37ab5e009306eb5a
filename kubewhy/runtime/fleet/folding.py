"""The explainer on Kafka: the incidents of each partition, folded from its records."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from explainer.incidents import Incidents
from kubewhy.errors import ConfigError
from kubewhy.events import FLEET, Message, decode, message
from kubewhy.records import Answer, IncidentView, Report, SilenceChange, Tick
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.fleet.kafka import partition_of
from kubewhy.runtime.fleet.tables import Arrived, Folded
from kubewhy.runtime.patience import at_once
from kubewhy.runtime.telemetry.notes import HELD, Notes
from kubewhy.topics import FAILURES, FINDINGS

_UNREADABLE = (
    "what the explainer remembers of partition {} cannot be read by this kubewhy ({}): run the version that wrote it, "
    "or remove the topic of its rows and make it anew by `kubewhy topics create`; what is open is then told again"
)
_CLUSTERS, _FLEET, _BUDGET = "clusters\x1f", "fleet\x1f", "budget"


class Explaining:
    """A fold over partitions. `make` gives the incidents of clusters, or with True those of the fleet.

    `silences` gives all that there are, by id; what is otherwise than it was told is told to each partition. With
    `no_hold` nothing has to last before it is told.
    """

    def __init__(
        self,
        make: Callable[[bool], Incidents],
        partitions: int,
        *,
        silences: Callable[[], Mapping[str, SilenceChange]] = dict,
        calls: Calls | None = None,
        no_hold: bool = False,
        notes: Notes | None = None,
    ) -> None:
        self._notes = notes or Notes()
        self._no_hold = no_hold
        self._make, self._partitions, self._silences, self._calls = make, partitions, silences, calls
        self._places: dict[int, _Place] = {}
        self._answers: list[Answer] = []

    def begin(self, partition: int, rows: Iterable[tuple[str, bytes]]) -> None:
        """It is ours from now on, as those rows say."""
        kept = list(rows)
        place = self._places[partition] = _Place(self._make(False), self._make(True))
        for prefix, incidents in ((_CLUSTERS, place.clusters), (_FLEET, place.fleet)):
            try:
                incidents.restore((key.removeprefix(prefix), row) for key, row in kept if key.startswith(prefix))
            except (msgspec.DecodeError, KeyError, ValueError) as error:
                raise ConfigError(_UNREADABLE.format(partition, error)) from None
        place.silenced = {
            silence.id: SilenceChange(id=silence.id, silence=silence) for silence in place.clusters.silences()
        }
        for key, row in kept:
            if key == _BUDGET and self._calls:
                self._calls.spent_before(row)

    def end(self, partition: int) -> None:
        """It went elsewhere."""
        self._places.pop(partition, None)

    def feed(self, record: Arrived) -> Folded:
        """What one record leads to. Raises Rejected for what is none."""
        place = self._places[record.partition]
        told = decode(FAILURES, record.value, record.headers)
        now = place.now = max(place.now or record.at, record.at)
        if record.key == FLEET.encode():
            findings = list(place.fleet.feed(told, now))
            self._notes.folded(told, findings)
            return Folded([*map(message, findings), *_gone(place.fleet)], _rows(_FLEET, place.fleet))
        if self._no_hold and isinstance(told, Report):
            told = at_once(told)
        findings = list(place.clusters.feed(told, now))
        rows = _rows(_CLUSTERS, place.clusters)
        if isinstance(told, Tick | SilenceChange):
            findings += place.fleet.feed(told, now)
            rows |= _rows(_FLEET, place.fleet)
            self._notes.spared(HELD, place.clusters.spared() - place.spared)
            place.spared = place.clusters.spared()
        if isinstance(told, Tick) and self._calls:
            rows |= self._budget(place)
        self._notes.folded(told, findings)
        return Folded([*map(message, findings), *_gone(place.clusters), *_gone(place.fleet)], rows)

    def turn(self, partition: int) -> Sequence[Message]:
        """What is to be appended to that partition now: silences that changed, answers, and that time has passed."""
        place = self._places.get(partition)
        if place is None:
            return ()
        told: list[msgspec.Struct] = [*place.silences(self._silences()), *self._answered(partition), Tick()]
        return [message(each, topic=FAILURES)._replace(partition=partition) for each in told]

    def views(self) -> list[IncidentView]:
        """What is open in the partitions that are ours."""
        return [
            view for place in self._places.values() for fold in (place.clusters, place.fleet) for view in fold.views()
        ]

    def open(self) -> Counter[tuple[str, str]]:
        """How many incidents are open in the partitions that are ours, by cluster and severity."""
        found = Counter[tuple[str, str]]()
        for place in self._places.values():
            found.update(place.clusters.count())
            # Of clusters that are well, what is theirs says so.
            found.update({key: many for key, many in place.fleet.count().items() if many})
        return found

    def ask(self) -> None:
        """Has a model asked what is wanted: once for all partitions, for only so many may be asked at once."""
        if self._calls:
            wanted = [each for place in self._places.values() if place.now for each in place.clusters.wanted(place.now)]
            self._calls.start(wanted)
            self._answers += self._calls.take()
            # Of a partition that went elsewhere: it is asked again there.
            ours = (each for each in self._answers if partition_of(each.cluster, self._partitions) in self._places)
            self._answers = list(ours)

    def _answered(self, partition: int) -> list[Answer]:
        ours = [each for each in self._answers if partition_of(each.cluster, self._partitions) == partition]
        self._answers = [each for each in self._answers if each not in ours]
        return ours

    def _budget(self, place: "_Place") -> dict[str, bytes | None]:
        assert self._calls
        row = self._calls.budget()
        if row == place.budget:
            return {}
        place.budget = row
        return {_BUDGET: row}


class _Place:
    """One partition: the incidents of its clusters, and those of the fleet, should they have their place there."""

    def __init__(self, clusters: Incidents, fleet: Incidents) -> None:
        self.clusters, self.fleet = clusters, fleet
        self.now: datetime | None = None
        self.silenced: dict[str, SilenceChange] = {}
        self.budget: bytes | None = None
        self.spared = 0  # failures, as far as was noted

    def silences(self, all_there_are: Mapping[str, SilenceChange]) -> list[SilenceChange]:
        """Those that are otherwise than this partition was told."""
        if all_there_are == self.silenced:
            return []
        changed = [change for key, change in all_there_are.items() if self.silenced.get(key) != change]
        gone = [SilenceChange(id=key) for key in self.silenced if key not in all_there_are]
        self.silenced = dict(all_there_are)
        return changed + gone


def _rows(prefix: str, incidents: Incidents) -> dict[str, bytes | None]:
    return {prefix + key: row for key, row in incidents.rows().items()}


def _gone(incidents: Incidents) -> Iterator[Message]:
    """What takes incidents that ended long ago out of the topic of findings."""
    for cluster, known in incidents.forgotten():
        yield Message(FINDINGS, known.encode(), None, [], cluster)
