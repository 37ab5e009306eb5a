"""What is told of one object: its place in an incident, the way to the root, the evidence, and what changed before."""

import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import Console

from analyzers import ANALYZERS
from collectors.store import Store
from kubewhy.cli.answer import Answer
from kubewhy.cli.answered import show
from kubewhy.cli.answering import Asked, answer
from kubewhy.cli.report import Skipped
from kubewhy.cli.text import Scope
from kubewhy.contracts import Analyzer
from kubewhy.kube import GROUPS, KINDS
from kubewhy.kube.core import Pod
from kubewhy.records import Failure, Ref
from kubewhy.related import Related, decode_object
from kubewhy.runtime.oneshot import Look, judge
from tests.golden import golden
from tests.test_text import ATTACKS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPE = Scope("admin@shop", "")
VIEWS = {kind.resource.kind: kind for kind in KINDS}


def ago(minutes: float) -> str:
    return (NOW - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def made(kind: str, name: str, age: float, owner: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """An object as the API has it, made so many minutes ago."""
    meta = {"name": name, "namespace": "shop", "uid": f"uid-{kind}-{name}", "creationTimestamp": ago(age)}
    if owner:
        told = owner["metadata"]
        controller = {"kind": owner["kind"], "name": told["name"], "uid": told["uid"], "controller": True}
        group = GROUPS[owner["kind"]]
        meta["ownerReferences"] = [controller | {"apiVersion": f"{group}/v1" if group else "v1"}]  # type: ignore[assignment]
    return {"kind": kind, "metadata": {**meta, **fields.pop("metadata", {})}, **fields}


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image}]}}


def deployment(age: float, *, written: float, replicas: int = 2, **status: Any) -> dict[str, Any]:
    return made(
        "Deployment",
        "web",
        age,
        metadata={"generation": 4, "managedFields": [{"time": ago(written)}]},
        spec={"replicas": replicas, "template": template("shop/web:15")},
        status={"observedGeneration": 4, **status},
    )


def replica_set(owner: dict[str, Any], revision: int, image: str, age: float) -> dict[str, Any]:
    annotations = {"deployment.kubernetes.io/revision": str(revision)}
    name = f"web-{revision}"
    return made(
        "ReplicaSet", name, age, owner, metadata={"annotations": annotations}, spec={"template": template(image)}
    )


def pod(name: str, age: float, owner: dict[str, Any] | None, *states: dict[str, Any], **status: Any) -> dict[str, Any]:
    containers = [{"name": "app", "image": "shop/web:15"}]
    labels = {"app": name}
    if owner:  # as the deployment controller marks them
        labels = {"app": "web", "pod-template-hash": owner["metadata"]["name"].removeprefix("web-")}
    return made(
        "Pod",
        name,
        age,
        owner,
        metadata={"labels": labels},
        spec={"containers": containers, "nodeName": "n1"},
        status={
            "phase": "Running",
            "startTime": ago(age),
            "containerStatuses": [{"name": "app", "image": "shop/web:15", **each} for each in states],
            **status,
        },
    )


def unready(minutes: float) -> dict[str, Any]:
    """The Ready condition of a pod that has not been so for so long."""
    return {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": ago(minutes)}]}


def event(
    about: dict[str, Any], reason: str, message: str, first: float, last: float, count: int = 1
) -> dict[str, Any]:
    subject = {"kind": about["kind"], "name": about["metadata"]["name"], "uid": about["metadata"]["uid"]}
    times: dict[str, Any] = {"firstTimestamp": ago(first), "lastTimestamp": ago(last), "count": count}
    name = f"{subject['name']}.{reason}"
    told: dict[str, Any] = {
        "type": "Normal" if reason == "Started" else "Warning",
        "reason": reason,
        "message": message,
    }
    return made("Event", name, last, None, involvedObject={**subject, "namespace": "shop"}, **told, **times)


NODE = {
    "kind": "Node",
    "metadata": {"name": "n1", "uid": "uid-n1", "creationTimestamp": ago(9000)},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "False"}]},
}
LACKING = {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "db-password" not found'}}}
WEB = deployment(3000, written=12, replicas=3, replicas_=0)
OLD, NEW = replica_set(WEB, 1, "shop/web:14", 3000), replica_set(WEB, 2, "shop/web:15", 12)
WAITING = [pod(f"web-2-{n}", 12, NEW, LACKING, phase="Pending", **unready(12)) for n in "abcdefgh"]
WARNING = event(WAITING[0], "Failed", 'Error: secret "db-password" not found', 12, 0.2, 58)
SERVICE = made("Service", "web", 3000, spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
CRASHED = {
    "restartCount": 7,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": ago(3.1), "finishedAt": ago(3)}},
}
WORKER = pod("worker", 30, None, CRASHED, **unready(3))
FINE = pod(
    "fine",
    600,
    None,
    {"ready": True, "state": {"running": {"startedAt": ago(600)}}},
    conditions=[{"type": "Ready", "status": "True"}],
)
SHOP = [NODE, WEB, OLD, NEW, *WAITING, WARNING, SERVICE, WORKER, FINE]


def look(objects: Iterable[Mapping[str, Any]], unread: Iterable[str] = ()) -> Look:
    store = Store(ANALYZERS)
    for kind in KINDS:
        resource = kind.resource
        if resource.kind in unread:
            store.refused(resource, None, "forbidden", NOW)
            continue
        store.begin(resource, None, NOW)
        for each in objects:
            if each["kind"] == resource.kind:
                store.put(resource, decode_object(msgspec.json.encode(each), VIEWS[resource.kind]), NOW)
        store.synced(resource, None, NOW)
    return Look(store, "c", "shop-production", NOW, "v1.35.4")


def ask(
    told: str, objects: Iterable[Mapping[str, Any]] = SHOP, *, no_hold: bool = False, unread: Iterable[str] = ()
) -> Answer:
    kind, _, name = told.partition("/")
    space = None if kind in ("Node", "StorageClass") else "shop"
    seen = look(objects, unread)
    asked = Asked.of(seen, judge(seen, ANALYZERS), SCOPE, no_hold=no_hold)
    return answer(asked, Ref(kind, name, space, GROUPS.get(kind, "")), ANALYZERS)


def printed(told: Answer, *, terminal: bool = False) -> str:
    out = io.StringIO()
    environ = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    show(told, Console(file=out, width=100, force_terminal=terminal, _environ=environ), SCOPE)
    return out.getvalue()


def way(told: Answer) -> list[str]:
    return [f"{link.how} {link.object.kind} {link.object.name}".strip() for link in told.incidents[0].chain]


ASKED = [
    "Pod/web-2-a",
    "Deployment/web",
    "Service/web",
    "Secret/db-password",
    "ReplicaSet/web-2",
    "Pod/worker",
    "Pod/fine",
]


def test_what_people_read() -> None:
    golden("why.txt", "".join(f"$ kubewhy why {each}\n{printed(ask(each))}\n" for each in ASKED))


def test_what_programs_read() -> None:
    text = msgspec.json.format(msgspec.json.encode(ask("Pod/web-2-a")), indent=2).decode()
    golden("why.json", text + "\n")


def test_a_symptom_leads_to_the_root() -> None:
    told = ask("Service/web")
    assert (told.place, told.incidents[0].root.kind) == ("symptom", "Secret")
    assert way(told) == ["Service web", "echoes Deployment web", "echoes Pod web-2-a", "blames Secret db-password"]


def test_a_root_that_is_not_read_is_answered_for_by_what_blames_it() -> None:
    told = ask("Secret/db-password")
    assert (told.place, told.found, told.checked) == ("root", None, [])
    assert told.incidents[0].other_count == 10
    assert len(told.incidents[0].others) == 5


def test_a_root_that_is_missing_is_said_to_be_so() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": ago(9)}
    claiming = pod("db", 9, None, phase="Pending", conditions=[waiting | {"message": "no claim"}])
    claiming["spec"] = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
    told = ask("PersistentVolumeClaim/data", [NODE, claiming])
    assert (told.place, told.found) == ("root", False)
    assert "there is no such object" in printed(told)
    assert "there is no such object" not in printed(
        ask("PersistentVolumeClaim/data", [claiming], unread=["PersistentVolumeClaim"])
    )


def test_commands_are_about_the_pod_that_was_asked_for() -> None:
    assert ask("Pod/web-2-h").incidents[0].next == [
        "kubectl get secret db-password -n shop",
        "kubectl describe pod web-2-h -n shop",
    ]


def test_commands_are_about_it_also_where_another_pod_has_more_to_tell() -> None:
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": ago(9)}
    waiting = pod("web-2-b", 9, NEW, phase="Pending", conditions=[unplaced])
    del waiting["spec"]["nodeName"]
    (incident,) = ask(
        "Pod/web-2-b", [NODE, WEB, NEW, waiting, pod("web-2-a", 30, NEW, CRASHED, **unready(3))]
    ).incidents
    assert incident.next == ["kubectl describe deployment web -n shop", "kubectl describe pod web-2-b -n shop"]


def test_what_is_well_is_told_in_one_line() -> None:
    told = ask("Pod/fine")
    assert (told.place, told.incidents, told.early, told.near) == ("well", [], [], [])
    assert printed(told).count("\n") == 1
    assert "Pod shop/fine is well: none of " in printed(told)


def test_what_is_well_between_others_says_which_are_not() -> None:
    told = ask("ReplicaSet/web-2")
    assert told.place == "well"
    assert [(each.how, each.object.name) for each in told.near] == [("owned by", "web")]


def test_what_only_suffers_says_which_others_fail() -> None:
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": ago(5)}
    web = deployment(3000, written=5, replicas=1, conditions=[going])
    silent = {**NODE, "status": {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": ago(3)}]}}
    lost = pod("web-2-a", 5, NEW, {"ready": True, "state": {"running": {}}}, **unready(4.9))
    lost["status"]["conditions"].append({"type": "ContainersReady", "status": "True"})
    objects = [silent, web, NEW, lost, SERVICE]
    assert [(each.how, each.object.name) for each in ask("Deployment/web", objects).near] == [("owns", "web-2-a")]
    assert [(each.how, each.object.name) for each in ask("Service/web", objects).near] == [("depends on", "web-2-a")]


def test_what_does_not_count_yet_is_pending() -> None:
    told = ask("Pod/new", [NODE, pod("new", 0.2, None, LACKING, phase="Pending", **unready(0.2))])
    (incident,) = told.incidents
    assert (incident.state, incident.failures) == ("pending", [])
    assert incident.counts_at == NOW + timedelta(seconds=18) == incident.pending[0].counts_at
    assert printed(told).startswith("PENDING  ")
    assert "counts in 18s, if it lasts" in printed(told)


def test_without_holds_nothing_is_pending() -> None:
    told = ask("Pod/new", [NODE, pod("new", 0.2, None, LACKING, phase="Pending", **unready(0.2))], no_hold=True)
    assert told.incidents[0].state == "open"


def test_what_is_pending_beneath_a_root_that_is_open_goes_with_it() -> None:
    lately = [
        pod(f"web-2-{n}", age, NEW, LACKING, phase="Pending", **unready(age)) for n, age in (("a", 9), ("b", 0.2))
    ]
    web = deployment(3000, written=900, replicas=2)
    told = ask("Deployment/web", [NODE, web, NEW, *lately])
    assert [(each.state, each.root.kind, each.failures) for each in told.incidents] == [("open", "Secret", [])]
    assert [each.failure.rule for each in told.incidents[0].pending] == ["deployment-unavailable"]
    assert way(told) == ["Deployment web", "echoes Pod web-2-a", "blames Secret db-password"]
    assert ask("Deployment/web", [NODE, web, NEW, *lately], no_hold=True).incidents[0].pending == []


def test_what_is_normal_at_first_is_no_failure_but_told() -> None:
    creating = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    told = ask("Pod/new", [NODE, pod("new", 1, None, creating, phase="Pending")])
    assert (told.place, told.incidents) == ("well", [])
    assert [each.failure.rule for each in told.early] == ["pod-start-stuck"]
    assert told.early[0].counts_at == NOW + timedelta(minutes=9)
    assert "is not to blame so far" in printed(told)


def test_what_the_rules_went_by_is_shown() -> None:
    told = ask("Pod/worker").evidence
    assert [(each.type, each.good) for each in told.conditions] == [("Ready", False)]
    (container,) = told.containers
    assert (container.state, container.reason, container.restarts, container.exit) == (
        "waiting",
        "CrashLoopBackOff",
        7,
        1,
    )
    assert container.ended_at == NOW - timedelta(minutes=3)
    assert [(each.reason, each.count) for each in ask("Pod/web-2-a").evidence.events] == [("Failed", 58)]


def test_what_a_node_says_of_itself_is_good_where_it_has_no_trouble() -> None:
    assert [each.good for each in ask("Node/n1").evidence.conditions] == [True, True]


def what(told: Answer) -> list[str]:
    return [f"{each.object.kind} {each.what}" for each in told.incidents[0].changes]


def rolled_out(*sets: dict[str, Any], written: float, since: float = 12) -> list[str]:
    web = deployment(3000, written=written)
    waiting = pod("web-9", since, sets[-1], LACKING, phase="Pending", **unready(since))
    return what(ask("Pod/web-9", [NODE, web, *sets, waiting]))


def test_a_rollout_is_told_by_its_images() -> None:
    assert what(ask("Pod/web-2-a")) == ["Deployment image of container app: shop/web:14 -> shop/web:15"]


def test_a_rollout_with_the_same_image_says_so() -> None:
    assert rolled_out(OLD, replica_set(WEB, 2, "shop/web:14", 12), written=12) == [
        "Deployment its pods' template, but not their images"
    ]


def test_a_revision_that_comes_back_is_told_as_of_when_it_did() -> None:
    back = replica_set(WEB, 3, "shop/web:14", 3000)
    assert rolled_out(replica_set(WEB, 2, "shop/web:15", 300), back, written=13) == [
        "Deployment image of container app: shop/web:15 -> shop/web:14"
    ]


def test_other_workloads_are_told_by_the_images_that_were_seen_to_change() -> None:
    def stateful(generation: int, written: float) -> dict[str, Any]:
        meta = {"generation": generation, "managedFields": [{"time": ago(written)}]}
        return made("StatefulSet", "db", 3000, metadata=meta, spec={"template": template(f"db:{generation}")})

    before, after = stateful(1, 3000), stateful(2, 13)
    waiting = pod("db-0", 12, after, LACKING, phase="Pending", **unready(12))
    assert what(ask("Pod/db-0", [NODE, before, after, waiting])) == ["StatefulSet image of container app: db:1 -> db:2"]
    assert what(ask("Pod/db-0", [NODE, after, waiting])) == ["StatefulSet it was last written, its status apart"]


def test_a_write_after_the_rollout_is_another_change() -> None:
    assert rolled_out(OLD, replica_set(WEB, 2, "shop/web:15", 20), written=14) == [
        "Deployment it was last written, its status apart",
        "Deployment image of container app: shop/web:14 -> shop/web:15",
    ]


@pytest.mark.parametrize(("changed", "told"), [(43, False), (41, True), (12, True), (11, False)])
def test_a_change_counts_for_half_an_hour_before_the_onset(changed: float, told: bool) -> None:
    assert bool(rolled_out(OLD, replica_set(WEB, 2, "shop/web:15", changed), written=3000)) is told


def test_a_crash_loop_began_when_events_first_told_of_it() -> None:
    web = deployment(3000, written=50)
    crashing = pod("web-9", 50, NEW, CRASHED, **unready(3))
    sets = [OLD, replica_set(WEB, 2, "shop/web:15", 50)]
    assert what(ask("Pod/web-9", [NODE, web, *sets, crashing])) == []
    again = event(crashing, "Started", "Started container app", 49, 3, 8)
    assert len(what(ask("Pod/web-9", [NODE, web, *sets, crashing, again]))) == 1


def test_what_its_rules_failed_on_is_not_called_well() -> None:
    def fails(subject: Pod, related: Related) -> Iterator[Failure]:
        raise ZeroDivisionError

    broken = (Analyzer(reads=Pod, rules=(), find=fails),)
    seen = look([FINE])
    told = answer(Asked.of(seen, judge(seen, broken), SCOPE), Ref("Pod", "fine", "shop"), broken)
    assert (told.place, told.incidents) == ("unknown", [])
    assert "could not be judged, which is a bug in kubewhy" in printed(told)


def test_what_cannot_be_read_is_named_and_is_not_missing() -> None:
    told = ask("Pod/web-2-a", unread=["Node", "Event"])
    assert {each.resource for each in told.skipped} == {"nodes", "events"}
    assert "Not looked at\n  events: forbidden\n  nodes: forbidden\n" in printed(told)
    assert told.incidents[0].root.kind == "Secret"


def test_an_object_in_two_incidents_is_told_of_in_both() -> None:
    two = pod("two", 30, None, CRASHED, LACKING | {"name": "other"}, **unready(12))
    two["spec"]["containers"].append({"name": "other"})
    told = ask("Pod/two", [NODE, two])
    assert {(each.root.kind, each.place) for each in told.incidents} == {("Secret", "symptom"), ("Pod", "root")}
    assert printed(told).count("evidence:") == 1


@pytest.mark.parametrize(("attack", "harmless"), [each for each in ATTACKS if "\ud800" not in each[0]])
def test_no_text_of_the_cluster_reaches_a_terminal_unclean(attack: str, harmless: str) -> None:
    waiting = {"state": {"waiting": {"reason": "CreateContainerError" + attack, "message": attack}}}
    bad = pod("bad", 30, None, waiting, phase="Pending", **unready(12))
    bad["status"]["conditions"][0] |= {"reason": attack, "message": attack}
    told = ask("Pod/bad", [NODE, bad, event(bad, "Failed", attack, 9, 8)])
    shown = printed(msgspec.structs.replace(told, skipped=[Skipped(attack, attack)]), terminal=True)
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[0m"):
        shown = shown.replace(code, "")
    assert shown.isprintable() or set(filter(lambda letter: not letter.isprintable(), shown)) == {"\n"}
