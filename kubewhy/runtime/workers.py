"""The roles of a fleet, one process each: from the settings to what runs. All end only when they are cancelled."""

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.runtime.declaring import ready
from kubewhy.runtime.kafka import Kafka
from kubewhy.settings import Settings
from kubewhy.topics import CLAIMS, EVIDENCE, FAILURES, FINDINGS, INCIDENTS, RESTATED, SILENCES


def brokers(settings: Settings, environ: Mapping[str, str], role: str) -> Kafka:
    """The Kafka of the settings. Raises ConfigError where they have none."""
    if settings.kafka is None:
        raise ConfigError("the settings say nothing of Kafka: add `kafka: {servers: [HOST:PORT]}`")
    return Kafka(settings.kafka, environ, f"kubewhy-{role}")


async def collector(
    kafka: Kafka,
    settings: Settings,
    analyzers: Sequence[Analyzer[Any]],
    kubeconfig: Path | None,
    context: str | None,
    *,
    with_analyzers: bool = False,
) -> None:
    """Publishes how one cluster is; one of several that do is the active one."""
    from collectors.credentials import connect
    from collectors.live import LiveCollector, Pace
    from explainer.masking import redacted
    from kubewhy.runtime.collecting import Collecting

    await ready(kafka, CLAIMS, EVIDENCE, RESTATED, FAILURES)
    told = str(kubeconfig) if kubeconfig else None
    async with await connect(told, context) as cluster:
        identity = settings.cluster.id or await cluster.identify()
        pace = settings.collector

        def start(term: int) -> LiveCollector:
            return LiveCollector(
                cluster,
                analyzers,
                settings.namespaces,
                term=term,
                cluster_id=identity,
                name=settings.cluster.name,
                redact=redacted if settings.logs else None,
                pace=Pace(
                    heartbeat=pace.heartbeat.total_seconds(),
                    inventory=pace.inventory.total_seconds(),
                    restate=int(pace.restate.total_seconds()),
                ),
            )

        member = f"{socket.gethostname()}/{os.getpid()}"
        judges = analyzers if with_analyzers else ()
        collecting = Collecting(kafka, identity, start, member=member, clock=cluster.now, analyzers=judges)
        await collecting.run()


async def analyzer(kafka: Kafka, analyzers: Sequence[Analyzer[Any]]) -> None:
    """Judges the evidence of all clusters, side by side with others that do."""
    from kubewhy.runtime.analyzing import Analyzing

    await ready(kafka, EVIDENCE, RESTATED, FAILURES)
    await Analyzing(kafka, analyzers).run()


async def explainer(
    kafka: Kafka, settings: Settings, config: Path | None, environ: Mapping[str, str], *, no_hold: bool = False
) -> None:
    """Makes incidents of what fails, and has models explain them."""
    from explainer.incidents import Incidents
    from kubewhy.runtime.folding import Explaining
    from kubewhy.runtime.patience import patience
    from kubewhy.runtime.routing import Router
    from kubewhy.runtime.silenced import Silenced
    from kubewhy.runtime.tables import fold

    await ready(kafka, FAILURES, FINDINGS, INCIDENTS, SILENCES)
    labels = Router(settings).labels
    calls = None
    if settings.explain.backends:
        from kubewhy.runtime.calls import Calls
        from kubewhy.runtime.models import explainer as models

        calls = Calls(models(settings.explain, lambda: datetime.now(UTC), environ), settings.explain.at_once)

    def make(fleet: bool) -> Incidents:
        return patience(settings, config, labels, no_hold=no_hold)

    make(False)  # what is wrong with the settings is told now
    silences = Silenced(kafka, settings)
    explaining = Explaining(make, kafka.partitions(FAILURES), silences=silences.known, calls=calls, no_hold=no_hold)

    async def asking() -> None:
        while True:
            explaining.ask()
            await asyncio.sleep(1)

    try:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(silences.follow())
            group.create_task(asking())
            # Before the first record of all: what is silenced must not be told for a moment at each start.
            await silences.caught_up.wait()
            await fold(kafka, explaining)
            following.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        if calls:
            await calls.close()
