"""Runs the plays of all pods that have one: who is due reports, and says when to come back."""

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from infra.testbed.api import STRATEGIC, Api
from infra.testbed.components import PLUGGED_IN
from infra.testbed.errors import NotFound, TestbedError
from infra.testbed.kubelet.pod import Pod
from infra.testbed.kubelet.recorder import Recorder
from infra.testbed.nodes import PLAY

# A play changes the pod, then yields for how many seconds that state lasts. When it ends, the pod stays so.
Play = Callable[[Pod], Iterator[float]]

log = logging.getLogger("kubelet")


@dataclass(order=True)
class _Turn:
    due: float
    number: int
    pod: Pod = field(compare=False)
    steps: Iterator[float] = field(compare=False)
    # How long the state lasts that still has to be reported; none if the play has to go on first.
    owed: float | None = field(compare=False, default=None)


class Player:
    """Threads: one watches pods, one watches nodes, some carry out turns."""

    def __init__(self, api: Api, plays: dict[str, Play]) -> None:
        self._api = api
        self._plays = plays
        self._recorder = Recorder(api)
        self._turns: list[_Turn] = []
        self._on_stage: dict[str, str] = {}
        self._pods: dict[str, Pod] = {}
        self._plugged: set[str] = set()
        self._owners: set[str] = set()
        self._numbers = itertools.count()
        self._changed = threading.Condition()

    def run(self, hands: int = 8) -> None:
        """For ever."""
        for path, selector, note in (
            ("/api/v1/nodes", PLUGGED_IN, self._note_node),
            ("/api/v1/pods", PLAY, self._note_pod),
        ):
            threading.Thread(target=self._follow, args=(path, selector, note), daemon=True).start()
        with ThreadPoolExecutor(hands) as pool:
            while True:
                pool.submit(self._take, self._next())

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name that plays."""
        return next((each for each in [*self._pods.values()] if (each.namespace, each.name) == (namespace, name)), None)

    def _follow(self, path: str, selector: str, note: Callable[[str, dict[str, Any]], None]) -> None:
        while True:
            try:
                listed = self._api.get(path, labelSelector=selector)
                for item in listed["items"]:
                    note("ADDED", item)
                version = listed["metadata"]["resourceVersion"]
                for event in self._api.watch(path, labelSelector=selector, resourceVersion=version):
                    if event["type"] == "ERROR":
                        break
                    note(event["type"], event["object"])
            except Exception as error:  # noqa: BLE001 - whatever breaks a watch, the answer is a new one
                log.info("watching %s again: %s", path, error)
                time.sleep(0.5)

    def _note_node(self, change: str, node: dict[str, Any]) -> None:
        # With a selector, a label taken off arrives as DELETED.
        name = node["metadata"]["name"]
        self._plugged.discard(name) if change == "DELETED" else self._plugged.add(name)

    def _note_pod(self, change: str, document: dict[str, Any]) -> None:
        metadata = document["metadata"]
        uid, play = metadata["uid"], metadata["labels"].get(PLAY, "")
        if change == "DELETED" or "deletionTimestamp" in metadata:
            if self._on_stage.pop(uid, None):
                self._pods.pop(uid, None)
                self._recorder.forget(uid)
            return
        over = document.get("status", {}).get("phase") in ("Succeeded", "Failed")
        # Another play on a living pod takes the place of the one before.
        if over or play not in self._plays or "nodeName" not in document["spec"] or self._on_stage.get(uid) == play:
            return
        self._on_stage[uid] = play
        pod = self._pods[uid] = Pod({**document, "play": play}, self._lookup, self._first)
        self._put(_Turn(time.monotonic(), next(self._numbers), pod, self._plays[play](pod)))

    def _put(self, turn: _Turn) -> None:
        with self._changed:
            heapq.heappush(self._turns, turn)
            self._changed.notify()

    def _next(self) -> _Turn:
        with self._changed:
            while True:
                wait = self._turns[0].due - time.monotonic() if self._turns else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._turns)
                self._changed.wait(wait)

    def _take(self, turn: _Turn) -> None:
        pod = turn.pod
        if self._on_stage.get(pod.uid) != pod.document["play"]:
            return
        if pod.spec["nodeName"] not in self._plugged:
            # A lost node's kubelet does nothing. Should it come back, it goes on where it was.
            self._again(turn, 0.5)
            return
        try:
            if turn.owed is None:
                turn.owed = next(turn.steps, math.inf)
            self._report(pod)
        except NotFound:
            self._on_stage.pop(pod.uid, None)
        except TestbedError as error:
            log.info("%s: %s", pod.full_name, error)
            self._again(turn, 1.0)
        except Exception:
            log.exception("%s broke its play", pod.full_name)
        else:
            lasts, turn.owed = turn.owed, None
            if lasts != math.inf:
                self._again(turn, lasts)

    def _again(self, turn: _Turn, seconds: float) -> None:
        turn.due = time.monotonic() + seconds
        self._put(turn)

    def _report(self, pod: Pod) -> None:
        self._api.patch_status(pod.path, {"status": pod.status(), "metadata": {"uid": pod.uid}}, STRATEGIC)
        while pod.said:
            self._recorder.record(pod, pod.said[0])
            del pod.said[0]

    def _lookup(self, path: str) -> dict[str, Any] | None:
        try:
            return self._api.get(path)
        except NotFound:
            return None

    def _first(self, owner: str) -> bool:
        first = owner not in self._owners
        self._owners.add(owner)
        return first
