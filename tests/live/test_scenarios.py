"""What real controllers break is found beneath its cause, with no more rights than `kubewhy rbac` asks for."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from typing import Any

import pytest

from infra.testbed.control_plane import ControlPlane
from infra.testbed.scenarios import SCENARIOS, Scenario, find
from tests.live.audited import audited, granted
from tests.live.cli import analyze

pytestmark = pytest.mark.live

Diagnosis = dict[str, Any]
BROKEN = [each for each in SCENARIOS if not each.healthy]
# Broken at first, and it may take a minute or two until it is well.
RECOVERING = find("cronjob-recovered")[0]
# CronJobs take minutes to miss their runs; most else takes seconds.
LONGEST = 240.0


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with audited() as plane, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: each.play(plane), (RECOVERING, *BROKEN)))
        yield plane


@pytest.fixture(scope="module")
def settled(plane: ControlPlane) -> list[Diagnosis]:
    """What is found once all that is to break is broken, or the time for it is over."""
    kubeconfig, ends = granted(plane), time.monotonic() + LONGEST
    while True:
        found: list[Diagnosis] = analyze(kubeconfig, "--no-hold")["diagnoses"]
        if not any(missing(scenario, found) for scenario in BROKEN) or time.monotonic() > ends:
            return found
        time.sleep(2)


def missing(scenario: Scenario, found: list[Diagnosis]) -> list[str]:
    """What is expected of a scenario and not there, or blamed on another."""
    return [
        f"{expected.kind}/{expected.name}: {rule}"
        for expected in scenario.expected
        for rule in expected.rules
        if not any(
            (each["kind"], each["namespace"] or "") == (expected.kind, expected.namespace)
            and fnmatch(each["name"], expected.name)
            and blames(scenario, each)
            and rule in (failure["rule"] for failure in each["failures"])
            for each in found
        )
    ]


def blames(scenario: Scenario, diagnosis: Diagnosis) -> bool:
    assert scenario.root
    *where, name = scenario.root
    return root(diagnosis)[:2] == tuple(where) and fnmatch(root(diagnosis)[2], name)


def root(diagnosis: Diagnosis) -> tuple[str, str, str]:
    told = diagnosis["root"]
    return told["kind"], told["namespace"] or "", told["name"]


def within(scenario: Scenario, found: list[Diagnosis]) -> list[Diagnosis]:
    return [each for each in found if scenario.namespace and each["namespace"] == scenario.namespace]


def brief(found: list[Diagnosis]) -> list[str]:
    return [
        f"{each['kind']} {each['namespace']}/{each['name']} (root {'/'.join(root(each))}): {failure['rule']}: "
        f"{failure['message']}"
        for each in found
        for failure in each["failures"]
    ]


@pytest.mark.parametrize("scenario", BROKEN, ids=lambda each: each.name)
def test_what_is_broken_is_found_beneath_its_cause(scenario: Scenario, settled: list[Diagnosis]) -> None:
    around = within(scenario, settled)
    assert not missing(scenario, settled), brief(around)
    assert all(blames(scenario, each) for each in around), brief(around)


def test_what_has_recovered_is_well(plane: ControlPlane) -> None:
    name = RECOVERING.namespace
    path = f"/apis/batch/v1/namespaces/{name}/cronjobs/app"
    plane.api.wait(path, lambda seen: "lastSuccessfulTime" in seen["status"], 180)
    assert brief(analyze(plane.kubeconfig("kubewhy"), "-n", name)["diagnoses"]) == []
