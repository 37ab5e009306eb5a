"""Clusters of which nothing is heard: what is known of them stays as it is, and one incident says so. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum

from explainer.cluster import Cluster
from explainer.correlation import Group, Held, correlate
from explainer.regrouping import end, made
from explainer.silences import Silences
from explainer.telling import finding
from explainer.timed import CATCHING_UP
from kubewhy.records import Failure, Finding, Record, Ref, Report, Severity, Version

# Without a heartbeat for so long, nothing that is known of a cluster is certain any more.
SILENT = timedelta(seconds=60)
# Ticks come once a second, and heartbeats every ten, while there is anybody to send and to take them.
_NOBODY_THERE = timedelta(seconds=10)
_MISSED = timedelta(seconds=15)
_NOTED = timedelta(seconds=5)


class Silent(Enum):
    """Who tells that a cluster has fallen silent."""

    TOLD = "told"  # its own incidents do, at once
    UNTOLD = "untold"  # others do; here what is known of it stays as it is
    TOGETHER = "together"  # these do, after a while, of many at once together


class Ticked(Record, frozen=True, kw_only=True):
    """When there were Ticks, as it is kept across restarts."""

    at: datetime  # the last one, but for some seconds
    again: datetime | None = None  # the first one after a time without


class Ticking:
    """Whether time went by, or stood still because nobody was there.

    A restart changes nothing: what is known is what is kept. To keep little, not every Tick is noted, so that of a
    shorter time without them it may be said as well that nobody was there.
    """

    def __init__(self) -> None:
        self.kept: Ticked | None = None
        self.is_changed = False

    def begin(self, now: datetime) -> None:
        """From now on it matters."""
        if self.kept is None:
            self._keep(Ticked(at=now))

    def stood_still(self, now: datetime) -> bool:
        """Whether nobody was there just before."""
        return self.kept is not None and now - self.kept.at > _NOBODY_THERE

    def tick(self, now: datetime) -> bool:
        """Whether it is the first Tick after a time without."""
        again = self.stood_still(now)
        if self.kept and (again or now - self.kept.at >= _NOTED):
            self._keep(Ticked(at=now, again=now if again else self.kept.again))
        return again

    def restore(self, kept: Ticked | None) -> None:
        """As it was when that was kept; where nothing was, nobody was there for as long as anybody knows."""
        self.kept = kept or Ticked(at=datetime.min.replace(tzinfo=UTC))

    def _keep(self, kept: Ticked) -> None:
        self.kept, self.is_changed = kept, True


def is_missed(cluster: Cluster, now: datetime) -> bool:
    """Whether it should have been heard of since."""
    return cluster.heartbeat_at is not None and now - cluster.heartbeat_at > _MISSED


def listen(cluster: Cluster, ticked: Ticked | None, now: datetime) -> bool:
    """Whether the cluster falls silent by this Tick. Where time stood still, it is as unsure, but no silence yet."""
    if ticked is None or cluster.heartbeat_at is None:
        return False
    if ticked.again == now and is_missed(cluster, now):
        become_stale(cluster)
        if not (cluster.unheard or cluster.fleet):
            cluster.fell_at = None
    since = max(cluster.heartbeat_at, ticked.again) if ticked.again else cluster.heartbeat_at
    if cluster.fell_at or now - since <= SILENT:
        return False
    become_stale(cluster)
    cluster.fell_at = now
    return True


def become_stale(cluster: Cluster) -> None:
    """What is known of it stays as it is."""
    cluster.is_stale = cluster.is_changed = True


def fell_silent(cluster: Cluster, group: Group, now: datetime) -> Finding:
    """Tells that nothing is heard of the cluster; or of those that the group names."""
    incident = made(cluster, group, now)
    incident.head.silence = True
    cluster.unheard[incident.head.id] = incident
    return finding(cluster, incident, "opened", now)


def silence_of(cluster: Cluster, silences: Silences, now: datetime) -> Group:
    """The one failure there is to tell of."""
    held = said_of(cluster)
    silenced = silences.silence(cluster.name, *held, now)
    (group,) = correlate(cluster.name, [held], lambda report, failure: silenced)
    return group


def said_of(cluster: Cluster) -> Held:
    """What there is to say of a silent cluster."""
    ref, since = Ref("Cluster", cluster.name), cluster.heartbeat_at
    assert since
    failure = Failure(
        rule="cluster-silent",
        severity=Severity.CRITICAL,
        title="Nothing is heard of the cluster",
        message="its collector has sent nothing for a minute; what was told of the cluster may be out of date",
        why="What breaks in the cluster meanwhile is seen by nobody here, and what recovers is not told either.",
        look="Check that its collector runs, and that it still reaches the API server.",
        since=since,
    )
    version = Version(cluster.failing.term, 0)
    return Report(cluster=cluster.name, version=version, ref=ref, root=ref, observed_at=since), failure


def heard_again(cluster: Cluster, now: datetime) -> Iterator[Finding]:
    """From now on things end again, once there was time to say what is still so."""
    caught_up = cluster.nothing_ends_before
    # Where nobody is there again and again, nothing would ever end.
    if cluster.fell_at or caught_up is None or now >= caught_up + CATCHING_UP:
        cluster.nothing_ends_before = now + CATCHING_UP
        cluster.failing.catch_up(now + CATCHING_UP)
    cluster.is_stale, cluster.is_changed = False, True
    if not cluster.fleet:
        cluster.fell_at = None
    incidents, cluster.unheard = cluster.unheard, {}
    for incident in incidents.values():
        yield end(cluster, incident, "recovered", now)


def retold(cluster: Cluster, group: Group, now: datetime) -> Iterator[Finding]:
    """Where a silence begins or ends, one incident ends, and another begins."""
    for key, incident in list(cluster.unheard.items()):
        if group.silenced != incident.head.silenced:
            del cluster.unheard[key]
            yield end(cluster, incident, "silenced" if group.silenced else "superseded", now)
            yield fell_silent(cluster, group, now)
