"""Clusters of which nothing is heard: one incident says so, and all others stay as they are. Pure."""

from datetime import datetime, timedelta

from explainer.cluster import Cluster
from explainer.correlation import Group, correlate
from explainer.regrouping import end, made
from explainer.silences import Silences
from explainer.telling import finding
from kubewhy.records import Failure, Finding, Ref, Report, Severity, Version

# Without a heartbeat for so long, nothing that is known of a cluster is certain any more.
SILENT = timedelta(seconds=60)
# When it is heard of again, its collector has so long to say what is still so.
CATCHING_UP = timedelta(seconds=60)


def fell_silent(cluster: Cluster, group: Group, now: datetime) -> Finding:
    """Nothing is heard of the cluster: what is known of it stays as it is."""
    incident = made(cluster, group, now)
    incident.head.silence = True
    cluster.silence = incident
    return finding(cluster, incident, "opened", now)


def silence_of(cluster: Cluster, silences: Silences, now: datetime) -> Group:
    """The one failure there is to tell of."""
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
    report = Report(
        cluster=cluster.name, version=Version(cluster.failing.term, 0), ref=ref, root=ref, observed_at=since
    )
    silenced = silences.silence(cluster.name, report, failure, now)
    (group,) = correlate(cluster.name, [(report, failure)], lambda report, failure: silenced)
    return group


def heard_again(cluster: Cluster, now: datetime) -> Finding:
    """From now on things end again, once there was time to say what is still so."""
    incident = cluster.silence
    assert incident
    cluster.silence = None
    cluster.nothing_ends_before, cluster.is_changed = now + CATCHING_UP, True
    cluster.failing.let_nothing_end_before(now + CATCHING_UP)
    return end(cluster, incident, "recovered", now)
