"""Models asked about what one look found: the same incidents, questions and answers as while watching."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from explainer.incidents import Incidents
from explainer.wanting import Wanted
from kubewhy.records import Explanation, Ref
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.oneshot import Analysis
from kubewhy.runtime.patience import at_once

# So long a busy model is asked again, for somebody who waits for it.
PATIENCE = timedelta(seconds=30)


def questions(analysis: Analysis, *, no_hold: bool = False) -> list[Wanted]:
    """What there is to ask about the incidents of one look. Without holds, about all of them."""
    incidents = Incidents()
    for report in analysis.reports:
        deque(incidents.feed(at_once(report) if no_hold else report, analysis.observed_at), maxlen=0)
    return list(incidents.questions())


async def explain(
    wanted: Sequence[Wanted], calls: Calls, on_progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[Ref, Explanation]:
    """What models say of these, as far as they do, by roots. `on_progress` hears how many of how many are done."""
    found: dict[Ref, Explanation] = {}
    left = {each.incident: each for each in wanted}
    until = calls.now() + PATIENCE
    while left:
        on_progress(len(wanted) - len(left), len(wanted))
        if not await calls.round(left.values()):
            due = calls.due()
            if due is None or due > until:
                break
            await asyncio.sleep(max(0.0, (due - calls.now()).total_seconds()))
        for answer in calls.take():
            asked = left.pop(answer.incident)
            if answer.explanation:
                found[asked.look().incident.root] = answer.explanation
    return found
