"""Dead letters on Kafka: seen, looked at, and sent again to whom they were for."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.testbed.kafka import Broker
from kubewhy.events import Message
from kubewhy.records import Finding
from kubewhy.runtime.fleet.boarding import Board
from kubewhy.runtime.fleet.publishing import dead
from kubewhy.runtime.fleet.remembered import between
from kubewhy.topics import EVIDENCE, FINDINGS, Topic
from tests.live.delivering import PARTITIONS, Bench, benched, stories, until
from tests.live.test_sinking import hook, ids, nothing_left, set_aside
from tests.models.far import Reply
from tests.services.receiver import Receiver, receiving

pytestmark = pytest.mark.live


async def run(*args: str | Path) -> tuple[int, str, str]:
    """A command's status, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubewhy", "dead-letters", *map(str, args), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def said(*args: str | Path) -> str:
    status, out, err = await run(*args)
    assert (status, err) == (0, "")
    return out


async def listed(bench: Bench, *args: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(await said("list", "--config", bench.config, "-o", "json", *args))
    return told


async def everything(bench: Bench, topic: Topic) -> list[Any]:
    """All records of a topic."""
    return [record async for record in between(bench.kafka, topic, dict.fromkeys(range(PARTITIONS), 0))]


@asynccontextmanager
async def refusing(broker: Broker, folder: Path, findings: list[Finding]) -> AsyncIterator[tuple[Bench, Receiver]]:
    """The first finding was refused by the sink `hook`, and taken by `other`."""
    async with receiving() as receiver, receiving() as other:
        sinks = [hook(receiver), hook(other, "other")]
        async with benched(folder, broker.bootstrap, sinks) as bench:
            receiver.then(Reply(400, b"no"))
            bench.start("hook")
            bench.start("other")
            await bench.publish(findings)
            await until(lambda: len(other.taken) == len(findings), 30)
            await until(partial(set_aside, bench, 1), 30)
            await until(partial(nothing_left, bench, "hook"), 30)
            yield bench, receiver
            assert len(other.taken) == len(findings), "it was for the other alone"


async def test_what_a_sink_refused_is_sent_again_to_it_alone(broker: Broker, tmp_path: Path) -> None:
    findings = stories(1, 3)
    async with refusing(broker, tmp_path, findings) as (bench, receiver):
        [told] = await listed(bench)
        [refused] = {each.id for each in findings} - set(ids(receiver))
        assert (told["stage"], told["from"]["topic"]) == ("sink/hook", bench.kafka.name(FINDINGS))
        assert "400" in told["reason"]
        assert told["id"] in await said("list", "--config", bench.config)
        assert await listed(bench, "--stage", "analyzer") == []
        assert await said("list", "--config", bench.config, "--stage", "explainer") == "There are no dead letters.\n"

        shown = json.loads(await said("show", told["id"], "--config", bench.config, "-o", "json"))
        assert shown["value"]["id"] == refused
        assert shown["headers"]["ce_id"] == refused
        assert f'"id": "{refused}"' in await said("show", told["id"], "--config", bench.config)

        before = Board()
        before.take(await everything(bench, FINDINGS))
        for count in (1, 2):
            assert await said("retry", told["id"], "--config", bench.config) == "sent again: 1\n"
            await until(lambda count=count: ids(receiver).count(refused) == count, 30)
        await until(partial(nothing_left, bench, "hook"), 10)
        await until(partial(nothing_left, bench, "other"), 10)
        assert len(await bench.dead()) == 1
        records, after = await everything(bench, FINDINGS), Board()
        after.take(records)
        assert after.views(resolved=True) == before.views(resolved=True), "it says nothing new of the incident"
        [key] = {record.key for record in records} - {b"i0"}
        assert [record.value is None for record in records if record.key == key] == [False, True] * 2


async def test_a_record_goes_to_where_it_came_from_just_as_it_was(broker: Broker, tmp_path: Path) -> None:
    async with benched(tmp_path, broker.bootstrap, []) as bench:
        async with bench.publisher() as publisher:
            headers = [("ce_type", b"com.example.v1"), ("ce_id", b"7"), ("ce_id", b"8")]
            for number in range(3):
                await publisher.send([Message(EVIDENCE, b"c/%d" % number, b"\xff%d" % number, headers)])
            came = await everything(bench, EVIDENCE)
            await publisher.send(dead("analyzer", "it is none", record) for record in came)
        assert await said("retry", "--all", "--stage", "analyzer", "--config", bench.config) == "sent again: 3\n"
        again = await everything(bench, EVIDENCE)
        seen = [(each.partition, each.key, each.value, tuple(each.headers)) for each in again]
        assert sorted(seen) == sorted(
            2 * [(each.partition, each.key, each.value, tuple(each.headers)) for each in came]
        )
        assert '"base64": "/zA="' in await said("show", "0-0", "--config", bench.config)


async def test_what_cannot_be_is_one_line(broker: Broker, tmp_path: Path) -> None:
    async with refusing(broker, tmp_path, stories(1, 2)) as (bench, _):
        config = json.loads(bench.config.read_text())
        other = tmp_path / "other.yaml"
        other.write_text(json.dumps({**config, "sinks": config["sinks"][1:]}))
        away = tmp_path / "away.yaml"
        away.write_text(json.dumps({**config, "kafka": {**config["kafka"], "servers": ["127.0.0.1:1"]}}))
        tries: list[tuple[list[str | Path], str]] = [
            (["show", "0-99", "--config", bench.config], "there is no dead letter 0-99"),
            (["retry", "0-99", "--config", bench.config], "there is no dead letter 0-99"),
            (["show", "x", "--config", bench.config], "'x' is no id of a dead letter"),
            (["retry", "0-0", "--config", other], "0-0: it is for the sink hook, which the settings do not name"),
            (["list", "--config", away], "kafka: cannot reach 127.0.0.1:1"),
            (["retry", "--config", away], "give either an ID or --all"),
            (["list", "--state", tmp_path / "none"], "no such file"),
        ]
        for args, line in tries:
            status, out, err = await run(*args)
            assert (status, out) == (2 if "either" in line else 1, "")
            assert line in err
            assert err.count("\n") == 1
