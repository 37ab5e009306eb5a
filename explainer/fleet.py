"""Many clusters that fall silent at once: one incident for all of them, and one each for those that are few. Pure.

Three at once are seldom three faults: more likely it is what they share, such as the brokers or the way to them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from explainer.cluster import Cluster, Head, Incident, shape
from explainer.correlation import Group, Held, correlate
from explainer.regrouping import QUIET, end, pause
from explainer.remembering import nothing
from explainer.silences import Silences
from explainer.telling import finding
from explainer.unheard import SILENT, fell_silent, said_of, silence_of
from kubewhy.events import FLEET
from kubewhy.records import Finding, Ref

# A cluster that has fallen silent waits so long for others that do. Heartbeats come every ten seconds, so those that
# one fault cuts off fall silent within these.
WAITING = timedelta(seconds=15)
MANY = 3
_ROOT = Ref("Fleet", FLEET)


class Fleet:
    """What is told of silent clusters, where one fold hears of all of them.

    `clusters` are all of them by name, in order; `whole` gives the one that stands for all, and has their common
    incidents. A cluster names in its row the one that it is in.
    """

    def __init__(
        self, clusters: Mapping[str, Cluster], whole: Callable[[datetime], Cluster], silences: Silences
    ) -> None:
        self._clusters, self._whole, self._silences = clusters, whole, silences
        self._late: dict[str, None] = {}  # incidents whose clusters are others than they were

    def heard(self, cluster: Cluster) -> None:
        """It is silent no more; what that changes comes with the next Tick, for many are heard of at once."""
        if cluster.fleet:
            self._late[cluster.fleet] = None

    def tick(self, now: datetime) -> Iterator[Finding]:
        """What is to be told now that it is so late."""
        yield from self._waited(now)
        if FLEET not in self._clusters:
            return
        whole = self._whole(now)
        for key in list(self._late):
            yield from self._regrouped(whole, key, now)
        self._late.clear()
        for incident in list(whole.unheard.values()):
            head = incident.head
            changed = head.changed_at and now - head.changed_at >= QUIET
            if changed and now - head.told_at >= pause(incident):
                yield self._updated(whole, incident, now)

    def silenced(self, now: datetime) -> Iterator[Finding]:
        """A silence has begun or ended."""
        if FLEET in self._clusters:
            whole = self._whole(now)
            for key in list(whole.unheard):
                yield from self._regrouped(whole, key, now)

    def restore(self, heads: Iterable[Head]) -> None:
        """As it was when those rows were written. All clusters come before."""
        for head in heads:
            if members := self._members(head.id):
                group = self._group([each for each in members if each.is_stale] or members, head.told_at)
            else:
                group = nothing(head)
            self._whole(head.opened_at).unheard[head.id] = Incident(head, group, head.told_at)
            self._late[head.id] = None
        whole = self._clusters.get(FLEET)
        for each in self._clusters.values():
            if each.fleet and not (whole and each.fleet in whole.unheard):
                each.fleet = ""
                each.fell_at = each.fell_at if each.is_stale else None

    def _waited(self, now: datetime) -> Iterator[Finding]:
        """Those that have waited for long enough are told, together with all that wait where they are many."""
        waiting = [(each.fell_at, each) for each in self._clusters.values() if each.fell_at and _waits(each)]
        waiting.sort(key=lambda each: (each[0], each[1].name))
        while waiting and now - waiting[0][0] >= WAITING:
            first_at, first = waiting[0]
            together = [each for fell_at, each in waiting if fell_at - first_at <= WAITING]
            if key := self._still_many():
                self._join(key, [first])
                del waiting[0]
            elif len(together) >= MANY:
                yield self._opened(self._whole(now), together, now)
                del waiting[: len(together)]
            else:
                yield fell_silent(first, silence_of(first, self._silences, now), now)
                del waiting[0]

    def _still_many(self) -> str | None:
        """The last incident of which many are silent still: another one is more likely part of it than not."""
        whole = self._clusters.get(FLEET)
        for key in reversed(whole.unheard if whole else {}):
            if sum(each.is_stale for each in self._members(key)) >= MANY:
                return key
        return None

    def _members(self, key: str) -> list[Cluster]:
        return [each for each in self._clusters.values() if each.fleet == key]

    def _join(self, key: str, clusters: Iterable[Cluster]) -> None:
        for each in clusters:
            each.fleet, each.is_changed = key, True
        self._late[key] = None

    def _opened(self, whole: Cluster, clusters: list[Cluster], now: datetime) -> Finding:
        whole.called = FLEET
        opened = fell_silent(whole, self._group(clusters, now), now)
        self._join(opened.incident.id, clusters)
        return opened

    def _regrouped(self, whole: Cluster, key: str, now: datetime) -> Iterator[Finding]:
        """Takes out those that were heard of again. Another incident goes on where it is silenced now, or no more."""
        incident, members = whole.unheard.get(key), self._members(key)
        if incident is None:
            return
        silent = [each for each in members if each.is_stale]
        head, group = incident.head, self._group(silent or members, now) if members else incident.group
        for each in members:
            if not each.is_stale:
                each.fleet, each.fell_at, each.is_changed = "", None, True
        incident.group = group
        if silent and group.silenced == head.silenced:
            changed_at = None if shape(group) == head.told else head.changed_at or now
            if changed_at != head.changed_at:
                head.changed_at = changed_at
                whole.changed.add(key)
            return
        del whole.unheard[key]
        yield end(whole, incident, _resolution(group) if silent else "recovered", now)
        if silent:
            yield self._opened(whole, silent, now)

    def _updated(self, whole: Cluster, incident: Incident, now: datetime) -> Finding:
        head = incident.head
        incident.group = group = self._group([each for each in self._members(head.id) if each.is_stale], now)
        head.told, head.title, head.changed_at, head.told_at = shape(group), group.title, None, now
        head.revision += 1
        whole.changed.add(head.id)
        return finding(whole, incident, "updated", now)

    def _group(self, clusters: list[Cluster], now: datetime) -> Group:
        """It is silenced where each of them is."""
        known = sum(each.heartbeat_at is not None for each in self._clusters.values())
        silenced = all(self._silences.silence(each.name, *said_of(each), now) for each in clusters)
        (group,) = correlate(FLEET, map(_said_of, clusters), lambda report, failure: silenced)
        count = len(clusters)
        return replace(group, title=f"{count} of {known} clusters {'is' if count == 1 else 'are'} silent")


def _waits(cluster: Cluster) -> bool:
    return not (cluster.unheard or cluster.fleet)


def _resolution(group: Group) -> str:
    return "silenced" if group.silenced else "superseded"


def _said_of(cluster: Cluster) -> Held:
    """What there is to say of one of many silent clusters."""
    report, failure = said_of(cluster)
    assert cluster.fell_at
    failure = msgspec.structs.replace(
        failure,
        title="Nothing is heard of many clusters",
        message=f"the collector of {cluster.called or cluster.name} has sent nothing for a minute",
        why="What breaks in these clusters meanwhile is seen by nobody here, and what recovers is not told either.",
        look="Look for what they share: the brokers, the network and credentials between them, a provider or a region.",
        cause=_ROOT,
        since=cluster.fell_at - SILENT,
    )
    return report, failure
