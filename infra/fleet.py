"""What `make fleet` does: a fleet of two clusters, real in all its parts but Slack and S3, breaks and is mended.

Those two are servers on loopback that speak their formats. What arrives is printed as it arrives, until Ctrl-C; with
--once, until what was mended is told to be over.
"""

import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console

from infra.testbed import broken_shop
from infra.testbed.control_plane import ControlPlane
from infra.testbed.errors import TestbedError
from infra.testbed.fleet import Fleet
from infra.testbed.kafka import kafka
from infra.testbed.scenarios import SHOP, read
from kubewhy.cli.told import lines
from kubewhy.errors import Rejected
from kubewhy.events import decode
from kubewhy.records import Finding
from kubewhy.runtime.fleet.tailing import Tail
from kubewhy.runtime.fleet.workers import brokers
from kubewhy.settings import load
from kubewhy.topics import FINDINGS
from tests.models.far import serving
from tests.services.moto import KEYS, Store, moto
from tests.services.slack import CHANNEL, TOKEN, Workspace

_CLUSTERS = ("alpha", "beta")
_ROLES = (("analyzer",), ("analyzer",), ("explainer",), ("sink", "slack"), ("sink", "archive"))
_MENDED = "payment-gateway"
_SECONDS = 300.0  # until something is told, at the longest
_TROUBLES = read(Path(broken_shop.__file__).with_suffix(".yaml"))


@click.command()
@click.option("--once", is_flag=True, help="End when what was mended is told to be over.")
def main(once: bool) -> None:
    """Start a fleet, break it, mend some of it, and print what is told."""
    try:
        with TemporaryDirectory(prefix="kubewhy-fleet-") as folder, ExitStack() as stack:
            asyncio.run(_run(Path(folder), stack, once))
    except TestbedError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        _say("the fleet has ended")


async def _run(folder: Path, stack: ExitStack, once: bool) -> None:
    planes = {name: stack.enter_context(ControlPlane.start(say=_say)) for name in _CLUSTERS}
    store = Store.made(stack.enter_context(moto()))
    (folder / "kafka").mkdir()
    broker = stack.enter_context(kafka(folder / "kafka"))
    _say(f"Kafka answers at {broker.bootstrap}")
    workspace = Workspace()
    workspace.now = time.time()
    async with serving(workspace):
        os.environ.update({"SLACK_BOT_TOKEN": TOKEN, **KEYS})
        slack = {"type": "slack", "channel": CHANNEL, "url": f"{workspace.url}/api/"}
        bucket = store.settings().model_dump(mode="json", exclude_unset=True)
        sinks = [slack, {"type": "s3", "name": "archive", **bucket}]
        fleet = Fleet(folder, broker, {"incidents": {"keep_open": "10s"}, "sinks": sinks})
        await asyncio.to_thread(_begin, fleet, planes)
        stack.callback(fleet.stop)
        told = _Told(fleet)
        printing = asyncio.create_task(told.run())
        try:
            await asyncio.to_thread(_break, planes)
            await told.until("opened", _MENDED)
            await asyncio.to_thread(_mend, planes["alpha"])
            await told.until("resolved", _MENDED)
            await asyncio.sleep(1)
            _say(f"Slack shows {len(workspace.channel.roots)} incidents; S3 holds {len(store.objects())} objects")
            if once:
                return
            _say(f"all goes on until Ctrl-C; look with: kubewhy incidents --config {fleet.config} --watch")
            await printing
        finally:
            printing.cancel()


def _begin(fleet: Fleet, planes: dict[str, ControlPlane]) -> None:
    fleet.create_topics()
    for name, plane in planes.items():
        fleet.collector(name, plane.admin_kubeconfig)
    for role in _ROLES:
        fleet.start("-".join(role), *role)
    _say(f"{len(fleet.workers)} workers run: {', '.join(fleet.workers)}")


def _break(planes: dict[str, ControlPlane]) -> None:
    SHOP.play(planes["alpha"])
    for number, each in enumerate(_TROUBLES):
        name = _CLUSTERS[number % 2]
        _say(f"{name}: {each.note}")
        each.play(planes[name])


def _mend(plane: ControlPlane) -> None:
    _say(f"alpha: somebody makes the Secret {_MENDED}")
    secret = {"metadata": {"name": _MENDED, "namespace": "checkout"}, "stringData": {"KEY": "none"}}
    plane.api.create({"apiVersion": "v1", "kind": "Secret", **secret})


class _Told:
    """Prints each finding as it comes to the findings' topic, and knows which have come."""

    def __init__(self, fleet: Fleet) -> None:
        self._kafka = brokers(load(fleet.config), os.environ, "fleet")
        self._console = Console()
        self._seen: set[tuple[str, str]] = set()
        self._more = asyncio.Event()

    async def run(self) -> None:
        async for records in Tail(self._kafka, FINDINGS).batches():
            for record in records:
                try:
                    finding: Finding = decode(FINDINGS, record.value, record.headers)
                except Rejected:
                    continue
                incident = finding.incident
                for number, line in enumerate(lines(finding)):
                    where = f"{incident.cluster_name or incident.cluster:<6.6} " if not number else " " * 7
                    self._console.print(where, line, sep="", soft_wrap=True, highlight=False)
                self._seen.add((finding.transition, incident.root.name))
            self._more.set()

    async def until(self, transition: str, name: str) -> None:
        """Raises TestbedError where it does not come."""
        try:
            async with asyncio.timeout(_SECONDS):
                while (transition, name) not in self._seen:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise TestbedError(f"{name} was not told as {transition} within {_SECONDS:.0f} s") from None


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
