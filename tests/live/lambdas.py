"""An execution environment of AWS Lambda: the function's process, and the API by which its runtime asks for work.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
As there, the process is frozen from when it asks for the next invocation until there is one.
"""

import base64
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any
from uuid import uuid4

import psutil

from infra.testbed.processes import Process

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:kubewhy-analyzer"
CLUSTER = "arn:aws:kafka:eu-central-1:123456789012:cluster/fleet/abcd1234-abcd-cafe-abab-9876543210ab-4"
_BASE = "/2018-06-01/runtime/"
_ROOT = Path(__file__).parents[2]


@dataclass
class Told:
    """What a runtime says: a response, an error, or that it could not begin. `what` is response, error or init."""

    what: str
    body: Any


@dataclass
class _Desk:
    """Where invocations wait for the runtime, and what it says of them for us."""

    work: "Queue[tuple[str, bytes, float]]" = field(default_factory=Queue)
    said: "Queue[Told]" = field(default_factory=Queue)
    asked: "Queue[None]" = field(default_factory=Queue)


class Environment:
    """One environment. Its process is started with the first invocation."""

    def __init__(self, process: Process, desk: _Desk) -> None:
        self.process, self._desk = process, desk

    def invoke(self, event: Any, seconds: float = 60.0) -> Told:
        """The function is called with that event, and has so many seconds. Then it is frozen."""
        if not self.process.running:
            self.process.start()
            self._asks()
        self._desk.work.put((uuid4().hex, json.dumps(event).encode(), time.time() + seconds))
        self.process.signal(signal.SIGCONT)
        told = self._desk.said.get(timeout=seconds + 5)
        self._asks()
        self.process.signal(signal.SIGSTOP)
        return told

    def failed(self, event: Any, seconds: float = 60.0) -> list[tuple[str, int]]:
        """What it reports as failed, by the partition's name and the offset."""
        told = self.invoke(event, seconds)
        assert told.what == "response", told
        assert set(told.body) == {"batchItemFailures"}
        failures = []
        for each in told.body["batchItemFailures"]:
            assert set(each) == {"itemIdentifier"}
            assert set(each["itemIdentifier"]) == {"partition", "offset"}
            failures.append((each["itemIdentifier"]["partition"], each["itemIdentifier"]["offset"]))
        return failures

    def lines(self) -> list[dict[str, Any]]:
        """Its log, which is a JSON object a line."""
        return [json.loads(line) for line in self.process.log.read_text().splitlines()]

    def _asks(self) -> None:
        """Returns once it asks for work."""
        while True:
            try:
                self._desk.asked.get(timeout=1)
                return
            except Empty:
                if not self.process.running:
                    raise AssertionError(self.process.log.read_text()) from None


@contextmanager
def environment(folder: Path, variables: Mapping[str, str]) -> Iterator[Environment]:
    """The analyzers' function with these variables, and none of ours."""
    desk = _Desk()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(desk))
    Thread(target=server.serve_forever, daemon=True).start()
    told = {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_REGION": "eu-central-1",
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(_ROOT),
        **variables,
    }
    command = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in told.items())]
    command += [sys.executable, "-m", "awslambdaric", "infra.functions.analyzer.handler"]
    process = Process("function", command, folder / f"function-{uuid4().hex}.log", folder)
    try:
        yield Environment(process, desk)
    finally:
        process.kill()
        server.shutdown()


def connections(port: int, pid: int | None = None) -> set[int]:
    """What is open to that port, of that process or this one, by the ports at its side."""
    all_of_them = psutil.Process(pid).net_connections("tcp")
    return {each.laddr.port for each in all_of_them if each.raddr and each.raddr.port == port}


def event(records: Iterable[Any], source: str = "aws:kafka") -> dict[str, Any]:
    """What AWS makes of records of a consumer."""
    told: dict[str, Any] = {"eventSource": source, "bootstrapServers": "b-1.fleet.example:9098,b-2.fleet.example:9098"}
    if source == "aws:kafka":
        told["eventSourceArn"] = CLUSTER
    told["records"] = {}
    for record in records:
        told["records"].setdefault(f"{record.topic}-{record.partition}", []).append(
            {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": record.timestamp,
                "timestampType": ("CREATE_TIME", "LOG_APPEND_TIME")[record.timestamp_type],
                "key": _base64(record.key),
                "value": _base64(record.value),
                # A byte is one of Java's.
                "headers": [
                    {name: [byte - 256 if byte > 127 else byte for byte in value]} for name, value in record.headers
                ],
            }
        )
    return told


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _handler(desk: _Desk) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.path == f"{_BASE}invocation/next", self.path
            desk.asked.put(None)
            known, body, deadline = desk.work.get()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Lambda-Runtime-Aws-Request-Id", known)
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000)))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            what = "init" if self.path == f"{_BASE}init/error" else self.path.rpartition("/")[2]
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            desk.said.put(Told(what, body))

        def log_message(self, *told: object) -> None:
            pass

    return Handler
