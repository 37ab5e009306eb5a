"""A recording through the whole pipeline, in its own time, as fast as it goes."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collectors import recorded
from collectors.gather import content_hash, gather
from collectors.index import Key
from collectors.store import Store, kinds_read
from explainer.incidents import Incidents
from explainer.wanting import SETTLED
from kubewhy.contracts import Analyzer
from kubewhy.records import Evidence, Silence, Tick, Version
from kubewhy.runtime.delivery import Delivery
from kubewhy.runtime.embedded import TICK, Pipeline, Teller
from kubewhy.runtime.routing import Router
from kubewhy.runtime.silencing import silence_changes

if TYPE_CHECKING:
    from kubewhy.runtime.calls import Calls  # it needs what is large, and nobody without a model does

_TICKS = 100_000  # in one go


async def replay(
    path: Path,
    analyzers: Sequence[Analyzer[Any]],
    delivery: Delivery,
    router: Router,
    namespaces: tuple[str, ...] = (),
    *,
    no_hold: bool = False,
    incidents: Incidents | None = None,
    silences: Sequence[Silence] = (),
    calls: "Calls | None" = None,
) -> None:
    """Runs a recording, or those namespaces of it, to its end."""
    incidents = incidents or Incidents()
    pipeline = Pipeline(analyzers, no_hold=no_hold, incidents=incidents)
    teller = Teller(pipeline, delivery, router)
    now: datetime | None = None
    recording = recorded.read(path)
    async with delivery.running():
        for record, at in _records(recording, analyzers, namespaces):
            if now is None:
                incidents.call(recording.header.cluster, recording.header.name, at)
                teller.tell(pipeline.feed(silence_changes(None, {}, silences), at))
            now = at
            teller.tell(pipeline.feed([record], now))
            if isinstance(record, Tick):
                teller.tick(now)
            await asyncio.sleep(0)  # so that a signal can end it
        if now:
            teller.end(now)
            # A recording is over in no time: what is open at its end is explained then.
            while calls and await calls.round(incidents.wanted(now + SETTLED)):
                teller.tell(pipeline.feed(calls.take(), now))
        await delivery.end()


def _records(
    recording: recorded.Recording, analyzers: Sequence[Analyzer[Any]], namespaces: tuple[str, ...]
) -> Iterator[tuple[Evidence | Tick, datetime]]:
    """What a collector would have sent, and the ticks in between, each with its time."""
    touched: dict[Key, None] = {}
    store = Store(analyzers, lambda key: touched.setdefault(key))
    kinds, head = kinds_read(analyzers), recording.header
    sent: dict[Key, int] = {}
    seq, settled = 0, False

    def news() -> Iterator[Evidence]:
        nonlocal seq
        for key in list(touched):
            if namespaces and key.namespace not in (None, *namespaces):
                continue
            seq += 1
            evidence = gather(store, key, cluster=head.cluster, version=Version(1, seq), server=head.server)
            told = content_hash(evidence)
            if evidence.gone or sent.get(key) != told:
                sent[key] = told
                yield evidence
        touched.clear()

    now: datetime | None = None
    ticked: datetime | None = None
    for at in recorded.replay(recording, store):
        # Each entry's time comes just before it: what it changes is sent when the next one comes.
        now, ticked = now or at, ticked or at
        settled = settled or store.all_settled(kinds)
        if settled:
            yield from ((evidence, now) for evidence in news())
        for tick in _ticks(ticked, at):
            ticked = tick
            yield Tick(), tick
        now = max(now, at)
    if now:
        yield from ((evidence, now) for evidence in news())
        yield Tick(), now


def _ticks(since: datetime, until: datetime) -> Iterator[datetime]:
    """A tick a second; where nothing happens for days, fewer."""
    step = max(TICK, (until - since) / _TICKS)
    while until - since >= step:
        since += step
        yield since
