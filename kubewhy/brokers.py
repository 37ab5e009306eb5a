"""Where Kafka's brokers are, and how they are reached."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from kubewhy.keys import Key

_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", re.ASCII)


def _server(told: str) -> str:
    found = _SERVER.fullmatch(told)
    if not found or not 0 < int(found[2]) < 2**16:
        raise ValueError("this is no broker; write HOST:PORT, as in kafka:9092, and several as a list")
    return told


class SaslSettings(BaseModel, extra="forbid", frozen=True):
    """Who we are to the brokers. AWS_MSK_IAM takes AWS's default credentials: variables, profiles, roles."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"]
    username: str | None = Field(default=None, min_length=1)
    password: Key | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None

    @model_validator(mode="after")
    def _agree(self) -> "SaslSettings":
        if self.mechanism == "AWS_MSK_IAM":
            if not self.region or self.username or self.password:
                raise ValueError("AWS_MSK_IAM goes with a `region`, and with neither `username` nor `password`")
        elif not (self.username and self.password) or self.region:
            raise ValueError(f"{self.mechanism} goes with a `username` and a `password`, as in {{env: NAME}}")
        return self


class TlsSettings(BaseModel, extra="forbid", frozen=True):
    """How the brokers are known, and we to them. Without a `ca_file` the system's authorities count."""

    ca_file: Path | None = None
    cert_file: Path | None = None  # in PEM, with its key in it or in `key_file`
    key_file: Path | None = None

    @model_validator(mode="after")
    def _agree(self) -> "TlsSettings":
        if self.key_file and not self.cert_file:
            raise ValueError("`key_file` goes with `cert_file`")
        return self


class BrokerSettings(BaseModel, extra="forbid", frozen=True):
    """One Kafka. How many partitions and replicas there are counts when topics are made."""

    servers: tuple[Annotated[str, AfterValidator(_server)], ...] = Field(min_length=1)
    tls: TlsSettings | None = None
    sasl: SaslSettings | None = None
    prefix: str = Field(default="kubewhy.", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    partitions: int = Field(default=12, ge=1, le=1000)
    replication: int = Field(default=3, ge=1, le=15)
    standbys: int = Field(default=0, ge=0, le=10)  # how many other explainers keep what each remembers, to take over

    @field_validator("servers", mode="before")
    @classmethod
    def _several(cls, told: Any) -> Any:
        # As Kafka's own tools have it.
        return tuple(each.strip() for each in told.split(",")) if isinstance(told, str) else told

    @field_validator("tls", mode="before")
    @classmethod
    def _plainly(cls, told: Any) -> Any:
        if told is True:
            return TlsSettings()
        return None if told is False else told

    @property
    def called(self) -> str:
        """What people know them by."""
        return ", ".join(self.servers)

    @model_validator(mode="after")
    def _agree(self) -> "BrokerSettings":
        if self.sasl and self.sasl.mechanism == "AWS_MSK_IAM" and not self.tls:
            raise ValueError("AWS_MSK_IAM goes with `tls: true`")
        return self
