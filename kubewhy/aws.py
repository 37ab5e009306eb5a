"""How AWS's services are called: in threads, with what its default chain of credentials gives, and replies read whole,
in time, and not without end, none of which its library sees to."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from kubewhy.errors import RetryLater
from kubewhy.farside import (
    Far,
    broken,
    no_tls,
    proxy_blocks,
    proxy_refuses,
    unreachable,
    unreadable,
    untrusted,
)
from kubewhy.spelling import hint

CONNECT_SECONDS = 10.0
NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
    aws.SSOError,
)


class Endless(aws.HTTPClientError):  # type: ignore[misc]
    """The reply is longer than any reply should be."""

    fmt = "the reply does not end"


@dataclass(frozen=True)
class Limits:
    """Of one call: how long it may take, and how long the reply may be."""

    seconds: float
    size: int

    def config(self, **more: Any) -> Config:
        """The library's settings that go with them. Trying again is left to whoever calls."""
        return Config(
            connect_timeout=min(CONNECT_SECONDS, self.seconds),
            read_timeout=self.seconds,
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent="kubewhy",
            **more,
        )


class Wire:
    """Carries a client's requests, once it is registered for its `before-send`.

    The library would read a reply that does not end for ever, and take half a reply for a whole one. `look` sees each
    reply before the library does.
    """

    def __init__(
        self, limits: Limits, verify: str | bool, url: str, look: Callable[[AWSResponse], None] = lambda reply: None
    ) -> None:
        self._limits, self._look = limits, look
        self._http = URLLib3Session(
            verify=verify,
            proxies=get_environ_proxies(url),
            timeout=(min(CONNECT_SECONDS, limits.seconds), limits.seconds),
        )

    def register(self, client: Any) -> None:
        client.meta.events.register(f"before-send.{client.meta.service_model.service_id.hyphenize()}", self._send)

    def close(self) -> None:
        self._http.close()

    def _send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        end = time.monotonic() + self._limits.seconds
        request.stream_output = True
        reply = self._http.send(request)
        body = _Body()
        try:
            while chunk := reply.raw.read1(65536):
                body.write(chunk)
                if body.tell() > self._limits.size:
                    raise Endless(error="too long")
                if time.monotonic() > end:
                    raise aws.ReadTimeoutError(endpoint_url=request.url)
        except (HTTPError, OSError) as error:
            raise aws.HTTPClientError(error=error) from None
        finally:
            # What is left of it is nobody's.
            reply.raw.close()
        if request.method != "HEAD" and body.tell() < int(reply.headers.get("content-length") or 0):
            raise aws.ConnectionClosedError(endpoint_url=request.url)
        body.seek(0)
        whole = AWSResponse(reply.url, reply.status_code, reply.headers, body)
        self._look(whole)
        return whole


class _Body(BytesIO):
    """A body that was read, as the library wants to read it."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


@dataclass(frozen=True)
class Place:
    """Which service is called, and by what of the settings."""

    service: str
    url: str | None
    region: str | None
    profile: str | None
    ca_file: Path | None


@dataclass(frozen=True)
class Meanings:
    """What differs from caller to caller: who is asked, once the region is known, and what its refusals stand for.

    `unfit` is for what the library itself does not send, `endless` for a reply without end.
    """

    far: Callable[[str], Far]
    refused: Callable[[aws.ClientError, str], Exception]
    unfit: Callable[[], Exception]
    endless: Callable[[], Exception]


class Service:
    """Calls the operations of one service. Raises what its errors mean, ConfigError where it cannot be set up."""

    def __init__(
        self,
        place: Place,
        limits: Limits,
        meanings: Meanings,
        *,
        look: Callable[[AWSResponse], None] = lambda reply: None,
        config: Mapping[str, Any] = {},
    ) -> None:
        """`look` sees each reply before the library does; `config` is for the library."""
        self._place, self._limits, self._meanings, self._look = place, limits, meanings, look
        self.region = place.region or "the region of your profile"
        try:
            core = botocore.session.Session(profile=place.profile)
            # Also for those who are asked for credentials: the library's own would last for minutes.
            core.set_default_client_config(limits.config())
            self._session = boto3.Session(botocore_session=core, region_name=place.region)
            self._client = self._made(core.get_config_variable("ca_bundle"), config)
        except aws.ProfileNotFound:
            raise self.far.config(f"there is no AWS profile {place.profile}: check `profile`") from None
        except aws.NoRegionError:
            raise self.far.config("no AWS region is given: write `region`, or set AWS_REGION") from None
        except (aws.BotoCoreError, ValueError, OSError) as error:
            raise self.far.config(
                f"AWS's library cannot be set up ({type(error).__name__}): check `region`, {self.far.setting}, "
                "`ca_file` and your AWS configuration"
            ) from None

    @property
    def far(self) -> Far:
        """Who is asked, with the region that was found."""
        return self._meanings.far(self.region)

    async def call(self, operation: str, **wanted: Any) -> dict[str, Any]:
        """What the operation gives, its body read."""
        try:
            # The thread ends by itself at about the same time.
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.to_thread(self._call, operation, wanted)
        except TimeoutError:
            raise self._late() from None

    async def close(self) -> None:
        """Ends its connections."""
        await asyncio.to_thread(self._client.close)
        await asyncio.to_thread(self._wire.close)

    def _made(self, ca_bundle: str | None, config: Mapping[str, Any]) -> Any:
        place = self._place
        ca_file = place.ca_file.expanduser() if place.ca_file else None
        if ca_file and not ca_file.is_file():
            raise self.far.config(f"{place.ca_file}: no such file of certificates: check `ca_file`")
        verify = str(ca_file) if ca_file else None
        client = self._session.client(
            place.service, endpoint_url=place.url, verify=verify, config=self._limits.config(**config)
        )
        self.region = client.meta.region_name
        self._wire = Wire(self._limits, verify or ca_bundle or True, client.meta.endpoint_url, self._look)
        self._wire.register(client)
        return client

    def _call(self, operation: str, wanted: dict[str, Any]) -> dict[str, Any]:
        try:
            told: dict[str, Any] = getattr(self._client, operation)(**wanted)
        except aws.ClientError as error:
            raise self._refused(error, operation) from None
        except aws.BotoCoreError as error:
            raise self._fault(error) from None
        except (ResponseParserError, AttributeError, LookupError, TypeError, ValueError):
            # The library's parser takes it for granted that an answer has the right form.
            raise unreadable(self.far) from None
        return told

    def _refused(self, error: aws.ClientError, operation: str) -> Exception:
        status = status_of(error)
        if error.operation_name != self._client.meta.method_to_api_mapping[operation] and 400 <= status < 429:
            return self._no_credentials(f"{error.operation_name} is refused, {status}")
        return self._meanings.refused(error, operation)

    def _fault(self, error: aws.BotoCoreError) -> Exception:
        far = self.far
        match error:
            case Endless():
                return self._meanings.endless()
            case _ if isinstance(error, NO_CREDENTIALS):
                return self._no_credentials(type(error).__name__)
            case aws.ParamValidationError() | aws.UnsupportedS3ConfigurationError():
                return self._meanings.unfit()
            case aws.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return untrusted(far)
            case aws.SSLError():
                return no_tls(far)
            case aws.ProxyConnectionError() if "failed: 407" in str(error.kwargs.get("error")):
                return proxy_refuses(far)
            case aws.ProxyConnectionError():
                return proxy_blocks(far)
            case aws.ConnectTimeoutError() | aws.ReadTimeoutError():
                return self._late()
            case aws.EndpointConnectionError():
                return self._unreachable(error.kwargs["endpoint_url"])
            case aws.InvalidEndpointConfigurationError() | aws.EndpointVariantError() | aws.InvalidRegionError():
                return far.config(
                    f"this region, address and credentials do not go together: check `region` and {far.setting}"
                )
        return broken(far)

    def _no_credentials(self, why: str) -> Exception:
        return self.far.config(
            f"AWS's default chain gives no credentials ({why}): sign in, or set a profile, role or key"
        )

    def _unreachable(self, url: str) -> Exception:
        host = urlsplit(url).hostname
        ours = urlsplit(self._client.meta.endpoint_url).hostname or ""
        # A bucket may be part of its host's name.
        if host != ours and not str(host).endswith(f".{ours}"):
            return self.far.later(f"{host}, which gives credentials, cannot be reached; does it run?")
        # The library knows of few services where they are.
        known = self._session.get_available_regions("ec2")
        if not self._place.url and known and self.region not in known:
            return self.far.config(f"there is no region {self.region}: check `region`{hint(self.region, known)}")
        return unreachable(self.far)

    def _late(self) -> RetryLater:
        return self.far.later(f"{self.far.address} gives no answer within {self._limits.seconds:g} seconds")


def status_of(error: aws.ClientError) -> int:
    """Of the reply; that of the container behind it, where that is known."""
    told = error.response
    status: int = told.get("OriginalStatusCode") or told.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return status
