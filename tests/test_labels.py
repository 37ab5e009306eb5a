"""What silences and routes go by, on its way from the cluster into reports."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from analyzers.stage import AnalyzerStage
from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.store import Store, kinds_read
from kubewhy.contracts import Analyzer, Rule
from kubewhy.kube.core import Namespace, Node, Pod
from kubewhy.kube.meta import Object
from kubewhy.records import Evidence, Failure, Report, Severity, Version
from kubewhy.related import Related

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILED = Rule("pod-failed", Severity.WARNING, "It failed")
POD = Key("Pod", "shop", "web")


def find(pod: Pod, related: Related) -> Iterator[Failure]:
    if pod.status.phase == "Failed":
        yield FAILED.failure("it failed")


PODS: Analyzer[Any] = Analyzer(Pod, (FAILED,), find)
NODES: Analyzer[Any] = Analyzer(Node, (), lambda node, related: iter(()))


class Cluster:
    """A pod that failed, in one of two namespaces."""

    def __init__(self, *, namespaces: bool = True) -> None:
        self.touched: set[Key] = set()
        self.store = Store((PODS, NODES), self.touched.add)
        for space, name in (("shop", "web"), ("bank", "web")):
            meta = {"name": name, "namespace": space, "labels": {"app": "web"}}
            self.put(Pod, {"metadata": meta, "status": {"phase": "Failed"}})
        self.put(Node, {"metadata": {"name": "n1"}})
        if namespaces:
            self.list()

    def list(self) -> None:
        self.store.begin(Namespace.resource, None, NOW)
        for name in ("shop", "bank"):
            self.namespace(name, {"team": name})
        self.store.synced(Namespace.resource, None, NOW)

    def namespace(self, name: str, labels: dict[str, str], ignore: str | None = None, **more: Any) -> set[Key]:
        notes = {"kubewhy.dev/ignore": ignore, "secret": "thing"} if ignore else {}
        return self.put(Namespace, {"metadata": {"name": name, "labels": labels, "annotations": notes, **more}})

    def put(self, kind: type[Object], fields: dict[str, Any]) -> set[Key]:
        self.touched.clear()
        self.store.put(kind.resource, msgspec.convert(fields, kind), NOW)
        return set(self.touched)

    def evidence(self, key: Key = POD) -> Evidence:
        return gather(self.store, key, cluster="c", version=Version(1, 1))

    def report(self, key: Key = POD) -> Report:
        (report,) = AnalyzerStage((PODS, NODES)).feed(self.evidence(key), NOW)
        return report


def test_a_failing_object_has_its_own_labels_and_those_of_its_namespace() -> None:
    report = Cluster().report()
    assert (report.labels, report.namespace_labels) == ({"app": "web"}, {"team": "shop"})
    assert (report.ignore, report.namespace_ignore) == ("", "")


def test_what_is_healthy_carries_none() -> None:
    cluster = Cluster()
    cluster.put(Pod, {"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}})
    report = cluster.report()
    assert (report.labels, report.namespace_labels) == ({}, {})
    assert "abels" not in msgspec.json.encode(report).decode()


def test_only_labels_and_one_annotation_of_a_namespace_are_sent() -> None:
    cluster = Cluster()
    cluster.namespace("shop", {"team": "a"}, "pod-*", uid="uid-1", finalizers=["x"], generation=7)
    (attached,) = cluster.evidence().related
    whole = {"metadata": {"name": "shop", "labels": {"team": "a"}, "annotations": {"kubewhy.dev/ignore": "pod-*"}}}
    assert [msgspec.json.decode(raw) for raw in attached.objects] == [whole]
    assert cluster.report().namespace_ignore == "pod-*"


def test_what_no_namespace_holds_has_none_attached() -> None:
    assert Cluster().evidence(Key("Node", None, "n1")).related == ()


def test_other_labels_of_a_namespace_touch_what_is_in_it_and_nothing_else() -> None:
    cluster = Cluster()
    before = content_hash(cluster.evidence())
    assert cluster.namespace("shop", {"team": "shop"}, uid="uid-1", deletionTimestamp=NOW) == set()
    assert cluster.namespace("shop", {"team": "b"}) == {POD}
    assert content_hash(cluster.evidence()) != before
    assert cluster.namespace("shop", {"team": "b"}, "*") == {POD}
    cluster.touched.clear()
    cluster.store.remove(Namespace.resource, None, "shop", NOW)
    assert cluster.touched == {POD}
    assert cluster.report().namespace_labels == {}


def test_labels_that_may_not_be_read_are_none() -> None:
    cluster = Cluster(namespaces=False)
    assert cluster.evidence().related == ()
    assert cluster.report().namespace_labels == {}


def test_when_namespaces_can_be_read_or_no_more_all_is_judged_anew() -> None:
    cluster = Cluster(namespaces=False)
    cluster.touched.clear()
    cluster.list()
    assert cluster.touched == {POD, Key("Pod", "bank", "web")}
    cluster.touched.clear()
    cluster.store.refused(Namespace.resource, None, "forbidden", NOW)
    assert cluster.touched == {POD, Key("Pod", "bank", "web")}
    assert cluster.report().namespace_labels == {}
    assert cluster.report().labels == {"app": "web"}


def test_an_annotation_says_what_to_ignore_unless_it_is_a_book() -> None:
    cluster = Cluster()
    for told, carried in (("pod-failed,x", "pod-failed,x"), ("x" * 1024, "x" * 1024), ("x" * 1025, "")):
        meta = {"name": "web", "namespace": "shop", "annotations": {"kubewhy.dev/ignore": told}}
        cluster.put(Pod, {"metadata": meta, "status": {"phase": "Failed"}})
        assert cluster.report().ignore == carried


def test_namespaces_are_read_where_anything_within_them_is_judged() -> None:
    assert Namespace in kinds_read([PODS])
    assert Namespace not in kinds_read([NODES])


def test_a_rule_that_raises_takes_no_labels_with_it() -> None:
    def raises(pod: Pod, related: Related) -> Iterator[Failure]:
        yield from find(pod, related)
        raise RuntimeError

    (report,) = AnalyzerStage((PODS, Analyzer(Pod, (), raises))).feed(Cluster().evidence(), NOW)
    assert report.broken == ("Pod",)
    assert report.labels == {"app": "web"}
