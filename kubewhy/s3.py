"""One bucket, read and written through boto3 in threads, and what its refusals mean."""

import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as aws
from botocore.awsrequest import AWSResponse

from kubewhy.aws import Limits, Meanings, Place, Service, status_of
from kubewhy.buckets import BucketSettings
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.farside import wait

LONGEST_OBJECT = 64 * 2**20

_ENCRYPTION = {"sse-s3": "AES256", "sse-kms": "aws:kms"}
_REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")
_ELSEWHERE = re.compile(
    rb"<Code>(PermanentRedirect|TemporaryRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)<"
)
_UNKNOWN = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "UnrecognizedClient"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_MAY_PASS = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "ThrottlingException"}
# Without the right to list, what is missing looks denied.
_RIGHTS = {
    "put_object": "s3:PutObject",
    "get_object": "s3:GetObject and s3:ListBucket",
    "list_objects_v2": "s3:ListBucket",
}


@dataclass(frozen=True)
class _Far:
    """One bucket, as far as a message may tell of it."""

    address: str
    setting: str = "`endpoint`"

    def config(self, what: str) -> ConfigError:
        return ConfigError(what)

    def later(self, what: str, after: float | None = None) -> RetryLater:
        return RetryLater(what, after)

    def rejected(self, what: str) -> Rejected:
        return Rejected(what)


class Bucket:
    """Reads and writes its objects, each call within so many seconds. Raises one of the three errors."""

    def __init__(self, settings: BucketSettings, seconds: float = 15.0) -> None:
        self.settings = settings
        self._conditional = True
        place = Place("s3", settings.endpoint, settings.region, settings.profile, settings.ca_file)
        config = {
            "s3": {"addressing_style": "path" if settings.path_style else "auto"},
            # Other stores take neither the sums that AWS's library adds of itself, nor the form that it adds them in.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        meanings = Meanings(self._far, self._refused, self._unfit, self._endless)
        self._service = Service(place, Limits(seconds, LONGEST_OBJECT), meanings, look=self._look, config=config)
        self.close = self._service.close

    async def put(self, key: str, body: bytes, kind: str, *, once: bool = False) -> bool:
        """Whether it was written: with `once` it is not where there is an object of that name."""
        # Every store knows this sum, also those that know none of AWS's newer ones; object locks ask for one.
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        wanted: dict[str, Any] = {"Key": key, "Body": body, "ContentType": kind, "ContentMD5": digest}
        if self.settings.encryption:
            wanted["ServerSideEncryption"] = _ENCRYPTION[self.settings.encryption]
        if self.settings.kms_key:
            wanted["SSEKMSKeyId"] = self.settings.kms_key
        try:
            if once and self._conditional:
                wanted["IfNoneMatch"] = "*"
            await self._ask("put_object", **wanted)
        except _There:
            return False
        except _Unconditional:
            # Some stores do not know the condition.
            self._conditional = False
            return await self.put(key, body, kind)
        return True

    async def get(self, key: str) -> bytes | None:
        """None where there is no such object."""
        try:
            told = await self._ask("get_object", Key=key)
        except _Missing:
            return None
        body: bytes = told["Body"].read()
        return body

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """The names that begin so, in their order."""
        more: dict[str, str] = {}
        while True:
            told = await self._ask("list_objects_v2", Prefix=prefix, **more)
            for each in told.get("Contents", ()):
                yield each["Key"]
            if not told.get("IsTruncated"):
                return
            more = {"ContinuationToken": told["NextContinuationToken"]}

    def _far(self, region: str) -> _Far:
        return _Far(f"bucket {self.settings.bucket} at {self.settings.endpoint or f'S3 in {region}'}")

    def _unfit(self) -> ConfigError:
        return ConfigError(f"bucket {self.settings.bucket} cannot be asked so: check `bucket` and `endpoint`")

    def _endless(self) -> RetryLater:
        return RetryLater(f"what {self._where} answers does not end; is `endpoint` right?")

    def _look(self, reply: AWSResponse) -> None:
        """The library would follow to whatever region it is sent to."""
        status, body = reply.status_code, reply.content if reply.status_code >= 300 else b""
        told = reply.headers.get("x-amz-bucket-region", "").encode()
        if not (300 <= status < 400 and status != 304) and not _ELSEWHERE.search(body):
            return
        found = _REGION.search(b"<Region>%s</Region>" % told) or _REGION.search(body)
        if not found:
            raise ConfigError(
                f"{self._where} is elsewhere ({status}): write the region it is in as `region`, or mend `endpoint`"
            )
        region = found[1].decode()
        raise ConfigError(
            f"bucket {self.settings.bucket} is in region {region}, not in {self._service.region}: "
            f"write `region: {region}`"
        )

    async def _ask(self, operation: str, **wanted: Any) -> dict[str, Any]:
        return await self._service.call(operation, Bucket=self.settings.bucket, **wanted)

    def _refused(self, error: aws.ClientError, operation: str) -> Exception:
        status, headers = status_of(error), error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        code = re.sub("[^A-Za-z0-9.]", "", str(error.response.get("Error", {}).get("Code")))[:60]
        if status == 429 or (status >= 500 and status != 501) or code in _MAY_PASS:
            return RetryLater(f"{self._where} cannot just now ({code}, {status})", wait(headers))
        match operation, code, status:
            case "put_object", _, 412:
                return _There()
            case "put_object", _, 501 if self._conditional:
                return _Unconditional()
            case "put_object", _, 413:
                return Rejected(f"{self._where} takes no object of that size ({status})")
            case _, "EntityTooLarge", _:
                return Rejected(f"{self._where} takes no object of that size ({status})")
            case "get_object", "NoSuchKey" | "404", _:
                return _Missing()
        return ConfigError(self._refusal(operation, code, status))

    def _refusal(self, operation: str, code: str, status: int) -> str:
        """What a person can mend."""
        match code:
            case _ if status == 404:
                return f"there is no {self._where} ({code or status}): create it, or check `bucket` and `endpoint`"
            case _ if code in _EXPIRED:
                return f"what AWS's default chain gives has expired ({code}): renew it"
            case _ if code in _UNKNOWN:
                return f"what AWS's default chain gives is not accepted by {self._where} ({code}): check or renew it"
            case "RequestTimeTooSkewed":
                return f"this machine's clock is wrong, says {self._where} ({code}): set it"
            case _ if code.startswith("KMS"):
                return f"the key for encryption cannot be used ({code}): check `kms_key`, and who may use it"
            case _ if status in (401, 403):
                right = _RIGHTS[operation]
                key = ", and kms:GenerateDataKey on its key" if self.settings.encryption == "sse-kms" else ""
                return (
                    f"what AWS's default chain gives has no access to {self._where} ({code}): grant {right}{key} under "
                    f"{self.settings.prefix or 'all of it'}"
                )
        return f"{self._where} does not take the request ({code}, {status}): check `bucket`, `endpoint`, `encryption`"

    @property
    def _where(self) -> str:
        return self._service.far.address


class _There(Exception):
    """An object of that name is there."""


class _Missing(Exception):
    """No object of that name is there."""


class _Unconditional(Exception):
    """The store does not know conditions."""
