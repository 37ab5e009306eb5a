"""The store, its reverses, and what is gathered from it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.store import Store
from kubewhy.contracts import Analyzer, Need
from kubewhy.kube.apps import Deployment, ReplicaSet
from kubewhy.kube.core import Event, Node, Pod, Service
from kubewhy.kube.meta import LabelSelector, Object
from kubewhy.records import Evidence, Failure, Ref, Version
from kubewhy.related import Related

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD = Key("Pod", "shop", "web-1")


def nothing(subject: Object, related: Related) -> Iterator[Failure]:
    yield from ()


def chosen(service: Service) -> LabelSelector:
    return LabelSelector(match_labels=service.spec.selector)


ANALYZERS = (
    Analyzer(Pod, (), nothing, (Need.named(Node, lambda pod: pod.spec.node_name), Need.events("Failed"))),
    Analyzer(Service, (), nothing, (Need.selected_by(Pod, chosen),)),
    Analyzer(Deployment, (), nothing, (Need.owned(Pod),)),
    Analyzer(Node, (), nothing, (Need.users(Pod, lambda pod: pod.spec.node_name),)),
)


def make(kind: type[Object], name: str, text: str = "{}", uid: str = "", owner: Object | None = None) -> Object:
    raw = msgspec.json.decode(text)
    meta = {"name": name, "uid": uid or f"uid-{name}", **raw.get("metadata", {})}
    if kind.resource.namespaced:
        meta["namespace"] = "shop"
    if owner is not None:
        told = {"kind": type(owner).resource.kind, "name": owner.name, "uid": owner.metadata.uid, "controller": True}
        meta["ownerReferences"] = [told]
    return msgspec.convert({**raw, "metadata": meta}, kind)


class Shop:
    def __init__(self) -> None:
        self.touched: list[Key] = []
        self.store = Store(ANALYZERS, self.touched.append)
        for kind in (Pod, Node, Service, Deployment, ReplicaSet, Event):
            self.list(kind)

    def list(self, kind: type[Object], *objects: Object) -> None:
        self.store.begin(kind.resource, None, NOW)
        for each in objects:
            self.put(each)
        self.store.synced(kind.resource, None, NOW)

    def put(self, subject: Object) -> set[Key]:
        self.touched.clear()
        self.store.put(type(subject).resource, subject, NOW)
        return set(self.touched)

    def evidence(self, key: Key) -> Evidence:
        return gather(self.store, key, cluster="c", version=Version(1, 1))


def test_a_lookup_is_found_absent_or_unknown() -> None:
    shop = Shop()
    shop.put(make(Pod, "web-1", '{"spec": {"nodeName": "n1"}}'))
    assert Related(shop.evidence(POD)).absent(Node, "n1")
    shop.put(make(Node, "n1"))
    assert Related(shop.evidence(POD)).named(Node, "n1")
    shop.store.refused(Node.resource, None, "forbidden", NOW)
    shop.store.remove(Node.resource, None, "n1", NOW)
    assert not Related(shop.evidence(POD)).absent(Node, "n1")
    assert not Related(shop.evidence(POD)).known(Node)


def test_a_change_touches_those_that_name_it_and_those_it_names() -> None:
    shop = Shop()
    assert Key("Node", None, "n1") in shop.put(make(Pod, "web-1", '{"spec": {"nodeName": "n1"}}'))
    assert POD in shop.put(make(Node, "n1"))
    assert shop.put(make(Node, "n2")) == {Key("Node", None, "n2")}
    # The one it left and the one it came to.
    moved = shop.put(make(Pod, "web-1", '{"spec": {"nodeName": "n2"}}'))
    assert {Key("Node", None, "n1"), Key("Node", None, "n2")} <= moved
    assert len(Related(shop.evidence(Key("Node", None, "n2"))).all(Pod)) == 1


def test_what_a_change_touches_is_told_in_the_same_order_in_every_process() -> None:
    shop = Shop()
    for number in range(20):
        shop.put(make(Pod, f"web-{number}", '{"spec": {"nodeName": "n1"}}'))
    shop.put(make(Node, "n1"))
    assert len(shop.touched) == 21
    assert shop.touched == sorted(shop.touched)


def test_an_object_told_again_unchanged_touches_nothing() -> None:
    shop = Shop()
    shop.put(make(Pod, "web-1"))
    assert not shop.put(make(Pod, "web-1"))


def test_a_selector_follows_old_and_new_labels() -> None:
    shop = Shop()
    service = Key("Service", "shop", "web")
    shop.put(make(Service, "web", '{"spec": {"selector": {"app": "web", "tier": "a"}}}'))
    assert service in shop.put(make(Pod, "web-1", '{"metadata": {"labels": {"app": "web", "tier": "a"}}}'))
    assert len(Related(shop.evidence(service)).all(Pod)) == 1
    assert service in shop.put(make(Pod, "web-1", '{"metadata": {"labels": {"app": "web", "tier": "b"}}}'))
    assert not Related(shop.evidence(service)).all(Pod)


def test_owners_are_followed_to_the_top_whatever_comes_first() -> None:
    shop = Shop()
    deployment = make(Deployment, "web")
    replicas = make(ReplicaSet, "web-abc", owner=deployment)
    shop.put(make(Pod, "web-1", owner=replicas))
    assert shop.evidence(POD).root == Ref("ReplicaSet", "web-abc", "shop")
    assert POD in shop.put(replicas)
    assert shop.evidence(POD).root == Ref("Deployment", "web", "shop")
    shop.put(deployment)
    top = Key("Deployment", "shop", "web")
    assert len(Related(shop.evidence(top)).all(Pod)) == 1
    assert top in shop.put(make(Pod, "web-1", '{"status": {"phase": "Running"}}', owner=replicas))


def test_events_are_matched_by_uid_and_do_not_count_when_told_again() -> None:
    shop = Shop()
    shop.put(make(Pod, "web-1"))
    about = '{"involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "%s"}, %s}'
    earlier = about % ("another", '"reason": "Failed", "message": "of an earlier pod of that name"')
    shop.put(make(Event, "e0", earlier))
    assert not shop.evidence(POD).events
    assert POD in shop.put(make(Event, "e1", about % ("uid-web-1", '"reason": "Failed", "message": "m"')))
    first = content_hash(shop.evidence(POD))
    shop.put(make(Event, "e1", about % ("uid-web-1", '"reason": "Failed", "message": "m", "count": 7')))
    assert shop.evidence(POD).events[0].count == 7
    assert content_hash(shop.evidence(POD)) == first
    shop.put(make(Event, "e2", about % ("uid-web-1", '"reason": "Pulled", "message": "not asked for"')))
    assert len(shop.evidence(POD).events) == 1


def test_what_a_new_list_does_not_name_is_gone() -> None:
    shop = Shop()
    shop.list(Pod, make(Pod, "web-1"), make(Pod, "web-2"))
    shop.touched.clear()
    shop.list(Pod, make(Pod, "web-2"))
    assert POD in shop.touched
    assert shop.evidence(POD).gone


def test_evidence_is_cut_to_size_and_says_so() -> None:
    shop = Shop()
    shop.put(make(Service, "web", '{"spec": {"selector": {"app": "web"}}}'))
    for number in range(200):
        told = {"metadata": {"labels": {"app": "web"}}, "status": {"message": "x" * 2000}}
        shop.put(make(Pod, f"web-{number}", msgspec.json.encode(told).decode()))
    evidence = shop.evidence(Key("Service", "shop", "web"))
    assert evidence.truncated
    assert len(msgspec.json.encode(evidence)) <= 256 * 1024
    related = Related(evidence)
    assert related.count(Pod) == 200
    assert len(related.all(Pod)) < 200
