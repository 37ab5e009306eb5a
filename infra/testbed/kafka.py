"""A real Kafka broker on loopback: one node that is its own controller."""

import base64
import secrets
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.testbed.access import write_private
from infra.testbed.build import build
from infra.testbed.components import Command
from infra.testbed.errors import TestbedError
from infra.testbed.listeners import Secured
from infra.testbed.processes import Process, free_ports
from infra.testbed.toolchain import find_java

_START_SECONDS = 60
_STOP_SECONDS = 20

_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %p %d{ISO8601} %c: %m%n
"""


class Broker:
    """It can be ended in any way and started again: with the same addresses, and with what it was told."""

    def __init__(self, folder: Path, overrides: Mapping[str, object], secured: Secured | None) -> None:
        self._port, controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._secured = secured
        self._folder = folder
        settings = {**_settings(folder, self.bootstrap, f"127.0.0.1:{controller_port}", secured), **overrides}
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        self._properties = write_private(folder / "server.properties", lines)
        self._java = _java(folder)
        command = [*self._java, "kafka.Kafka", self._properties]
        self._process = Process("kafka", command, folder / "kafka.log", folder)

    @property
    def secured(self) -> Secured:
        if self._secured is None:
            raise TestbedError("this broker has no secured listeners: kafka(folder, secured=True) has")
        return self._secured

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def start(self) -> None:
        """Returns when it takes records. Raises TestbedError with the end of its log if it does not."""
        self._process.start()
        self._process.wait_until(self._answers, _START_SECONDS)

    def stop(self) -> None:
        self._process.stop(_STOP_SECONDS)

    def kill(self) -> None:
        """As a power cut would, but for what the kernel has yet to write."""
        self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def format(self) -> None:
        """Makes the folder for its data that of a new cluster."""
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        command: Command = [*self._java, "kafka.tools.StorageTool", "format", "--config", self._properties]
        # Joined by "=", for an id may begin with a dash.
        command.append(f"--cluster-id={cluster}")
        if self._secured:
            command += ["--add-scram", self._secured.scram_record]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode:
            told = (done.stdout + done.stderr).strip().splitlines()
            grave = [line for line in told if "Exception" in line or "error:" in line]
            raise TestbedError(f"cannot format kafka's folder: {[*grave, *told, 'it said nothing'][0][:500]}")

    def _answers(self) -> bool:
        """Whether it counts itself among those who serve: the oldest request for metadata, about no topic."""
        request = struct.pack(">ihhihi", 14, 3, 1, 0, -1, 0)
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection:
                connection.sendall(request)
                answer = connection.recv(12, socket.MSG_WAITALL)
        except OSError:
            return False
        return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


def _java(folder: Path) -> Command:
    """The start of a command line: what follows is a class of Kafka's, and its arguments."""
    logging = folder / "log4j2.properties"
    logging.write_text(_LOGGING)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return [
        find_java(),
        "-Xmx512m",
        # It starts in half the time, takes a third less work for its first million records, and no more later.
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={logging}",
        # Its native libraries are unpacked there, and stay when it is killed.
        f"-Djava.io.tmpdir={temporary}",
        "-cp",
        f"{build()['kafka']}/*",
    ]


@contextmanager
def kafka(folder: Path, *, secured: bool = False, **overrides: object) -> Iterator[Broker]:
    """A broker that takes records; overrides are its settings, with dots or underscores: log_retention_ms=1000."""
    folder = folder.resolve()
    chosen = {name if "." in name else name.replace("_", "."): value for name, value in overrides.items()}
    broker = Broker(folder, chosen, Secured.make(folder / "keys") if secured else None)
    broker.format()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _settings(folder: Path, bootstrap: str, controller: str, secured: Secured | None) -> dict[str, object]:
    listeners = {"PLAINTEXT": ("PLAINTEXT", bootstrap), "CONTROLLER": ("PLAINTEXT", controller)}
    if secured:
        listeners |= secured.listeners
    return {
        **(secured.settings() if secured else {}),
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": ",".join(f"{name}://{address}" for name, (_, address) in listeners.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, (protocol, _) in listeners.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": folder / "data",
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # Fifty partitions would be made while the first consumer waits.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # After a kill, the controller holds the broker's name for its former self for so long: 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Tests wait for a dead consumer to be noticed.
        "group.min.session.timeout.ms": 1000,
    }
