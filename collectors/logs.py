"""The last log lines of containers that died: asked for only where that is wanted, and waited for by nobody."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from collectors.answers import Expired, Refused, is_forbidden
from collectors.index import Key
from collectors.requests import Cluster
from kubewhy.errors import ConfigError
from kubewhy.kube.batch import Job
from kubewhy.kube.core import ContainerStatus, Pod
from kubewhy.records import Evidence, Logged
from kubewhy.related import decode_object

log = logging.getLogger(__name__)

AT_ONCE = 3
SECONDS = 5.0
REFUSED_SECONDS = 600.0
LINES, LINE = 5, 200  # of one container, and characters of each
_TAIL = 20
# The kubelet counts them from the first of these lines on: with few, the last ones would be missing.
_BYTES = 64 * 1024
# No rule tells for longer of a container that runs again, or of one that has ended for good.
_FORGIVEN, _FORGOTTEN = timedelta(hours=1), timedelta(days=1)

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_FRAME = re.compile(r'\s*(at |File "|\.\.\. \d+ more|goroutine )')
_ERROR = re.compile(
    r"err(or)?\b|exception|fatal|panic|caused by|fail|cannot|can't|unable|denied|refused|killed|not found|critical",
    re.IGNORECASE,
)
# What a kubelet writes in place of a log that is not there any more.
_NO_LOG = ("unable to retrieve container logs for ", "failed to try resolving symlinks in path ")


class Death(NamedTuple):
    """One end of a container. `run` counts its starts; `previous` says that it was started again, or waits to be."""

    container: str
    run: int
    previous: bool


def deaths(pod: Pod, now: datetime) -> Iterator[Death]:
    """How its containers have failed last, as far as that still counts."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if not pod.deleting and _failed(status, now):
            run = status.restart_count - (status.state.running is not None)
            yield Death(status.name, run, previous=status.state.terminated is None)


def _failed(status: ContainerStatus, now: datetime) -> bool:
    state, dead = status.state, status.state.terminated or status.last_state.terminated
    held_back = state.waiting is not None and state.waiting.reason == "CrashLoopBackOff"
    if dead is None or dead.exit_code == 0:
        return held_back
    at = dead.finished_at or (state.running.started_at if state.running else None)
    return at is None or now - at < (_FORGIVEN if state.running else _FORGOTTEN)


def plain(written: bytes) -> str:
    """The text of whole lines, before they are parted: a secret may be of many lines, or coloured."""
    if len(written) >= _BYTES:
        written = written.rpartition(b"\n")[0] or written
    return _ESCAPES.sub("", written.decode(errors="replace"))


def telling(text: str) -> tuple[str, ...]:
    """Of what a container has written last, the lines that tell most: errors and their causes, and the very last."""
    every = [line for line in text.splitlines() if line.strip() and not line.startswith(_NO_LOG)]
    lines = list(dict.fromkeys(map(_shown, reversed(every))))[::-1]
    last = len(lines) - 1

    def worth(place: int) -> tuple[bool, bool, int]:
        frame = bool(_FRAME.match(lines[place]))
        return place == last or (not frame and bool(_ERROR.search(lines[place]))), not frame, place

    kept = sorted(range(len(lines)), key=worth, reverse=True)[:LINES]
    return tuple(_short(lines[place].strip()) for place in sorted(kept))


def _shown(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line).rstrip()


def _short(line: str) -> str:
    return line if len(line) <= LINE else line[: LINE - 3] + "..."


@dataclass
class _Kept:
    """What is known of one pod that fails."""

    uid: str
    job: Key | None
    runs: dict[str, int] = field(default_factory=dict)  # which end of each container was asked about
    lines: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Logs:
    """Log lines of the pods that fail now, and of the Jobs that they are of. Close it at the end.

    `redact` takes secrets out of a text. `came` hears of an object of which there are other lines than before.
    """

    def __init__(
        self, cluster: Cluster, redact: Callable[[str], str], came: Callable[[Key], None] = lambda key: None
    ) -> None:
        self._cluster, self._redact, self._came = cluster, redact, came
        self._kept: dict[Key, _Kept] = {}
        self._of_job: dict[Key, dict[Key, None]] = {}
        self._waiting: dict[tuple[Key, str], Death] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._refused: dict[str, float] = {}  # namespaces, and until when none is asked for there
        self._told = False

    def add(self, evidence: Evidence) -> Evidence:
        """The same with the lines that have come so far. What has not is asked for meanwhile."""
        ref = evidence.ref
        key = Key(ref.kind, ref.namespace, ref.name)
        found: Iterable[Logged] = ()
        if (ref.group, ref.kind) == (Pod.resource.group, Pod.resource.kind):
            found = self._of_pod(key, evidence)
        elif (ref.group, ref.kind) == (Job.resource.group, Job.resource.kind) and not evidence.gone:
            found = [each for pod in self._of_job.get(key, ()) for each in _logged(self._kept[pod])][-1:]
        logs = tuple(found)
        return msgspec.structs.replace(evidence, logs=logs) if logs else evidence

    async def settle(self, seconds: float) -> None:
        """Until all that was asked for has come, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._asking:
                    await asyncio.wait(self._asking)

    async def close(self) -> None:
        """Asks for nothing more."""
        self._waiting.clear()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _of_pod(self, key: Key, evidence: Evidence) -> Sequence[Logged]:
        kept = self._kept.get(key)
        pod = Pod() if evidence.gone else decode_object(evidence.object, Pod)
        found = list(deaths(pod, evidence.observed_at))
        if kept and (not found or kept.uid != evidence.uid):
            self._forget(key, kept)
            kept = None
        if not found:
            return ()
        if kept is None:
            kept = self._kept[key] = _Kept(evidence.uid, _job_of(key, pod))
            if kept.job:
                self._of_job.setdefault(kept.job, {})[key] = None
        for gone in kept.runs.keys() - {each.container for each in found}:
            del kept.runs[gone]
            kept.lines.pop(gone, None)
        for death in found:
            if kept.runs.get(death.container) != death.run and not self._is_refused(key):
                kept.runs[death.container] = death.run
                self._waiting[key, death.container] = death
        self._pump()
        return _logged(kept)

    def _forget(self, key: Key, kept: _Kept) -> None:
        del self._kept[key]
        if kept.job:
            pods = self._of_job[kept.job]
            del pods[key]
            if not pods:
                del self._of_job[kept.job]

    def _pump(self) -> None:
        while self._waiting and len(self._asking) < AT_ONCE:
            place = next(iter(self._waiting))
            task = asyncio.create_task(self._ask(place[0], self._waiting.pop(place)))
            self._asking.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._pump()

    async def _ask(self, key: Key, death: Death) -> None:
        kept = self._kept.get(key)
        if kept is None or kept.runs.get(death.container) != death.run:
            return
        lines = None if self._is_refused(key) else await self._read(key, death)
        if self._kept.get(key) is not kept or kept.runs.get(death.container) != death.run:
            return
        if lines is None:
            del kept.runs[death.container]
        elif kept.lines.get(death.container, ()) != lines:
            kept.lines[death.container] = lines
            for each in (key, kept.job) if kept.job else (key,):
                self._came(each)

    async def _read(self, key: Key, death: Death) -> tuple[str, ...] | None:
        """None where that is refused, so that it is to be asked for again."""
        query = {
            "container": death.container,
            "previous": str(death.previous).lower(),
            "tailLines": str(_TAIL),
            "limitBytes": str(_BYTES),
            "timestamps": "false",
        }
        try:
            written = await self._cluster.log(key.namespace or "", key.name, query, most=_BYTES, seconds=SECONDS)
            return telling(self._redact(plain(written)))
        except Refused as refused:
            if not is_forbidden(str(refused)):
                return ()
            self._refused[key.namespace or ""] = asyncio.get_running_loop().time() + REFUSED_SECONDS
            if not self._told:
                self._told = True
                words = "%s: cannot read logs (%s): going on without; grant what `kubewhy rbac --logs` prints"
                log.warning(words, self._cluster.name, refused)
            return None
        except (ConfigError, Expired) as error:
            log.debug("no log of %s in %s: %s", death.container, key.name, error)
            return ()

    def _is_refused(self, key: Key) -> bool:
        return self._refused.get(key.namespace or "", 0.0) > asyncio.get_running_loop().time()


def _job_of(key: Key, pod: Pod) -> Key | None:
    owner = pod.controller
    return Key(owner.kind, key.namespace, owner.name) if owner and owner.kind == Job.resource.kind else None


def _logged(kept: _Kept) -> list[Logged]:
    return [Logged(container=name, lines=lines) for name, lines in kept.lines.items() if lines]
