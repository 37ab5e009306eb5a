"""A fleet on loopback: one broker, workers of every role as processes of their own, and any number of clusters."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.testbed.errors import TestbedError
from infra.testbed.kafka import Broker
from infra.testbed.processes import Process

KUBEWHY = (sys.executable, "-m", "kubewhy")


class Fleet:
    """Workers of one set of settings. They are started by name, and can be ended in any way and started again."""

    def __init__(
        self, folder: Path, broker: Broker, settings: Mapping[str, Any], *, prefix: str = "fleet.", partitions: int = 4
    ) -> None:
        self.folder, self.workers = folder, dict[str, Process]()
        kafka = {"servers": [broker.bootstrap], "prefix": prefix, "partitions": partitions, "replication": 1}
        self.settings = {**settings, "kafka": kafka}
        self.config = self._written("fleet", {})
        self._numbers = dict[str, int]()

    def create_topics(self) -> None:
        self.kubewhy("topics", "create", "--config", str(self.config))

    def collector(self, cluster: str, kubeconfig: Path, *flags: str) -> Process:
        """One more collector of that cluster."""
        config = self._written(f"cluster-{cluster}", {"cluster": {"name": cluster}})
        return self.start(f"collector-{cluster}", "collector", "--kubeconfig", str(kubeconfig), *flags, config=config)

    def start(self, name: str, *role: str, config: Path | None = None) -> Process:
        """One more worker. The second of a name is called NAME-2."""
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        called = name if number == 1 else f"{name}-{number}"
        command = [*KUBEWHY, "worker", *role, "--config", str(config or self.config)]
        process = self.workers[called] = Process(called, command, self.folder / f"{called}.log")
        process.start()
        return process

    def kubewhy(self, *args: str) -> str:
        """What a command says. Raises TestbedError where it fails."""
        done = subprocess.run([*KUBEWHY, *args], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise TestbedError(f"kubewhy {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def incidents(self, *args: str) -> list[dict[str, Any]]:
        """What the fleet's board shows."""
        told = self.kubewhy("incidents", "--config", str(self.config), "-o", "json", *args)
        return [json.loads(line) for line in told.splitlines()]

    def said(self) -> dict[str, str]:
        """What each worker has written to its log."""
        return {name: process.log.read_text(errors="replace") for name, process in self.workers.items()}

    def stop(self) -> None:
        """Ends all, the collectors first."""
        for name in sorted(self.workers, key=lambda name: not name.startswith("collector")):
            self.workers[name].stop(20)

    def _written(self, name: str, more: Mapping[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({**self.settings, **more}))  # which is YAML as well
        return path
