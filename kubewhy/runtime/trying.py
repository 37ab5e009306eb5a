"""A sink tried out: an incident that never was, told from its opening to its end."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from kubewhy.contracts import Checks, Letter, Manner, Memo, Sink
from kubewhy.records import Change, Explanation, Finding, IncidentView, Ref, Seen, Severity, Sort, Told, Words
from kubewhy.runtime.outbox import SinkMemo
from kubewhy.runtime.state import MemoryState

_SPARE = 20  # pieces of work that one incident may leave for later, and more than that


def story(key: str, now: datetime, cluster: str = "test") -> tuple[Finding, Finding, Finding]:
    """It opens, is explained and ends. Its id is the key, so that another one is another incident."""
    secret, pod = Ref("Secret", "password", "shop"), Ref("Pod", "web-6d4cf56db6-x2x5k", "shop")
    told = Told(
        object=pod,
        rule="pod-config-missing",
        severity=Severity.INFO,
        message="Secret shop/password does not exist",
        since=now,
        until=None,
        cause=secret,
    )
    words = Words(
        rule=told.rule,
        title="A ConfigMap or Secret is missing",
        why="The container cannot start.",
        look="Create it, or mend the reference.",
        docs="https://kubernetes.io/docs/concepts/configuration/secret/",
    )
    view = IncidentView(
        id=key,
        cluster=cluster,
        title="A test: nothing is wrong with Secret shop/password",
        severity=Severity.INFO,
        state="open",
        root=secret,
        members=(pod,),
        member_count=1,
        opened_at=now,
        resolved_at=None,
        resolution=None,
        failures=(told,),
        words=(words,),
        commands=("kubectl get secret password -n shop",),
        evidence=(Seen(object=pod, lines=("web: waiting: CreateContainerConfigError",)),),
        changes=(Change(object=secret, at=now - timedelta(minutes=2), sort=Sort.WRITTEN, what="written"),),
    )
    explanation = Explanation(
        cause="This is a test of kubewhy: somebody has removed a Secret that never was.",
        why="The container reads its password from it.",
        fix=("Do nothing.",),
        verify=("kubectl get secret password -n shop",),
        confidence="high",
        language="English",
        backend="none",
        model="none",
        input_tokens=0,
        output_tokens=0,
        cost=None,
        cached=False,
    )
    ended = now + timedelta(seconds=2)
    over = msgspec.structs.replace(view, state="resolved", resolved_at=ended, resolution="recovered")
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
