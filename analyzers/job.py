"""Jobs that failed, or that stand still."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from analyzers.deletion import stuck, stuck_rule
from analyzers.refusals import parse
from kubewhy.contracts import Analyzer, Need, Rule, minutes, seconds
from kubewhy.kube.batch import CronJobName, Job, failed_condition, is_complete
from kubewhy.kube.core import PodState
from kubewhy.kube.meta import Condition
from kubewhy.records import Failure, Severity
from kubewhy.related import Related

FAILED = Rule(
    "job-failed",
    Severity.CRITICAL,
    "The job has failed",
    why="Its work is not done, and nothing tries again by itself.",
    look="Read the log of its last failed pod; once mended, make the job anew, for a failed one never resumes.",
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/job/#handling-pod-and-container-failures",
)
STALLED = Rule(
    "job-stalled",
    Severity.WARNING,
    "The job has no running pod and does not end",
    why="Its work stands still, and whatever waits for the job goes on waiting.",
    look="Read the job's events: a refused pod names its cause; without any, check the controller manager.",
    hold=minutes(5),
    docs="https://kubernetes.io/docs/concepts/workloads/controllers/job/",
)
DELETION_STUCK = stuck_rule("job", "It makes no more pods, its name stays taken, and deleting its namespace hangs.")

# Between two tries the job controller waits up to this long (MaxJobPodFailureBackOff), with no pod running.
_LONGEST_WAIT = timedelta(minutes=10)

# What does not come right by itself, as room under a quota may.
_LASTING = {"service-account-missing", "priority-class-missing", "runtime-class-missing"}

_WHY = {
    "BackoffLimitExceeded": "its pods failed until no retry was left",
    "DeadlineExceeded": "it ran longer than its deadline",
    "FailedIndexes": "some of its indexes failed",
    "MaxFailedIndexesExceeded": "more of its indexes failed than it allows",
}


def why(failed: Condition) -> str:
    """Why a job failed, for a person."""
    return _WHY.get(failed.reason) or failed.message or failed.reason or "its controller gives no reason"


def find(job: Job, related: Related) -> Iterator[Failure]:
    """What is wrong with one job."""
    if job.deleting:
        yield from stuck(DELETION_STUCK, job)
        return
    failed = failed_condition(job.status.conditions)
    if failed is None:
        yield from _stalled(job, related)
        return
    owner = job.controller
    if owner and owner.kind == "CronJob" and related.first(CronJobName):
        return  # judged there, where a later run may have succeeded
    indexes = f" ({job.status.failed_indexes})" if job.status.failed_indexes else ""
    yield FAILED.failure(
        f"the job failed: {why(failed)}{indexes}", since=failed.last_transition_time, reason=failed.reason
    )


def _stalled(job: Job, related: Related) -> Iterator[Failure]:
    spec, status = job.spec, job.status
    ended = is_complete(status.conditions) or status.completion_time
    if ended or spec.suspend or spec.parallelism == 0 or spec.managed_by not in (None, "kubernetes.io/job-controller"):
        return
    if status.active or status.terminating:
        return
    # Enough have succeeded: it ends with its next sync. Without `completions` one success is enough.
    if status.succeeded and status.succeeded >= (spec.completions or 1):
        return
    since = _idle_since(job, related)
    if since is None:
        return
    told = related.newest_event("FailedCreate")
    if told and told.at and told.at >= since:
        refusal = parse(told.message, job.namespace)
        yield STALLED.failure(
            f"no pod of the job can be created: {refusal.text}",
            since=max(since, told.first_timestamp or told.at),
            cause=refusal.cause,
            reason=refusal.reason,
            hold=seconds(30),
            severity=Severity.CRITICAL if refusal.reason in _LASTING else None,
        )
        return
    yield STALLED.failure("the job has neither a running pod nor an end", since=since)


def _idle_since(job: Job, related: Related) -> datetime | None:
    """Since when a pod should have been running at the latest; None where that cannot be told."""
    started = job.status.start_time or job.created
    if not job.status.failed and not job.status.succeeded:
        return started
    times = [started, *(pod.created for pod in related.all(PodState)), *(_ends(related))]
    pods = related.all(PodState)
    return max(filter(None, times)) + _LONGEST_WAIT if pods and started else None


def _ends(related: Related) -> Iterator[datetime | None]:
    for pod in related.all(PodState):
        yield from (each.last_transition_time for each in pod.status.conditions)


ANALYZER = Analyzer(
    reads=Job,
    needs=(Need.owner(CronJobName), Need.owned(PodState), Need.events("FailedCreate")),
    rules=(FAILED, STALLED, DELETION_STUCK),
    find=find,
)
