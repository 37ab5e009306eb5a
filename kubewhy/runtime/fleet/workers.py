"""The roles of a fleet, one process each: from the settings to what runs. All end only when they are cancelled."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubewhy.contracts import Analyzer
from kubewhy.errors import ConfigError
from kubewhy.runtime.fleet.declaring import ready
from kubewhy.runtime.fleet.kafka import BROKERS, Kafka
from kubewhy.runtime.fleet.lag import of_all
from kubewhy.runtime.telemetry.notes import Notes
from kubewhy.runtime.telemetry.showing import showing
from kubewhy.settings import ExplainSettings, Settings
from kubewhy.topics import CLAIMS, DEAD_LETTERS, EVIDENCE, FAILURES, FINDINGS, INCIDENTS, RESTATED, SILENCES

if TYPE_CHECKING:
    from kubewhy.runtime.calls import Calls
    from kubewhy.runtime.telemetry.shown import Shown

# Checks that have to be passed before a role is ready. Those of analyzers are called as their topics are.
CLUSTER, SILENCED = "cluster", "silences"
_LOOKING_SECONDS = 5.0
_ANSWER_SECONDS = 10.0


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
    from kubewhy.runtime.fleet.collecting import Collecting
    from kubewhy.runtime.fleet.electing import STANDING

    told = str(kubeconfig) if kubeconfig else None
    async with _shown(kafka, settings, "collector", CLUSTER, STANDING) as shown:
        await ready(kafka, CLAIMS, EVIDENCE, RESTATED, FAILURES)
        async with await connect(told, context) as cluster:
            identity = settings.cluster.id or await cluster.identify()
            kafka.notes.said(CLUSTER, "")
            cluster.troubles.on_reach = partial(kafka.notes.said, CLUSTER)
            pace, notes, judges = settings.collector, kafka.notes, analyzers if with_analyzers else ()

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
                    on_event=notes.watched,
                    on_list=notes.listed,
                )

            member = f"{socket.gethostname()}/{os.getpid()}"
            collecting = Collecting(kafka, identity, start, member=member, clock=cluster.now, analyzers=judges)
            if shown:
                shown.collects(identity, settings.cluster.name or cluster.name, lambda: collecting.waiting)
                if judges:
                    shown.judges()
            await collecting.run()


async def analyzer(kafka: Kafka, settings: Settings, analyzers: Sequence[Analyzer[Any]]) -> None:
    """Judges the evidence of all clusters, side by side with others that do."""
    from kubewhy.runtime.fleet.analyzing import Analyzing

    async with _shown(kafka, settings, "analyzer", EVIDENCE.name, RESTATED.name, stage="analyzer") as shown:
        if shown:
            shown.judges()
        await ready(kafka, EVIDENCE, RESTATED, FAILURES, DEAD_LETTERS)
        await Analyzing(kafka, analyzers).run()


async def explainer(
    kafka: Kafka, settings: Settings, config: Path | None, environ: Mapping[str, str], *, no_hold: bool = False
) -> None:
    """Makes incidents of what fails, and has models explain them."""
    from explainer.incidents import Incidents
    from explainer.unheard import Silent
    from kubewhy.runtime.fleet.folding import Explaining
    from kubewhy.runtime.fleet.silenced import Silenced
    from kubewhy.runtime.fleet.tables import RESTORED, fold
    from kubewhy.runtime.patience import patience
    from kubewhy.runtime.routing import Router

    labels = Router(settings).labels

    def make(fleet: bool) -> Incidents:
        # Which clusters are silent is told of all together, and not where each has its place.
        silence = Silent.TOGETHER if fleet else Silent.UNTOLD
        return patience(settings, config, labels, no_hold=no_hold, silence=silence)

    make(False)  # what is wrong with the settings is told now
    async with _shown(kafka, settings, "explainer", SILENCED, RESTORED, stage="explainer") as shown:
        await ready(kafka, FAILURES, FINDINGS, INCIDENTS, SILENCES, DEAD_LETTERS)
        notes = kafka.notes
        calls = _calls(settings.explain, environ, notes)
        silences = Silenced(kafka, settings)
        explaining = Explaining(
            make,
            kafka.partitions(FAILURES),
            silences=silences.known,
            calls=calls,
            no_hold=no_hold,
            notes=notes,
        )
        if shown:
            shown.explains(explaining.open)
            if calls:
                shown.asks()

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
                notes.said(SILENCED, "")
                await fold(kafka, explaining, standby=kafka.settings.standbys)
                following.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            if calls:
                await calls.close()


async def sink(kafka: Kafka, settings: Settings, name: str, environ: Mapping[str, str]) -> None:
    """Delivers what is for the sink of that name. Raises ConfigError for what only a person can mend."""
    from kubewhy.runtime.fleet.sinking import RESTORED, SinkWorker

    worker = SinkWorker(kafka, settings, name, environ)
    async with _shown(kafka, settings, "sink", RESTORED, stage=f"sink/{name}") as shown:
        if shown:
            shown.delivers(lambda: {name: worker.counts()})
        await worker.run()


def _calls(settings: ExplainSettings, environ: Mapping[str, str], notes: Notes) -> "Calls | None":
    if not settings.backends:
        return None
    # What asks models is large: nobody without one waits for it.
    from kubewhy.runtime.calls import Calls
    from kubewhy.runtime.models import explainer as models

    return Calls(models(settings, lambda: datetime.now(UTC), environ, notes=notes), settings.at_once)


@asynccontextmanager
async def _shown(
    kafka: Kafka, settings: Settings, role: str, *checks: str, stage: str = ""
) -> AsyncIterator["Shown | None"]:
    """What is shown of that role meanwhile. It is ready only while the brokers answer."""
    async with showing(settings.metrics, kafka.notes, role, BROKERS, *checks) as shown:
        if shown is None:
            yield None
            return
        shown.speaks(lambda: of_all(kafka.looks), stage)
        looking = asyncio.create_task(_look(kafka))
        try:
            yield shown
        finally:
            looking.cancel()


async def _look(kafka: Kafka) -> None:
    """Says for ever whether the brokers answer those who read from them."""
    while True:
        await asyncio.sleep(_LOOKING_SECONDS)
        if not kafka.looks:
            continue  # nobody reads yet, and whoever waits for the brokers says so
        wrong = ""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await of_all(kafka.looks)
        except Exception as error:  # noqa: BLE001 - whatever comes of looking must not end what runs
            wrong = "no broker answers" + ("" if isinstance(error, TimeoutError) else f" ({type(error).__name__})")
        kafka.notes.said(BROKERS, wrong)
