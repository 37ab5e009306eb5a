"""A sink tried out: an incident that never was, told from its opening to its end."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from kubewhy.contracts import Checks, Letter, Manner, Memo, Sink
from kubewhy.records import Finding, Severity
from kubewhy.runtime.outbox import SinkMemo
from kubewhy.runtime.state import MemoryState
from sinks.samples import OPENED

_SPARE = 20  # pieces of work that one incident may leave for later, and more than that


def story(key: str, now: datetime, cluster: str = "test") -> tuple[Finding, Finding, Finding]:
    """It opens, is explained and ends. Its id is the key, so that another one is another incident."""
    like = OPENED.incident
    view = replace(
        like,
        id=key,
        cluster=cluster,
        title="A test: nothing is wrong with Secret shop/password",
        severity=Severity.INFO,
        opened_at=now,
        failures=tuple(replace(each, severity=Severity.INFO, since=now) for each in like.failures),
        changes=tuple(replace(each, at=now - timedelta(minutes=2)) for each in like.changes),
    )
    assert OPENED.explanation
    cause = "This is a test of kubewhy: somebody has removed a Secret that never was."
    explanation = replace(
        OPENED.explanation, cause=cause, fix=("Do nothing.",), backend="none", model="none", cost=None
    )
    ended = now + timedelta(seconds=2)
    over = replace(view, state="resolved", resolved_at=ended, resolution="recovered")
    return (
        Finding(id=f"{key}-1", transition="opened", at=now, revision=1, incident=view),
        Finding(
            id=f"{key}-2",
            transition="explained",
            at=now + timedelta(seconds=1),
            revision=2,
            incident=view,
            explanation=explanation,
        ),
        Finding(id=f"{key}-3", transition="resolved", at=ended, revision=3, incident=over, explanation=explanation),
    )


async def tried(sink: Sink, findings: Sequence[Finding]) -> list[str]:
    """What people should know of that sink, once it has taken these. Raises what the sink does."""
    notes = await sink.check() if isinstance(sink, Checks) else []
    memo = SinkMemo(MemoryState(), "")
    pause = sink.manner.apart.total_seconds()
    for number, finding in enumerate(findings):
        await asyncio.sleep(pause if number else 0)
        await sink.send([Letter(int(finding.at.timestamp() * 1_000_000), finding)], memo)
    for _ in range(_SPARE):
        await asyncio.sleep(pause)
        if not await sink.spare(memo):
            break
    return notes


class Keeping:
    """A sink that keeps what it is told, to be looked at."""

    manner = Manner(at_most=1000, worst_first=False)

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """It has room for all."""
        self.findings += [letter.finding for letter in letters]

    async def spare(self, memo: Memo) -> bool:
        """Nothing is put off."""
        return False

    async def close(self) -> None:
        """Nothing is open."""
