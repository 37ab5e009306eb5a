"""One bucket, read and written through boto3 in threads, and what its refusals mean."""

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.awsrequest import AWSResponse
from botocore.parsers import ResponseParserError

from kubewhy.aws import NO_CREDENTIALS, Endless, Limits, Wire
from kubewhy.buckets import BucketSettings
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.spelling import hint

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
_LONGEST_WAIT = 3600.0


class Bucket:
    """Reads and writes its objects, each call within so many seconds. Raises one of the three errors."""

    def __init__(self, settings: BucketSettings, seconds: float = 15.0) -> None:
        self.settings = settings
        self._conditional = True
        self._limits = Limits(seconds, LONGEST_OBJECT)
        try:
            core = botocore.session.Session(profile=settings.profile)
            # Also for those who are asked for credentials: the library's own would last for minutes.
            core.set_default_client_config(self._limits.config())
            self._session = boto3.Session(botocore_session=core, region_name=settings.region)
            self._client = self._made(core.get_config_variable("ca_bundle"))
        except aws.ProfileNotFound:
            raise ConfigError(f"there is no AWS profile {settings.profile}: check `profile`") from None
        except aws.NoRegionError:
            raise ConfigError("no AWS region is given: write `region`, or set AWS_REGION") from None
        except (aws.BotoCoreError, ValueError, OSError) as error:
            raise ConfigError(
                f"AWS's library cannot be set up ({type(error).__name__}): check `region`, `endpoint`, `ca_file` "
                "and your AWS configuration"
            ) from None

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

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)
        await asyncio.to_thread(self._wire.close)

    def _made(self, ca_bundle: str | None) -> Any:
        told = self.settings
        ca_file = str(told.ca_file.expanduser()) if told.ca_file else None
        if told.ca_file and not told.ca_file.expanduser().is_file():
            raise ConfigError(f"{told.ca_file}: no such file of certificates: check `ca_file`")
        config = self._limits.config(
            s3={"addressing_style": "path" if told.path_style else "auto"},
            # Other stores take neither the sums that AWS's library adds of itself, nor the form that it adds them in.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = self._session.client("s3", endpoint_url=told.endpoint, verify=ca_file, config=config)
        self._wire = Wire(self._limits, ca_file or ca_bundle or True, client.meta.endpoint_url, self._look)
        self._wire.register(client)
        return client

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
            f"bucket {self.settings.bucket} is in region {region}, not in {self._client.meta.region_name}: "
            f"write `region: {region}`"
        )

    async def _ask(self, operation: str, **wanted: Any) -> dict[str, Any]:
        try:
            # The thread ends by itself at about the same time.
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.to_thread(self._call, operation, wanted)
        except TimeoutError:
            raise self._late() from None

    def _call(self, operation: str, wanted: dict[str, Any]) -> dict[str, Any]:
        try:
            told: dict[str, Any] = getattr(self._client, operation)(Bucket=self.settings.bucket, **wanted)
        except aws.ClientError as error:
            raise self._refused(error, operation) from None
        except aws.BotoCoreError as error:
            raise self._fault(error) from None
        except (ResponseParserError, AttributeError, LookupError, TypeError, ValueError):
            # The library's parser takes it for granted that an answer has the right form.
            raise RetryLater(f"what {self._where} answers is not what S3 answers; is `endpoint` right?") from None
        return told

    def _refused(self, error: aws.ClientError, operation: str) -> Exception:
        about = error.response.get("ResponseMetadata", {})
        status: int = about.get("HTTPStatusCode", 500)
        code = re.sub("[^A-Za-z0-9.]", "", str(error.response.get("Error", {}).get("Code")))[:60]
        if error.operation_name != self._client.meta.method_to_api_mapping[operation] and 400 <= status < 429:
            return self._no_credentials(f"{error.operation_name} is refused, {status}")
        if status == 429 or (status >= 500 and status != 501) or code in _MAY_PASS:
            return RetryLater(f"{self._where} cannot just now ({code}, {status})", _after(about.get("HTTPHeaders", {})))
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

    def _fault(self, error: aws.BotoCoreError) -> Exception:
        match error:
            case Endless():
                return RetryLater(f"what {self._where} answers does not end; is `endpoint` right?")
            case _ if isinstance(error, NO_CREDENTIALS):
                return self._no_credentials(type(error).__name__)
            case aws.ParamValidationError() | aws.UnsupportedS3ConfigurationError():
                return ConfigError(f"bucket {self.settings.bucket} cannot be asked so: check `bucket` and `endpoint`")
            case aws.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return ConfigError(
                    f"the certificate of {self._where} is not to be trusted: name its authority's file as `ca_file`"
                )
            case aws.SSLError():
                return ConfigError(f"{self._where} does not speak TLS as we do: check `endpoint`")
            case aws.ProxyConnectionError() if "failed: 407" in str(error.kwargs.get("error")):
                return ConfigError("the proxy asks for a password (407): write it into HTTPS_PROXY")
            case aws.ProxyConnectionError():
                return RetryLater("the proxy of HTTPS_PROXY does not let us through; does NO_PROXY lack the address?")
            case aws.ConnectTimeoutError() | aws.ReadTimeoutError():
                return self._late()
            case aws.EndpointConnectionError():
                return self._unreachable()
            case aws.InvalidEndpointConfigurationError() | aws.EndpointVariantError() | aws.InvalidRegionError():
                return ConfigError("this region and address do not go together: check `region` and `endpoint`")
        return RetryLater(f"the connection to {self._where} broke before the answer was complete")

    @property
    def _where(self) -> str:
        at = self.settings.endpoint or f"S3 in {self._client.meta.region_name}"
        return f"bucket {self.settings.bucket} at {at}"

    def _unreachable(self) -> Exception:
        # The library knows of few services where they are.
        region, known = self._client.meta.region_name, self._session.get_available_regions("ec2")
        if not self.settings.endpoint and known and region not in known:
            return ConfigError(f"there is no region {region}: check `region`{hint(region, known)}")
        return RetryLater(f"{self._where} cannot be reached; is `endpoint` right, and does it run?")

    def _no_credentials(self, why: str) -> ConfigError:
        return ConfigError(f"AWS's default chain gives no credentials ({why}): sign in, or set a profile, role or key")

    def _late(self) -> RetryLater:
        return RetryLater(f"{self._where} does not answer within {self._limits.seconds:g} seconds")


class _There(Exception):
    """An object of that name is there."""


class _Missing(Exception):
    """No object of that name is there."""


class _Unconditional(Exception):
    """The store does not know conditions."""


def _after(headers: dict[str, str]) -> float | None:
    told = headers.get("retry-after", "")
    return min(float(told), _LONGEST_WAIT) if told.isdecimal() else None
