"""How AWS's services are called: in threads, with what its default chain of credentials gives."""

import asyncio
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from explainer.backends.refusals import Asked, no_model, refusal
from explainer.backends.settings import BedrockSettings, SageMakerSettings
from kubewhy.aws import NO_CREDENTIALS, Endless, Limits, Wire
from kubewhy.errors import RetryLater
from kubewhy.farside import (
    LONGEST_REPLY,
    broken,
    endless,
    no_tls,
    proxy_blocks,
    proxy_refuses,
    unreachable,
    unreadable,
    untrusted,
)
from kubewhy.spelling import hint


class AwsClient:
    """Calls the operations of one service. Raises what the vendor's errors mean."""

    def __init__(self, settings: BedrockSettings | SageMakerSettings, service: str, model: str) -> None:
        self._settings = settings
        self._limits = Limits(settings.timeout_seconds, LONGEST_REPLY)
        self._service = service
        name, place = settings.called, settings.url or f"{service} in {settings.region or 'the region of your profile'}"
        self._asked = Asked(name, model, place, "AWS's default chain")
        try:
            core = botocore.session.Session(profile=settings.profile)
            # Also for those who are asked for credentials: the library's own would last for minutes.
            core.set_default_client_config(self._limits.config())
            self._session = boto3.Session(botocore_session=core, region_name=settings.region)
            self._client = self._made(core.get_config_variable("ca_bundle"))
        except aws.ProfileNotFound:
            raise self._asked.config(f"there is no AWS profile {settings.profile}: check `profile`") from None
        except aws.NoRegionError:
            raise self._asked.config("no AWS region is given: write `region`, or set AWS_REGION") from None
        except (aws.BotoCoreError, ValueError, OSError) as error:
            raise self._asked.config(
                f"AWS's library cannot be set up ({type(error).__name__}): check `region`, `url`, `ca_file` "
                "and your AWS configuration"
            ) from None

    @property
    def asked(self) -> Asked:
        """Who is asked, with the region that was found."""
        return self._asked

    async def call(self, operation: str, **wanted: Any) -> dict[str, Any]:
        """What the operation gives, its body read."""
        try:
            # The thread ends by itself at about the same time.
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await asyncio.to_thread(self._call, operation, wanted)
        except TimeoutError:
            raise self._late() from None

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)
        await asyncio.to_thread(self._wire.close)

    def _made(self, ca_bundle: str | None) -> Any:
        settings = self._settings
        ca_file = str(settings.ca_file.expanduser()) if settings.ca_file else None
        if settings.ca_file and not settings.ca_file.expanduser().is_file():
            raise self._asked.config(f"{settings.ca_file}: no such file of certificates: check `ca_file`")
        client = self._session.client(
            self._service, endpoint_url=settings.url, verify=ca_file, config=self._limits.config()
        )
        if not settings.url:
            self._asked = replace(self._asked, address=f"{self._service} in {client.meta.region_name}")
        self._wire = Wire(self._limits, ca_file or ca_bundle or True, client.meta.endpoint_url)
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
            raise unreadable(self._asked) from None
        return told

    def _refused(self, error: aws.ClientError, operation: str) -> Exception:
        told: dict[str, Any] = error.response
        status: int = told.get("OriginalStatusCode") or told.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        said = (
            f"{told.get('Error', {}).get('Code')}: {told.get('Error', {}).get('Message')} {told.get('OriginalMessage')}"
        )
        if error.operation_name != self._client.meta.method_to_api_mapping[operation] and 400 <= status < 429:
            return self._no_credentials(f"{error.operation_name} is refused, {status}")
        return refusal(self._asked, status, said.encode(), told.get("ResponseMetadata", {}).get("HTTPHeaders", {}))

    def _fault(self, error: aws.BotoCoreError) -> Exception:
        asked = self._asked
        match error:
            case Endless():
                return endless(asked)
            case _ if isinstance(error, NO_CREDENTIALS):
                return self._no_credentials(type(error).__name__)
            case aws.ParamValidationError():
                return no_model(asked, "its name is not understood")
            case aws.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return untrusted(asked)
            case aws.SSLError():
                return no_tls(asked)
            case aws.ProxyConnectionError() if "failed: 407" in str(error.kwargs.get("error")):
                return proxy_refuses(asked)
            case aws.ProxyConnectionError():
                return proxy_blocks(asked)
            case aws.ConnectTimeoutError() | aws.ReadTimeoutError():
                return self._late()
            case aws.EndpointConnectionError():
                return self._unreachable(error.kwargs["endpoint_url"])
            case aws.InvalidEndpointConfigurationError() | aws.EndpointVariantError() | aws.InvalidRegionError():
                return asked.config("this region, address and credentials do not go together: check `region` and `url`")
        return self._broken()

    def _no_credentials(self, why: str) -> Exception:
        return self._asked.config(
            f"AWS's default chain gives no credentials ({why}): sign in, or set a profile, role or key"
        )

    def _unreachable(self, url: str) -> Exception:
        host = urlsplit(url).hostname
        if host != urlsplit(self._client.meta.endpoint_url).hostname:
            return unreachable(replace(self._asked, address=f"{host}, which gives credentials,"))
        # The library knows of few services where they are.
        region, known = self._client.meta.region_name, self._session.get_available_regions("ec2")
        if not self._settings.url and known and region not in known:
            return self._asked.config(f"there is no region {region}: check `region`{hint(region, known)}")
        return unreachable(self._asked)

    def _late(self) -> RetryLater:
        return self._asked.later(f"no answer within {self._settings.timeout_seconds:g} seconds")

    def _broken(self) -> RetryLater:
        return broken(self._asked)
