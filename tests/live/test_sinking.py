"""Sinks as consumer groups: whatever is killed, down or taken over, nothing is lost, and nothing is seen twice."""

import asyncio
import gzip
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

import msgspec
import pytest
from aiohttp import web

from infra.testbed.kafka import Broker, kafka
from infra.testbed.processes import Process
from kubewhy.events import Message, decode, message
from kubewhy.records import Finding
from kubewhy.runtime.fleet.lanes import MOST
from kubewhy.runtime.fleet.remembered import between
from kubewhy.topics import FINDINGS
from sinks.archive import MANIFEST
from tests.live.delivering import PARTITIONS, SESSION, Bench, benched, stories, until
from tests.models.far import Reply, serving, whole
from tests.services.moto import Store, known, moto
from tests.services.receiver import Receiver, receiving
from tests.services.s3 import Door, forward
from tests.services.slack import CHANNEL, TOKEN, Workspace

pytestmark = pytest.mark.live

KILLS = 20
MOMENTS = ("before", "after")  # the far side has done what it is asked


@dataclass
class Fate:
    """Kills workers: by chance at a moment of their own, or when they ask a far side."""

    kills: int
    chance: random.Random = field(default_factory=lambda: random.Random(3))
    workers: dict[str, Process] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    marked: dict[str, str] = field(default_factory=dict)  # who is to die, and at which moment

    def strikes(self, name: str, moment: str) -> None:
        if self.marked.get(name) == moment:
            del self.marked[name]
            self.kill(name, moment)

    def kill(self, name: str, moment: str) -> None:
        if self.workers[name].running:
            self.workers[name].signal(signal.SIGKILL)
            self.done[f"{name} {moment}"] += 1

    async def rule(self, bench: Bench) -> None:
        """Until all are done. Who was killed is started again."""
        while self.done.total() < self.kills:
            name = self.chance.choice(list(self.workers))
            moment = self.chance.choice((*MOMENTS, "whenever"))
            await asyncio.sleep(self.chance.uniform(0.5, 3))
            if moment == "whenever":
                self.kill(name, moment)
            else:
                self.marked[name] = moment
            for each, worker in self.workers.items():
                if not worker.running:
                    bench.start(each)


class Deadly:
    """A far side at which who asks may be killed, before or after it has done what it is asked."""

    def __init__(self, name: str, fate: Fate, far: Workspace | Receiver | None = None, to: str = "") -> None:
        self.name, self.url = name, ""
        self._fate, self._far, self._to = fate, far, to

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self._fate.strikes(self.name, "before")
        if self._far:
            answer = await self._far.answer(request)
        else:
            reply = await forward(request, self._to)
            answer = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        self._fate.strikes(self.name, "after")
        return answer


class Timed(Workspace):
    """Knows when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 2_000_000_000.0
        self.times: list[float] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.times.append(monotonic())
        return await super().answer(request)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    known(monkeypatch)
    with moto() as url:
        yield Store.made(url)


def archived(store: Store) -> list[Finding]:
    bodies = [body for name, body in store.objects().items() if MANIFEST not in name]
    return [msgspec.json.decode(line, type=Finding) for body in bodies for line in gzip.decompress(body).splitlines()]


def ids(receiver: Receiver) -> list[str]:
    return [asked.headers["idempotency-key"] for asked in receiver.taken]


def first_seen(told: list[str]) -> list[str]:
    return list(dict.fromkeys(told))


def in_order(told: list[str]) -> bool:
    """Whether what was new of each incident came in its order."""
    last: dict[str, int] = {}
    for each in first_seen(told):
        incident, _, revision = each.partition("-")
        if int(revision) < last.get(incident, 0):
            return False
        last[incident] = int(revision)
    return True


async def nothing_left(bench: Bench, sink: str) -> bool:
    return await bench.left(sink) == 0


def posts(slack: Workspace) -> Counter[str]:
    """How many messages the channel has of each incident."""
    return Counter(each.said["metadata"]["event_payload"]["message"] for each in slack.channel.roots)


def hook(receiver: Receiver | Deadly, name: str = "hook") -> dict[str, str]:
    return {"type": "webhook", "name": name, "url": receiver.url, "format": "cloudevents"}


def slack_of(slack: Workspace | Deadly) -> dict[str, str]:
    return {"type": "slack", "channel": CHANNEL, "url": f"{slack.url}/api/"}


async def has_members(bench: Bench, sink: str, number: int) -> bool:
    members = await bench.members(sink)
    return len(members) == number and sum(each.partitions for each in members.values()) == PARTITIONS


async def set_aside(bench: Bench, number: int) -> bool:
    return len(await bench.dead()) == number


async def active(bench: Bench, sink: str) -> Process:
    """The worker that has something to do. Others may stand by."""
    found: list[Process] = []

    async def known() -> bool:
        members = await bench.members(sink)
        found[:] = [each for each in bench.workers.values() if each.pid in members and members[each.pid].partitions]
        return sum(member.partitions for member in members.values()) == PARTITIONS

    await until(known, 30)
    [one] = found
    return one


async def test_workers_that_are_killed_twenty_times_lose_nothing_and_show_nothing_twice(
    broker: Broker, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    slack, receiver, fate = Timed(), Receiver(), Fate(KILLS)
    findings = stories(40, 12)
    async with (
        serving(Deadly("slack", fate, slack)) as to_slack,
        serving(Deadly("hook", fate, receiver)) as to_hook,
        serving(Deadly("s3", fate, to=store.url)) as to_s3,
        benched(
            tmp_path,
            broker.bootstrap,
            [
                slack_of(to_slack),
                hook(to_hook),
                {"type": "s3", "bucket": store.bucket, "endpoint": to_s3.url, "region": "eu-central-1"},
            ],
            routes=[{"matchers": ['namespace="shop"'], "sinks": ["slack", "hook"]}],
        ) as bench,
    ):
        fate.workers = {name: bench.start(name) for name in ("slack", "hook", "s3")}
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.publish(findings, 40))
            group.create_task(fate.rule(bench))
        fate.marked.clear()
        for name in fate.workers:
            bench.start(name)
        print(dict(fate.done))
        await until(lambda: len(set(ids(receiver))) == len(findings), 60)
        await until(lambda: len(archived(store)) >= len(findings), 60)
        for name in fate.workers:
            await until(partial(nothing_left, bench, name), 120)

        assert in_order(ids(receiver))
        assert sorted(each.id for each in archived(store)) == sorted(each.id for each in findings)
        assert posts(slack) == {f"post/i{number}": 1 for number in range(40)}
        assert all("\u2705" in each.header for each in slack.channel.roots), "each shows how it ended"
        assert slack.unfit == []
        assert await bench.dead() == []
        assert not [key for key in await bench.remembered() if b"\x1foutbox\x1f" in key], "nothing waits"


async def test_a_sink_that_is_down_delays_no_other_stays_in_its_group_and_catches_up(
    broker: Broker, store: Store, tmp_path: Path
) -> None:
    findings = stories(50, 80, clusters=1)
    path = tmp_path / "findings.ndjson"
    async with (
        serving(Door(store.url)) as door,
        benched(
            tmp_path,
            broker.bootstrap,
            [
                {"type": "s3", "bucket": store.bucket, "endpoint": door.url, "region": "eu-central-1"},
                {"type": "file", "path": str(path)},
            ],
        ) as bench,
    ):
        door.instead = whole(Reply(503, b"down"))
        worker, _ = bench.start("s3"), bench.start("file")
        await bench.publish(findings)
        await until(lambda: path.exists() and path.read_bytes().count(b"\n") == len(findings), 30)
        await asyncio.sleep(3 * SESSION)
        before = await bench.members("s3")
        assert worker.pid in before
        waiting = [key for key in await bench.remembered() if b"\x1foutbox\x1f" in key and key.startswith(b"s3")]
        assert MOST <= len(waiting) < MOST + 500, "the others wait on the topic"
        assert archived(store) == []
        await asyncio.sleep(3 * SESSION)
        door.instead = None
        await until(partial(nothing_left, bench, "s3"), 90)
        assert await bench.members("s3") == before, "it was never thrown out"
        assert sorted(each.id for each in archived(store)) == sorted(each.id for each in findings)


async def test_of_two_workers_that_share_a_webhook_one_is_killed(broker: Broker, tmp_path: Path) -> None:
    findings = stories(50, 10)
    async with receiving() as receiver, benched(tmp_path, broker.bootstrap, [hook(receiver)]) as bench:
        one, two = bench.start("hook", "one"), bench.start("hook", "two")

        async def shared() -> bool:
            members = await bench.members("hook")
            return {one.pid, two.pid} <= members.keys() and all(its.partitions == 2 for its in members.values())

        await until(shared, 30)
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.publish(findings, 10))
            await asyncio.sleep(4)
            one.signal(signal.SIGKILL)
        await until(lambda: len(set(ids(receiver))) == len(findings), 30)
        await until(partial(nothing_left, bench, "hook"), 30)
        assert in_order(ids(receiver))
        # What was sent just when it died may come again: one a partition.
        assert len(receiver.taken) <= len(findings) + PARTITIONS


async def test_one_worker_at_a_time_tells_slack_and_another_takes_over(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    slack, findings = Timed(), stories(12, 12, clusters=2)
    async with serving(slack), benched(tmp_path, broker.bootstrap, [slack_of(slack)]) as bench:
        first = bench.start("slack", "first")
        assert await active(bench, "slack") is first
        bench.start("slack", "second")
        await until(partial(has_members, bench, "slack", 2), 30)
        assert await active(bench, "slack") is first, "who has it keeps it"
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.publish(findings, 15))
            await until(lambda: len(slack.channel.roots) >= 3, 30)
            first.signal(signal.SIGKILL)
            killed = monotonic()
            await asyncio.sleep(0.1)
            asked = len(slack.times)
            await until(lambda: len(slack.times) > asked, 30)
            took = slack.times[asked] - killed
        print(f"taken over after {took:.1f} s")
        assert took < SESSION + 3
        await until(partial(nothing_left, bench, "slack"), 60)
        assert posts(slack) == {f"post/i{number}": 1 for number in range(12)}
        assert all("\u2705" in each.header for each in slack.channel.roots)


async def test_a_worker_that_stood_still_tells_nothing_twice(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    slack, findings = Timed(), stories(12, 12, clusters=2)
    async with serving(slack), benched(tmp_path, broker.bootstrap, [slack_of(slack)]) as bench:
        bench.start("slack", "first")
        bench.start("slack", "second")
        await until(partial(has_members, bench, "slack", 2), 30)
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.publish(findings, 20))
            for _ in range(3):
                one = await active(bench, "slack")
                await asyncio.sleep(1.5)
                one.signal(signal.SIGSTOP)
                await asyncio.sleep(2 * SESSION)
                one.signal(signal.SIGCONT)
                await until(partial(has_members, bench, "slack", 2), 30)
        await until(partial(nothing_left, bench, "slack"), 60)
        assert posts(slack) == {f"post/i{number}": 1 for number in range(12)}
        assert all("\u2705" in each.header for each in slack.channel.roots)


async def test_what_is_no_finding_is_set_aside_and_the_others_arrive(broker: Broker, tmp_path: Path) -> None:
    findings = stories(4, 3, clusters=1)
    poison = [b"\xff\x00", b"{}", b"[1", None, b'{"schema": "kubewhy.finding/v9"}']
    async with receiving() as receiver, benched(tmp_path, broker.bootstrap, [hook(receiver)]) as bench:
        bench.start("hook")
        foreign = [("ce_type", b"com.example.order.v1")]
        async with bench.publisher() as publisher:
            for value, finding in zip(poison, findings, strict=False):
                await publisher.send([Message(FINDINGS, b"k", value, foreign if value == b"{}" else [], "c0")])
                await publisher.send([message(finding)])
        await bench.publish(findings[len(poison) - 1 :])
        await until(lambda: len(set(ids(receiver))) == len(findings), 30)
        await until(partial(nothing_left, bench, "hook"), 10)
        dead = await bench.dead()
        assert [each.value for each in dead] == [value for value in poison if value is not None]
        assert {(each.stage, each.topic, each.key) for each in dead} == {
            ("sink/hook", bench.kafka.name(FINDINGS), b"k")
        }
        assert [each.offset for each in dead] == [0, 2, 4, 8]
        assert "com.example.order" in dead[1].reason


async def test_what_a_sink_refuses_for_good_is_set_aside_as_it_came(broker: Broker, tmp_path: Path) -> None:
    findings = stories(4, 3, clusters=2)
    async with receiving() as receiver, benched(tmp_path, broker.bootstrap, [hook(receiver)]) as bench:
        receiver.then(Reply(400, b"no"), Reply(200, b"ok"), Reply(422, b"no"))
        bench.start("hook")
        await bench.publish(findings)
        await until(lambda: len(receiver.taken) == len(findings) - 3, 30)
        await until(partial(nothing_left, bench, "hook"), 10)
        await until(partial(set_aside, bench, 2), 10)
        for each in await bench.dead():
            finding = decode(FINDINGS, each.value, each.headers)
            assert finding in findings
            [record] = [
                record
                async for record in between(
                    bench.kafka, FINDINGS, {each.partition: each.offset}, {each.partition: each.offset + 1}
                )
            ]
            assert (record.value, record.key) == (each.value, each.key)
            assert (each.stage, each.topic) == ("sink/hook", bench.kafka.name(FINDINGS))


async def test_a_broker_that_is_killed_and_comes_back_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    slack, findings = Timed(), stories(16, 12)
    folder = tmp_path / "kafka"
    folder.mkdir()
    with kafka(folder) as broker:
        async with (
            serving(slack),
            receiving() as receiver,
            benched(tmp_path, broker.bootstrap, [slack_of(slack), hook(receiver)]) as bench,
        ):
            bench.start("slack")
            bench.start("hook")
            async with asyncio.TaskGroup() as group:
                group.create_task(bench.publish(findings, 20))
                for end in (broker.kill, broker.stop):
                    await asyncio.sleep(5)
                    await asyncio.to_thread(end)
                    await asyncio.sleep(3)
                    await asyncio.to_thread(broker.start)
            await until(lambda: len(set(ids(receiver))) == len(findings), 60)
            for name in ("slack", "hook"):
                await until(partial(nothing_left, bench, name), 60)
                assert bench.workers[name].running
                assert "Kafka does not answer; nothing is delivered until it does" in bench.said(name)
                assert "Kafka answers again" in bench.said(name)
            assert in_order(ids(receiver))
            assert posts(slack) == {f"post/i{number}": 1 for number in range(16)}
            assert all("\u2705" in each.header for each in slack.channel.roots)
