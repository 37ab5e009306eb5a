"""An archive whose writer is killed again and again, before, during and after its puts; and how long it takes."""

import asyncio
import gzip
import os
import random
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from kubewhy.contracts import Letter, Memo
from kubewhy.records import Finding
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.state import MemoryState
from kubewhy.s3 import Bucket
from sinks.archive import MANIFEST
from sinks.s3 import S3Sink
from tests.models.far import serving
from tests.services.archiving import START, row
from tests.services.moto import Store, known, moto
from tests.services.s3 import forward

KILLS = 50
# Before S3 has the request, when it has half of it, when it has answered and nobody knows, and a little later.
MOMENTS = ("before", "half", "between", "after")


@dataclass
class Way:
    """The way to S3, on which whoever sends may be killed."""

    to: str
    chance: random.Random
    url: str = ""
    sender: int = 0
    kills: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    puts: list[tuple[str, bytes, int]] = field(default_factory=list)  # name, body and answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        moment = self.chance.choice([*MOMENTS, ""]) if self._may_kill else ""
        if moment == "half":
            await request.content.read(64)
        if moment in ("before", "half"):
            self._kill(moment)
            raise web.HTTPServiceUnavailable
        body = await request.read()
        reply = await forward(request, self.to)
        self.puts.append((request.path, body, reply.status))
        if moment == "between":
            self._kill(moment)
        if moment == "after":
            asyncio.get_running_loop().call_later(self.chance.uniform(0, 0.02), self._kill, moment)
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    @property
    def _may_kill(self) -> bool:
        return self.sender != 0 and sum(self.kills.values()) < KILLS

    def _kill(self, moment: str) -> None:
        if self._may_kill:
            os.kill(self.sender, signal.SIGKILL)
            self.sender = 0
            self.kills[moment] += 1


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    known(monkeypatch)
    with moto() as url:
        yield Store.made(url)


async def lives(through: Way, bucket: str, path: Path) -> list[int]:
    """How each life ended, until one came to its end."""
    pipe, ended = asyncio.subprocess.PIPE, list[int]()
    program = [sys.executable, "-m", "tests.services.archiving", str(path), through.url, bucket]
    process = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe)
    assert process.stdin
    assert process.stdout
    while not ended or ended[-1]:
        process.stdin.write(b"live\n")
        through.sender = int(await process.stdout.readline())
        ended.append(int(await process.stdout.readline()))
        through.sender = 0
    process.stdin.close()
    await process.wait()
    return ended


async def test_a_writer_that_is_killed_fifty_times_archives_each_finding_once(store: Store, tmp_path: Path) -> None:
    store.client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    async with serving(Way(store.url, random.Random(7))) as through:
        ended = await lives(through, store.bucket, tmp_path / "state")
    assert ended == [-signal.SIGKILL] * KILLS + [0]
    assert set(through.kills) == set(MOMENTS)

    archived = {name: body for name, body in store.objects().items() if name != MANIFEST}
    lines = [line for body in archived.values() for line in gzip.decompress(body).splitlines()]
    found = sorted((msgspec.json.decode(line, type=Finding) for line in lines), key=lambda each: each.revision)
    assert found == list(row()), "each of them, whole, and once"

    sent: dict[str, set[tuple[str, bytes]]] = defaultdict(set)
    for name, body, _ in through.puts:
        if MANIFEST not in name:
            cluster = re.search("cluster=([^/]*)", name)
            assert cluster
            sent[cluster[1] + name.rpartition("/")[2].partition("-")[0]].add((name, body))
    assert all(len(same) == 1 for same in sent.values()), "what begins at one position always has one name and content"
    assert {name.removeprefix(f"/{store.bucket}/") for [(name, _)] in sent.values()} == set(archived)
    assert any(status == 412 for _, _, status in through.puts), "some came again"
    versions = store.client.list_object_versions(Bucket=store.bucket)["Versions"]
    assert sorted(each["Key"] for each in versions if each["Key"] != MANIFEST) == sorted(archived)


class Timed(S3Sink):
    """Knows by a played clock how long each finding took, and lets that wait for what is under way."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self.now = START
        self.idle = asyncio.Event()
        self.idle.set()
        self.took: dict[str, timedelta] = {}

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        self.idle.clear()
        await super().send(letters, memo)
        self.took.update({each.finding.id: self.now - each.finding.at for each in letters})
        self.idle.set()


async def test_each_finding_is_there_within_five_minutes(store: Store) -> None:
    sink, findings = Timed(Bucket(store.settings())), list(row())[:200]
    delivery = Delivery({"s3": sink}, MemoryState())
    waiting = list(findings)
    async with delivery.running():
        while len(sink.took) < len(findings):
            sink.now += timedelta(seconds=1)
            assert sink.now < findings[-1].at + timedelta(minutes=5)
            while waiting and waiting[0].at <= sink.now:
                delivery.post([("s3", waiting.pop(0))], {})
            delivery.tick(sink.now)
            for _ in range(3):  # the courier takes what is due
                await asyncio.sleep(0)
            await sink.idle.wait()
    assert max(sink.took.values()) <= timedelta(minutes=5)
    assert max(sink.took.values()) > timedelta(seconds=30), "what comes within a minute goes together"
    assert len(store.objects()) < len(findings) / 5
