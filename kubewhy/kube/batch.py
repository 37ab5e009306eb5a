"""batch/v1: jobs and cron jobs."""

from datetime import datetime
from typing import ClassVar

from kubewhy.kube.core import ObjectReference
from kubewhy.kube.meta import Condition, Object, Part, Resource, WrittenMeta, condition


class PodLabels(Part, frozen=True):
    labels: dict[str, str] = {}


class JobPods(Part, frozen=True):
    """What a job makes its pods from, as far as anybody reads it."""

    metadata: PodLabels = PodLabels()


class JobSpec(Part, frozen=True):
    template: JobPods = JobPods()
    parallelism: int | None = None
    completions: int | None = None
    backoff_limit: int = 6
    active_deadline_seconds: int | None = None
    suspend: bool = False
    managed_by: str | None = None  # another controller than Kubernetes' own
    ttl_seconds_after_finished: int | None = None


class JobStatus(Part, frozen=True):
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int = 0
    start_time: datetime | None = None
    completion_time: datetime | None = None
    failed_indexes: str = ""
    conditions: tuple[Condition, ...] = ()


class Job(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("Job", "jobs", group="batch")

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class JobLabelsSpec(Part, frozen=True):
    template: JobPods = JobPods()


class JobLabels(Object, frozen=True):
    """A view of a job: its pods' labels."""

    resource: ClassVar[Resource] = Job.resource

    spec: JobLabelsSpec = JobLabelsSpec()


class JobRunStatus(Part, frozen=True):
    completion_time: datetime | None = None
    conditions: tuple[Condition, ...] = ()


class JobRun(Object, frozen=True):
    """A view of a job: how it ended."""

    resource: ClassVar[Resource] = Job.resource

    status: JobRunStatus = JobRunStatus()


def failed_condition(conditions: tuple[Condition, ...]) -> Condition | None:
    """The condition by which a job has failed. FailureTarget comes first, while its last pods still end."""
    told = (condition(conditions, "Failed"), condition(conditions, "FailureTarget"))
    return next((each for each in told if each and each.status == "True"), None)


def is_complete(conditions: tuple[Condition, ...]) -> bool:
    """Whether a job has succeeded. SuccessCriteriaMet comes first, while its last pods still end."""
    told = (condition(conditions, "Complete"), condition(conditions, "SuccessCriteriaMet"))
    return any(each.status == "True" for each in told if each)


class ContainerImage(Part, frozen=True):
    name: str = ""
    image: str = ""


class RunPodSpec(Part, frozen=True):
    containers: tuple[ContainerImage, ...] = ()
    init_containers: tuple[ContainerImage, ...] = ()


class RunPods(JobPods, frozen=True):
    """What a cron job's runs make their pods from: whose images were changed is of interest."""

    spec: RunPodSpec = RunPodSpec()


class RunSpec(JobSpec, frozen=True):
    template: RunPods = RunPods()


class JobTemplate(Part, frozen=True):
    spec: RunSpec = RunSpec()


class CronJobSpec(Part, frozen=True):
    schedule: str = ""
    time_zone: str | None = None
    suspend: bool = False
    concurrency_policy: str = "Allow"
    starting_deadline_seconds: int | None = None
    job_template: JobTemplate = JobTemplate()


class CronJobStatus(Part, frozen=True):
    active: tuple[ObjectReference, ...] = ()
    last_schedule_time: datetime | None = None
    last_successful_time: datetime | None = None


class CronJob(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("CronJob", "cronjobs", group="batch")

    metadata: WrittenMeta = WrittenMeta()
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()


class JobLabelsTemplate(Part, frozen=True):
    spec: JobLabelsSpec = JobLabelsSpec()


class CronJobLabelsSpec(Part, frozen=True):
    job_template: JobLabelsTemplate = JobLabelsTemplate()


class CronJobLabels(Object, frozen=True):
    """A view of a cron job: its pods' labels."""

    resource: ClassVar[Resource] = CronJob.resource

    spec: CronJobLabelsSpec = CronJobLabelsSpec()


class CronJobName(Object, frozen=True):
    """A view of a cron job: that it is there."""

    resource: ClassVar[Resource] = CronJob.resource
