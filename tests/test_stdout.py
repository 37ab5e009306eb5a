"""The sink that prints."""

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kubewhy.errors import RetryLater
from kubewhy.records import encode
from sinks.stdout import StdoutSink, printable
from tests.delivered import Memory, letters
from tests.test_incidents import Clock, broken

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "broken-shop.kwrec"


def findings() -> Clock:
    clock = Clock()
    clock.say("Pod shop/a", broken())
    clock.say("Pod shop/a")
    return clock


async def test_each_finding_is_one_line_of_json() -> None:
    out, found = io.BytesIO(), findings().findings
    await StdoutSink(out).send(letters(found), Memory())
    assert out.getvalue().splitlines() == [encode(each) for each in found]


async def test_a_closed_pipe_ends_quietly_and_says_so_once() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    closed: list[OSError] = []
    with os.fdopen(writer, "wb", buffering=0) as out:
        sink = StdoutSink(out, closed.append)
        for _ in range(2):
            with pytest.raises(RetryLater):
                await sink.send(letters(findings().findings), Memory())
    assert list(map(type, closed)) == [BrokenPipeError]


async def test_what_is_written_is_what_it_is_told_to_make_of_a_finding() -> None:
    out = io.BytesIO()
    sink = StdoutSink(out, render=lambda finding: finding.transition.encode() + b"!")
    await sink.send(letters(findings().findings), Memory())
    assert out.getvalue() == b"opened!resolved!"


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_slow_reader_gets_everything(blocking: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    read: list[bytes] = []
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as out:
        reading = threading.Thread(target=lambda: read.append(source.read()))
        sending = asyncio.create_task(
            StdoutSink(out, render=lambda finding: b"x" * 300_000).send(letters(findings().findings), Memory())
        )
        await asyncio.sleep(0)
        reading.start()
        await sending
        out.close()
        await asyncio.to_thread(reading.join)
    assert read == [b"x" * 600_000]


async def test_a_reader_that_has_stopped_does_not_keep_us_from_ending() -> None:
    reader, writer = os.pipe()
    before = set(threading.enumerate())
    with os.fdopen(writer, "wb", buffering=0) as out:
        os.set_blocking(writer, False)
        out.write(b"x" * 1_000_000)  # as much as goes in
        os.set_blocking(writer, True)
        sending = asyncio.create_task(StdoutSink(out).send(letters(findings().findings), Memory()))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        # Whoever still writes is let go before others can get the number of its file.
        os.close(reader)
        for thread in set(threading.enumerate()) - before:
            await asyncio.to_thread(thread.join, 10)


@pytest.mark.parametrize("output", ["text", "json"])
def test_when_nobody_reads_kubewhy_ends_quietly(output: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kubewhy", "run", "--from", str(EXAMPLE), "-o", output]
    told = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (told.returncode, told.stderr) == (1, "")


def test_json_cannot_steer_a_terminal() -> None:
    hostile = "\x1b[31m \x7f \x9b31m \u202e \u2028 \U000e0041 é 漢"
    told = printable(json.dumps({"said": hostile}, ensure_ascii=False).encode())
    assert told.decode().isprintable()
    assert json.loads(told) == {"said": hostile}
    assert "é 漢".encode() in told


async def test_what_only_a_patient_writer_gets_written_is_written_whole() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    found = findings().findings * 500
    with os.fdopen(writer, "wb", buffering=0) as out, os.fdopen(reader, "rb") as read:
        sending = asyncio.create_task(StdoutSink(out).send(letters(found), Memory()))
        lines = [await asyncio.to_thread(read.readline) for _ in found]
        await sending
    assert lines == [encode(each) + b"\n" for each in found]
