"""A cluster that changes all the time, and what must be open in it in the end."""

import json
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks import changes, filling, shop
from infra.testbed.control_plane import ControlPlane

SIZE = filling.Size(pods=20 * filling.PER_APP + 120, nodes=10, lone=120)
PER_SECOND = 100
Broken = set[tuple[Any, Any, str]]


class Churn:
    """So many changes a second, until told to stop: pods break in every way, recover, go and come."""

    def __init__(self, plane: ControlPlane, per_second: int = PER_SECOND) -> None:
        self._plane, self._per_second, self._over = plane, per_second, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done = 0

    def __enter__(self) -> "Churn":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            changes.at_rate(self._per_second, 1.0, partial(self._change, self.done))
            self.done += self._per_second

    def _change(self, begun: int, number: int) -> None:
        number += begun
        lap, place = divmod(number, SIZE.lone)
        if number % 2:
            changes.turn(self._plane.api, SIZE.apps, number // 2)
            return
        troubles: Sequence[str | None] = (*shop.TROUBLES, None)
        status = shop.pod(troubles[(lap + place) % len(troubles)])["status"]
        path = filling.lone_path(place)
        if (lap + place) % 9 == 0:
            document = self._plane.api.get(path)
            del document["metadata"]["resourceVersion"], document["metadata"]["uid"]
            self._plane.api.delete(path, grace=0)
            self._plane.api.create(document)
        self._plane.api.patch_status(path, {"status": status})


def newest(findings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each incident as it was told last."""
    return list({finding["incident"]["id"]: finding["incident"] for finding in findings}.values())


def open_failures(lines: str) -> Broken:
    """What is open after these findings: root, object and rule."""
    return failing(newest(map(json.loads, lines.splitlines())))


def failing(incidents: Iterable[dict[str, Any]]) -> Broken:
    """What of these incidents is open: root, object and rule."""
    return {
        (named(each["root"]), named(told["object"]), told["rule"])
        for each in incidents
        if each["state"] == "open"
        for told in each["failures"]
    }


def analyzed(report: dict[str, Any]) -> Broken:
    """The same by one look at the cluster."""
    return {
        (named(each["root"]), named(each), told["rule"]) for each in report["diagnoses"] for told in each["failures"]
    }


def named(told: dict[str, Any]) -> tuple[str, str, str]:
    return told["kind"], told.get("namespace") or "", told["name"]


def differing(incidents: Iterable[dict[str, Any]], truth: Broken) -> list[str]:
    """In what these differ from what is so: an incident counts all of its objects, and names only a few of them."""
    counted, named_too = dict[Any, int](), failing(shown := [each for each in incidents if each["state"] == "open"])
    for each in shown:
        root = named(each["root"])
        counted[root] = counted.get(root, 0) + each["member_count"]
    objects = dict[Any, set[Any]]()
    for root, broken, _ in truth:
        objects.setdefault(root, set()).add(broken)
    wrong = [f"of {each} it is not so" for each in sorted(named_too - truth, key=str)]
    for root in sorted(counted.keys() | objects.keys(), key=str):
        if counted.get(root, 0) != (there := len(objects.get(root, ()))):
            wrong.append(f"of {root} {counted.get(root, 0)} are told, and {there} there")
    return wrong
