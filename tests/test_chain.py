"""The way from an object to the root of its incident."""

from hypothesis import given
from hypothesis import strategies as st

from explainer.chain import chain
from explainer.correlation import Held, correlate
from kubewhy.records import Ref
from tests.test_correlation import held, ref

SHOP = [
    *(held(f"Pod shop/web-{n}", "config", "Deployment shop/web", "Secret shop/password") for n in range(3)),
    held("Deployment shop/web", "unavailable", symptom=True),
    held("Service shop/web", "no-endpoints", cause="Deployment shop/web", symptom=True),
]


def way(failures: list[Held], start: str) -> list[str]:
    """The chain in words, of the group that the object is in."""
    workloads = {report.ref: report.root for report, _ in failures}
    (group,) = (each for each in correlate("c", failures) if ref(start) in (each.root, *each.objects))
    return [f"{step.how} {step.object}".strip() for step in chain(group, workloads, ref(start))]


def test_a_pod_blames_what_it_lacks() -> None:
    assert way(SHOP, "Pod shop/web-1") == ["Pod shop/web-1", "blames Secret shop/password"]


def test_what_only_echoes_leads_on_through_what_it_echoes() -> None:
    assert way(SHOP, "Service shop/web") == [
        "Service shop/web",
        "echoes Deployment shop/web",
        "echoes Pod shop/web-0",
        "blames Secret shop/password",
    ]


def test_a_pod_that_fails_by_itself_is_told_of_by_its_workload() -> None:
    failures = [held("Pod shop/web-1", "crash", "Deployment shop/web")]
    assert way(failures, "Pod shop/web-1") == ["Pod shop/web-1", "owned by Deployment shop/web"]


def test_a_replica_that_does_not_know_the_cause_leads_through_one_that_does() -> None:
    knows = held("Pod shop/web-0", "pull", "Deployment shop/web", "Secret shop/registry", reason="denied")
    does_not = held("Pod shop/web-1", "pull", "Deployment shop/web", reason="denied")
    assert way([knows, does_not], "Pod shop/web-1") == [
        "Pod shop/web-1",
        "owned by Deployment shop/web",
        "echoes Pod shop/web-0",
        "blames Secret shop/registry",
    ]


def test_what_both_fails_of_something_and_echoes_it_blames_it() -> None:
    failures = [
        held("Pod shop/a", "not-ready", cause="Secret shop/s", symptom=True),
        held("Pod shop/a", "config", cause="Secret shop/s"),
    ]
    assert way(failures, "Pod shop/a") == ["Pod shop/a", "blames Secret shop/s"]
    assert way(failures[:1], "Pod shop/a") == ["Pod shop/a", "echoes Secret shop/s"]


def test_a_root_needs_no_steps() -> None:
    assert way(SHOP, "Secret shop/password") == ["Secret shop/password"]


OBJECTS = [f"{kind} x/{name}" for kind in ("Pod", "Deployment", "Service") for name in "abc"] + ["Node n", "Node m"]
HELD = st.builds(
    held,
    st.sampled_from(OBJECTS),
    st.sampled_from(["one", "two"]),
    st.sampled_from([None, "Deployment x/a", "Deployment x/b", "StatefulSet x/c"]),
    st.sampled_from([None, *OBJECTS, "Secret x/s"]),
    symptom=st.booleans(),
)


@given(st.lists(HELD, min_size=1, max_size=12))
def test_from_every_object_there_is_a_way_to_the_root(failures: list[Held]) -> None:
    workloads: dict[Ref, Ref] = {}
    for report, _ in failures:  # one object has one workload
        workloads.setdefault(report.ref, report.root)
    failures = [each for each in failures if each[0].root == workloads[each[0].ref]]
    for group in correlate("c", failures):
        for start in group.objects:
            steps = chain(group, workloads, start)
            assert (steps[0].object, steps[-1].object) == (start, group.root)
            assert len({step.object for step in steps}) == len(steps)
