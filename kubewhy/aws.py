"""How replies of AWS's services are read: whole, in time, and not without end, none of which its library sees to."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from botocore import exceptions as aws
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

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
