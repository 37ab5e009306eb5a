"""A real Prometheus on loopback, which scrapes what it is told; and promtool, which says how metrics should look."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from infra.testbed.build import build
from infra.testbed.components import Command
from infra.testbed.processes import Process, free_ports

_START_SECONDS = 30


class Prometheus:
    """It is asked at its address, in its own language."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series that this comes to now, by their labels."""
        told: dict[str, Any] = urllib3.request(
            "GET", f"{self.url}/api/v1/query?{urlencode({'query': expression})}", timeout=10, retries=False
        ).json()
        return [(each["metric"], float(each["value"][1])) for each in told["data"]["result"]]


@contextmanager
def prometheus(folder: Path, jobs: Mapping[str, str], interval: str = "200ms") -> Iterator[Prometheus]:
    """One that scrapes HOST:PORT for each job, once it answers."""
    config = folder / "prometheus.yaml"
    scraped = [{"job_name": name, "static_configs": [{"targets": [target]}]} for name, target in jobs.items()]
    paced = {"scrape_interval": interval, "scrape_timeout": interval}
    config.write_text(json.dumps({"global": paced, "scrape_configs": scraped}))
    (port,) = free_ports(1)
    found = Prometheus(f"http://127.0.0.1:{port}")
    command: Command = [
        build()["prometheus"],
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    # It looks for its web pages in the folder it is started in: there are none.
    process = Process("prometheus", command, folder / "prometheus.log", folder)
    process.start()
    try:
        process.wait_until(lambda: _answers(f"{found.url}/-/ready"), _START_SECONDS)
        yield found
    finally:
        process.stop()


def complaints(metrics: bytes) -> str:
    """What promtool has against them; nothing where all is well."""
    done = subprocess.run([build()["promtool"], "check", "metrics"], input=metrics, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return said if said or not done.returncode else f"promtool ended with {done.returncode}"


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, timeout=2, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False
