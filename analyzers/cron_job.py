"""Cron jobs whose runs fail, pile up, or do not start."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from analyzers.deletion import stuck, stuck_rule
from analyzers.job import why
from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.batch import CronJob, JobRun, failed_condition, is_complete
from kubewhy.records import Failure, Severity
from kubewhy.related import Related

_DOCS = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"

JOB_FAILED = Rule(
    "cronjob-job-failed",
    Severity.CRITICAL,
    "Its last run has failed",
    why="That run's work is not done, and with the same cause the next run fails too.",
    look="Read the log of the failed run's pod; once mended, start a run by hand if the next is far away.",
    docs=_DOCS,
)
MISSED = Rule(
    "cronjob-missed-run",
    Severity.WARNING,
    "Runs that were due have not started",
    why="Scheduled work, such as backups or clean-ups, is left undone, and no pod is there to show an error.",
    look="Read its events and startingDeadlineSeconds, then check that the controller manager runs.",
    hold=minutes(3),
    normal_at_first=True,
    docs=_DOCS + "#starting-deadline",
)
NEVER_SUCCEEDS = Rule(
    "cronjob-never-succeeds",
    Severity.WARNING,
    "Runs start, but none succeeds",
    why="Its work has not been done for several periods, though runs keep starting.",
    look="Read the log of a run while it lives; is it replaced or removed before it can end?",
    hold=minutes(3),
    docs=_DOCS,
)
OVERLAP = Rule(
    "cronjob-overlap",
    Severity.WARNING,
    "Runs take longer than the time between them",
    why="Runs are skipped or pile up: work falls behind, and piled-up pods take what others need.",
    look="See what the oldest active run waits for; then set activeDeadlineSeconds or a wider schedule.",
    hold=minutes(10),
    normal_at_first=True,
    docs=_DOCS + "#concurrency-policy",
)
INVALID = Rule(
    "cronjob-schedule-invalid",
    Severity.CRITICAL,
    "The schedule cannot be understood",
    why="No run starts until the schedule or its time zone is corrected.",
    look="Correct spec.schedule (five fields) or spec.timeZone (a name such as Europe/Berlin).",
    hold=seconds(10),
    docs=_DOCS + "#schedule-syntax",
)
SUSPENDED = Rule(
    "cronjob-suspended",
    Severity.INFO,
    "It has been suspended for long",
    why="Whatever it is for, such as backups or clean-ups, has not been done all this time.",
    look="Ask who suspended it and why; then resume it, or delete it if nobody wants it any more.",
    hold=timedelta(days=7),
    normal_at_first=True,
    docs=_DOCS + "#schedule-suspension",
)
DELETION_STUCK = stuck_rule(
    "cronjob",
    "It starts no more runs, its name stays taken, and deleting its namespace hangs.",
)

_UNSCHEDULED = ("UnknownTimeZone", "UnsupportedSchedule", "UnparseableSchedule", "InvalidSchedule")
_UNSTARTED = ("FailedCreate", "FailedNeedsStart", "TooManyMissedTimes", "MissSchedule")
# With Allow, that many runs at once are a pile; fewer may well be meant.
_PILE = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Jobs removed sooner than this may be gone before the controller has noted their success.
_SHORT_LIVED = 60


def find(cron_job: CronJob, related: Related) -> Iterator[Failure]:
    """What is wrong with one cron job."""
    if cron_job.deleting:
        yield from stuck(DELETION_STUCK, cron_job)
        return
    spec, status = cron_job.spec, cron_job.status
    due: list[datetime] = []
    invalid = ""
    try:
        # What was due while it was suspended, or by another schedule, need not be made up for.
        times = (status.last_schedule_time or cron_job.created, cron_job.metadata.written)
        start = max(filter(None, times), default=None)
        due = next_runs(spec.schedule, spec.time_zone, start or _EPOCH, 2 if start else 0)
    except ValueError as error:
        invalid = str(error)
    if spec.suspend:
        # The first run that it left out is the first proof. When it was suspended is told nowhere.
        yield SUSPENDED.failure("it is suspended, so no run starts", since=due[0] if due else None)
        return

    told = related.newest_event(*_UNSCHEDULED)
    # The API server checks schedules: what has run before, and nobody complains of, is only strange to us.
    if invalid and (told or not status.last_schedule_time):
        why_not = told.message if told and told.message else invalid
        yield INVALID.failure(f"no run will start: {why_not}", reason=told.reason if told else "")
    if len(due) == 2:
        yield from _late(cron_job, related, due)
    yield from _piled_up(cron_job, related)
    failed = _failed_run(cron_job, related)
    if failed:
        yield failed
    else:
        yield from _never_succeeds(cron_job, related)


def _late(cron_job: CronJob, related: Related, due: list[datetime]) -> Iterator[Failure]:
    """What becomes true one period after the next run is due, if nothing happens until then."""
    spec, status = cron_job.spec, cron_job.status
    if status.active and spec.concurrency_policy == "Forbid":
        yield OVERLAP.failure(f"run {status.active[0].name} is still active, so later runs are skipped", since=due[1])
        return
    told = related.newest_event(*_UNSTARTED)
    if told and told.at and told.at < due[0]:
        told = None  # about an earlier run
    refusal = parse(told.message, cron_job.namespace) if told else None
    because = f": {refusal.text}" if refusal else ""
    yield MISSED.failure(
        f"the run due at {due[0]:%Y-%m-%d %H:%M} UTC has not started{because}",
        since=due[1],
        cause=refusal.cause if refusal else None,
        reason=refusal.reason if refusal and told and told.reason == "FailedCreate" else "",
    )


def _piled_up(cron_job: CronJob, related: Related) -> Iterator[Failure]:
    if cron_job.spec.concurrency_policy != "Allow" or len(cron_job.status.active) < _PILE:
        return
    active = {each.name for each in cron_job.status.active}
    started = sorted(run.created for run in related.all(JobRun) if run.name in active and run.created)
    if len(started) >= _PILE:
        yield OVERLAP.failure(f"{len(active)} runs are active at once", since=started[_PILE - 1], hold=minutes(3))


def _failed_run(cron_job: CronJob, related: Related) -> Failure | None:
    """The newest run that failed, if none has succeeded since."""
    runs = [run for run in related.all(JobRun) if not run.deleting and run.created]
    succeeded = [run for run in runs if is_complete(run.status.conditions)]
    ends = [run.status.completion_time for run in succeeded] + [cron_job.status.last_successful_time]
    last_success = max((end for end in ends if end), default=None)
    newest_good = max((run.created for run in succeeded if run.created), default=None)
    failing = []
    for run in runs:
        failed = failed_condition(run.status.conditions)
        since = failed.last_transition_time if failed else None
        if failed is None or run.created is None or (newest_good and run.created < newest_good):
            continue
        if last_success is None or (since or run.created) > last_success:
            failing.append((run.created, run.name, run, failed))
    if not failing:
        return None
    *_, run, failed = max(failing, key=lambda each: each[:2])
    first = min(failing, key=lambda each: each[:2])[3]
    return JOB_FAILED.failure(
        f"run {run.name} failed: {why(failed)}",
        since=first.last_transition_time or run.created,
        reason=failed.reason,
    )


def _never_succeeds(cron_job: CronJob, related: Related) -> Iterator[Failure]:
    """For runs that leave no failed Job behind: replaced, removed by hand, or no history kept."""
    spec, status = cron_job.spec, cron_job.status
    start, ttl = status.last_successful_time or cron_job.created, spec.job_template.spec.ttl_seconds_after_finished
    if not start or not status.last_schedule_time or (ttl is not None and ttl < _SHORT_LIVED):
        return
    ended = status.last_schedule_time
    # A run that takes its time may yet succeed; one that the next run replaces will not.
    if status.active and spec.concurrency_policy != "Replace":
        active = {each.name for each in status.active}
        began = [run.created for run in related.all(JobRun) if run.name in active and run.created]
        if len(began) < len(active):
            return
        ended = min(began) - timedelta(seconds=1)
    try:
        due = next_runs(spec.schedule, spec.time_zone, start, 3)
    except ValueError:
        return
    if len(due) == 3 and ended >= due[2]:
        when = f"since {start:%Y-%m-%d %H:%M} UTC" if status.last_successful_time else "ever"
        yield NEVER_SUCCEEDS.failure(f"no run has succeeded {when}, though runs do start", since=due[2])


# robfig/cron v3, which Kubernetes uses: https://pkg.go.dev/github.com/robfig/cron/v3
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}


def next_runs(schedule: str, zone: str | None, start: datetime, count: int) -> list[datetime]:
    """The runs due after `start`, fewer where there are none. Raises ValueError for what Kubernetes would refuse."""
    prefix = re.match(r"(?:CRON_)?TZ=(\S*)\s+", schedule)
    if prefix:
        schedule, zone = schedule[prefix.end() :], zone or prefix[1]
    place = _zone(zone)
    schedule = schedule.strip()
    if schedule.startswith("@every "):
        period = _duration(schedule.removeprefix("@every ").strip())
        return [start.replace(microsecond=0) + period * number for number in range(1, count + 1)]
    if schedule.startswith("@"):
        if schedule not in _DESCRIPTORS:
            raise ValueError(f"schedule {schedule} is unknown")
        schedule = _DESCRIPTORS[schedule]
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"schedule {schedule!r} has {len(fields)} fields instead of {len(_FIELDS)}")
    plain = " ".join(_plain(text, *field) for text, field in zip(fields, _FIELDS, strict=True))
    try:
        return [each.astimezone(UTC) for each in islice(CronSim(plain, start.astimezone(place)), count)]
    except (CronSimError, OverflowError):
        return []  # a day that never comes, as 31 February: valid for Kubernetes


def _plain(text: str, what: str, low: int, high: int, names: dict[str, int]) -> str:
    """One field with numbers only, the upper end of open steps written out."""
    terms = []
    for term in text.split(","):
        found = re.fullmatch(r"(?:([*?])|(\w+)(?:-(\w+))?)(?:/(\d+))?", term)
        if not found:
            raise ValueError(f"{what} {text!r} of the schedule is not valid")
        star, first, last, step = found.groups()
        if step is not None and int(step) == 0:
            raise ValueError(f"{what} {text!r} of the schedule is not valid")
        if star:
            terms.append("*" + (f"/{step}" if step else "") if high != 6 or not step else f"0-6/{step}")
            continue
        begin = names.get(first.upper(), first)
        end = names.get(last.upper(), last) if last else (high if step else begin)
        if not str(begin).isdecimal() or not str(end).isdecimal() or not low <= int(begin) <= int(end) <= high:
            raise ValueError(f"{what} {text!r} of the schedule is not valid")
        terms.append(
            (f"{begin}-{end}" if int(begin) != int(end) else f"{begin}") + (f"/{step}" if step and begin != end else "")
        )
    return ",".join(terms)


def _duration(text: str) -> timedelta:
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+", text):
        raise ValueError(f"duration {text!r} of the schedule is not valid")
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    try:
        # The library rounds down to seconds, and up to one.
        return timedelta(seconds=max(1, int(sum(float(number) * _UNITS[unit] for number, unit in parts))))
    except OverflowError:
        raise ValueError(f"duration {text!r} of the schedule is too long") from None


def _zone(name: str | None) -> tzinfo:
    # Without a zone it is that of the controller manager: UTC nearly everywhere, and two periods forgive the rest.
    if not name or name in ("UTC", "Local"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"time zone {name} is unknown") from None


ANALYZER = Analyzer(
    reads=CronJob,
    needs=(Need.owned(JobRun), Need.events(*_UNSCHEDULED, *_UNSTARTED)),
    rules=(JOB_FAILED, MISSED, NEVER_SUCCEEDS, OVERLAP, INVALID, SUSPENDED, DELETION_STUCK),
    find=find,
)
