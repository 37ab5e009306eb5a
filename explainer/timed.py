"""One object's failures on the clock of `now`: what is within its hold, what counts, what is over but kept. Pure.

Times are the API server's in a report. Its clock differs from that of `now`, so only ages cross.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from sys import intern

import msgspec

from explainer.correlation import ahead, fingerprint, later
from explainer.flapping import Flapping
from kubewhy.records import Failure, Report

# What ends for good ends after its time, not at it: a failure may return in the very moment.
_MOMENT = timedelta(microseconds=1)
# When a cluster is heard of again after a silence, its collector has so long to say what is still so.
CATCHING_UP = timedelta(seconds=60)

Key = tuple[str, str, str, int]  # rule, container, reason, and which of several alike


class Timed(msgspec.Struct, gc=False):
    """One failure of one object."""

    failure: Failure
    name: str  # its fingerprint
    first_seen: datetime
    opens: datetime
    fades: datetime | None
    counts: bool = False  # it has outlasted its hold
    ended: datetime | None = None  # since when it is seen no more
    silenced: bool = False


class Timing:
    """How failures go with time in one cluster.

    `holds` stand in for the rules' own; `is_alone` says whether nothing else fails that hangs together with one.
    """

    def __init__(
        self,
        cluster: str,
        holds: Mapping[str, timedelta],
        flapping: Flapping,
        is_alone: Callable[[Report, Failure], bool],
    ) -> None:
        self._cluster, self._holds, self._flapping, self._is_alone = cluster, holds, flapping, is_alone
        self.spared = 0  # failures that were over before their hold was

    def taken(
        self, report: Report, failures: Sequence[Failure], before: Mapping[Key, Timed], now: datetime
    ) -> dict[Key, Timed]:
        """What an object's failures are by this report. What is reported no more, but counted, is over from now on."""
        timed = dict(self._reported(report, failures, before, now))
        for key, each in before.items():
            if key in timed:
                continue
            if report.broken:
                # A rule that raised says nothing, so what was said before stays.
                timed[key] = each
            elif each.counts:
                timed[key] = self._ended(each, now)
            else:
                self.spared += 1
        return timed

    def turn(
        self,
        report: Report,
        timed: dict[Key, Timed],
        now: datetime,
        *,
        caught_up: datetime | None,
        reported: bool,
        keeps: bool,
    ) -> bool:
        """Whether any begins to count by now, or has faded, or was kept for long enough; this is taken out.

        Before all is `caught_up` with, none ends, nor begins that is not `reported` now and was seen only before the
        silence. Unless it `keeps`, what is over is kept no longer.
        """
        turned, may_end = False, caught_up is None or now >= caught_up
        for key, each in list(timed.items()):
            may_begin = may_end or reported or not _is_from_before(each, caught_up)
            if may_begin and not each.counts and each.opens <= now and (each.fades is None or now < each.fades):
                self._began(report, each, now)
                each.counts = turned = True
            if each.ended is None and each.fades and each.fades <= now and (may_end or not each.counts):
                turned = True
                if not each.counts:
                    self.spared += 1
                    del timed[key]
                    continue
                timed[key] = each = self._ended(each, now)
            keep = self._flapping.keep_open(each.name) if keeps else timedelta(0)
            if each.ended is not None and may_end and (now > each.ended + keep or not keep):
                turned = True
                del timed[key]
        return turned

    def next_turn(self, each: Timed, caught_up: datetime | None) -> datetime | None:
        """When it next changes by itself."""
        if not each.counts:
            return max(each.opens, caught_up) if caught_up and _is_from_before(each, caught_up) else each.opens
        end = each.fades if each.ended is None else later(each.ended + self._flapping.keep_open(each.name), _MOMENT)
        return max(end, caught_up) if end and caught_up else end

    def _reported(
        self, report: Report, failures: Sequence[Failure], before: Mapping[Key, Timed], now: datetime
    ) -> Iterator[tuple[Key, Timed]]:
        behind = now - report.observed_at
        alike: Counter[tuple[str, str, str]] = Counter()
        for failure in failures:
            kind = (intern(failure.rule), intern(failure.container), intern(failure.reason))
            key = (*kind, alike[kind])
            alike[kind] += 1
            told = before.get(key)
            since = later(failure.since, behind) if failure.since else None
            if since and not ahead(since, now):
                since = min(since, now)
            # A deadline is first seen when it comes.
            first_seen = since if since and since > now else told.first_seen if told else now
            opens = self._opens(failure, told, since, first_seen, now)
            fades = later(failure.until, behind) if failure.until else None
            name = fingerprint(self._cluster, report, failure)
            if fades and fades <= now:
                continue
            if told and told.counts and since and since > now:
                continue  # a deadline that was moved ahead has not come
            if told and told.ended is None and (failure, name) == (told.failure, told.name):
                yield key, told
                continue
            seen = Timed(shared(failure), name, first_seen, opens, fades)
            yield key, self._again(report, told, seen, now) if told else seen

    def _opens(
        self, failure: Failure, told: Timed | None, since: datetime | None, first_seen: datetime, now: datetime
    ) -> datetime:
        hold = self._holds.get(failure.rule)
        if hold is None:
            return later(since or first_seen, timedelta(seconds=failure.hold))
        # Rules know how their own hold goes with a later onset, as of each crash of a loop. Others do not.
        opens = later(min(since, first_seen) if since else first_seen, hold)
        return min(opens, told.opens) if told and not (since and since > now) else opens

    def _began(self, report: Report, each: Timed, now: datetime) -> None:
        self._flapping.began(each.name, now, lambda: self._is_alone(report, each.failure))

    def _again(self, report: Report, told: Timed, seen: Timed, now: datetime) -> Timed:
        """Seen again. A later onset, as each crash of a loop is, does not end what has counted all along."""
        if not told.counts:
            return seen
        moved = seen.name != told.name
        if told.ended is None and moved:
            self._flapping.ended(told.name, now)
        if told.ended is not None or moved:
            self._began(report, seen, now)
        seen.opens, seen.counts, seen.silenced = min(seen.opens, told.opens), True, told.silenced
        return seen

    def _ended(self, each: Timed, now: datetime) -> Timed:
        """The same, over: since now, unless it was so before."""
        if each.ended is not None:
            return each
        self._flapping.ended(each.name, now)
        return msgspec.structs.replace(each, ended=now)


def _is_from_before(each: Timed, caught_up: datetime | None) -> bool:
    """Whether it was seen before the silence after which all is caught up with then."""
    return caught_up is not None and each.first_seen < caught_up - CATCHING_UP


def shared(failure: Failure) -> Failure:
    """The same, with strings that all failures of its rule have in common, for there may be many."""
    return msgspec.structs.replace(
        failure,
        rule=intern(failure.rule),
        container=intern(failure.container),
        reason=intern(failure.reason),
        title=intern(failure.title),
        why=intern(failure.why),
        look=intern(failure.look),
        docs=intern(failure.docs),
    )
