"""A real Alertmanager on loopback, which posts every group to one webhook at once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3

from infra.testbed.build import build
from infra.testbed.components import Command
from infra.testbed.processes import Process, free_ports


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Its address, once it answers."""
    config = folder / "alertmanager.yaml"
    route = {"receiver": "hook", "group_by": ["incident"], "group_wait": "100ms", "group_interval": "200ms"}
    receiver = {"name": "hook", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
    config.write_text(json.dumps({"route": route, "receivers": [receiver]}))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command: Command = [
        build()["alertmanager"],
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # Alone, it need not look for others.
        "--cluster.listen-address=",
    ]
    process = Process("alertmanager", command, folder / "alertmanager.log")
    process.start()
    try:
        process.wait_until(lambda: _answers(f"{url}/-/ready"), 30)
        yield url
    finally:
        process.stop()


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, timeout=2, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False
