"""Where objects are kept on S3, or on what speaks as it does, and how that is reached."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; access points are named by their ARN.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:aws[a-z-]*:s3[a-z-]*:[A-Za-z0-9:/._-]+")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~/-]*)?")


class BucketSettings(BaseModel, extra="forbid", frozen=True):
    """Credentials come from AWS's default chain: variables, profiles, roles. A profile may assume a role."""

    bucket: str
    prefix: str = Field(default="", max_length=512)  # a folder
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None  # None: as the profile or environment has it
    endpoint: str | None = None  # None: AWS
    path_style: bool = False  # the bucket in the path, and not in the name of the host, as many other stores ask for
    profile: str | None = Field(default=None, min_length=1, max_length=253)
    ca_file: Path | None = None
    encryption: Literal["sse-s3", "sse-kms"] | None = None  # None: as the bucket has it
    kms_key: str | None = Field(default=None, min_length=1, max_length=2048)  # None: the account's own for S3

    @field_validator("bucket")
    @classmethod
    def _named(cls, told: str) -> str:
        if not _BUCKET.fullmatch(told):
            raise ValueError("this is no name of a bucket; write the name alone, as in my-archive, or an ARN")
        return told

    @field_validator("prefix")
    @classmethod
    def _folder(cls, told: str) -> str:
        if told.startswith("/") or "//" in told or not told.isprintable():
            raise ValueError("a prefix is a path within the bucket without a slash at its beginning, as in kubewhy/")
        return f"{told}/" if told and not told.endswith("/") else told

    @field_validator("endpoint")
    @classmethod
    def _address(cls, told: str | None) -> str | None:
        if told is not None and not _ADDRESS.fullmatch(told):
            raise ValueError("write an address as in https://s3.example.com, without keys or passwords")
        return told

    @model_validator(mode="before")
    @classmethod
    def _one_thing(cls, told: Any) -> Any:
        if isinstance(told, str):
            raise ValueError("give a bucket by its keys, as in {bucket: my-archive, prefix: kubewhy/}")
        return told

    @model_validator(mode="after")
    def _agree(self) -> "BucketSettings":
        if self.kms_key and self.encryption != "sse-kms":
            raise ValueError("`kms_key` goes with `encryption: sse-kms`")
        return self
