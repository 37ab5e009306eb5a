"""The sink that prints."""

import io
import os

from kubewhy.records import encode
from sinks.stdout import StdoutSink
from tests.test_incidents import Clock, broken


def findings() -> Clock:
    clock = Clock()
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/a")
    return clock


async def test_each_finding_is_one_line_of_json() -> None:
    out, found = io.BytesIO(), findings().findings
    await StdoutSink(out).send(found)
    assert out.getvalue().splitlines() == [encode(each) for each in found]


async def test_a_closed_pipe_ends_quietly_and_says_so_once() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    closed: list[bool] = []
    with os.fdopen(writer, "wb", buffering=0) as out:
        sink = StdoutSink(out, lambda: closed.append(True))
        await sink.send(findings().findings)
        await sink.send(findings().findings)
    assert closed == [True]
