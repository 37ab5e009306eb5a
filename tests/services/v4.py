"""A stock receiver of Alertmanager's webhooks, from the documented fields of version 4.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class V4Alert(BaseModel, extra="forbid", strict=True):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: datetime = Field(strict=False)
    endsAt: datetime = Field(strict=False)
    generatorURL: str
    fingerprint: str = Field(pattern="^[0-9a-f]{16}$")


class V4(BaseModel, extra="forbid", strict=True):
    version: Literal["4"]
    groupKey: str
    truncatedAlerts: int
    status: Literal["firing", "resolved"]
    receiver: str
    groupLabels: dict[str, str]
    commonLabels: dict[str, str]
    commonAnnotations: dict[str, str]
    externalURL: str
    alerts: list[V4Alert]
