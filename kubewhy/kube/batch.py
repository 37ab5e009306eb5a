"""batch/v1: jobs and cron jobs."""

from datetime import datetime
from typing import ClassVar

from kubewhy.kube.core import ObjectReference
from kubewhy.kube.meta import Condition, Object, Part, Resource


class JobSpec(Part, frozen=True):
    parallelism: int | None = None
    completions: int | None = None
    backoff_limit: int = 6
    active_deadline_seconds: int | None = None
    suspend: bool = False


class JobStatus(Part, frozen=True):
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    start_time: datetime | None = None
    completion_time: datetime | None = None
    failed_indexes: str = ""
    conditions: tuple[Condition, ...] = ()


class Job(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("Job", "jobs", group="batch")

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class CronJobSpec(Part, frozen=True):
    schedule: str = ""
    time_zone: str | None = None
    suspend: bool = False
    concurrency_policy: str = "Allow"
    starting_deadline_seconds: int | None = None


class CronJobStatus(Part, frozen=True):
    active: tuple[ObjectReference, ...] = ()
    last_schedule_time: datetime | None = None
    last_successful_time: datetime | None = None


class CronJob(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("CronJob", "cronjobs", group="batch")

    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()
