"""One container's state, and its way through the states."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

State = dict[str, Any]


def timestamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Container:
    """Changed by plays, read by the pod when it reports."""

    name: str
    image: str
    pod: str
    sidecar: bool = False
    state: State = field(default_factory=dict)
    last: State = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    # The name of the container in the runtime; none before it was created.
    identity: str = ""

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None

    def wait(self, reason: str, message: str = "") -> None:
        """An ended run becomes the last one: the API shows one before the present, not more."""
        if "terminated" in self.state:
            self.last = self.state
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        self.ready = self.started = False

    def run(self, *, ready: bool = True, started: bool = True) -> None:
        if "terminated" in self.state:
            self.last = self.state
        if self.last:
            self.restarts += 1
        told = f"{self.pod}/{self.name}/{self.restarts}"
        self.identity = "containerd://" + hashlib.sha256(told.encode()).hexdigest()
        self.state = {"running": {"startedAt": timestamp()}}
        self.ready, self.started = ready, started

    def end(self, code: int, reason: str | None = None, message: str = "") -> None:
        began = self.state.get("running", {}).get("startedAt") or timestamp()
        self.state = {"terminated": _ended(code, reason, message, began, self.identity)}
        self.ready = self.started = False

    def ended_before(self, code: int, reason: str, ago: timedelta) -> None:
        """Gives it a past that it did not live through."""
        then = datetime.now(UTC) - ago
        ended = _ended(code, reason, "", timestamp(then - timedelta(minutes=3)), self.identity)
        self.last = {"terminated": {**ended, "finishedAt": timestamp(then)}}

    def status(self) -> State:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image if self.identity else "",
            **({"containerID": self.identity} if self.identity else {}),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }


def _ended(code: int, reason: str | None, message: str, began: str, identity: str) -> State:
    # A container that never ran has the epoch as its beginning: so containerd reports it.
    began = "1970-01-01T00:00:00Z" if reason == "StartError" else began
    ended = {
        "exitCode": code,
        "reason": reason or ("Error" if code else "Completed"),
        "startedAt": began,
        "finishedAt": timestamp(),
        "containerID": identity,
    }
    return {**ended, "message": message} if message else ended
