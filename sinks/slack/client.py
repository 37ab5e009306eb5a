"""How Slack is asked: no redirect is followed, nothing tried again, and no more read than an answer can be long."""

import logging
import math
import re
import ssl
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from kubewhy.errors import ConfigError, RetryLater
from sinks.slack.refusals import Refusal

Answer = TypeVar("Answer")

CONNECT_SECONDS = 10.0
LONGEST_REPLY = 8_000_000  # a page of a channel's history is the longest that is asked for
LONGEST_WAIT = 3600.0

# At debug level the library logs messages, and the address of a webhook, which is a secret.
_log = logging.getLogger("kubewhy.slack")
_log.setLevel(logging.WARNING)


class _Redirected(Exception):
    """Somebody else is to be asked, which nobody told us to."""


class _Endless(Exception):
    """More came than an answer can be long."""


class _Answer(aiohttp.ClientResponse):
    async def read(self) -> bytes:
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > LONGEST_REPLY:
                    self.close()
                    raise _Endless
            self._body = bytes(body)
        return await super().read()


async def _stay(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    answer = await handler(request)
    if 300 <= answer.status < 400:
        answer.close()
        raise _Redirected
    return answer


class Connection:
    """What leads to one address. It is made when it is first used."""

    def __init__(self, address: str, timeout: float, ca_file: Path | None) -> None:
        self.host = urlsplit(address).hostname or ""
        self._timeout, self._ca_file = timeout, ca_file
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """Raises ConfigError where the file of the authority cannot be read."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._trust()),
                timeout=aiohttp.ClientTimeout(total=self._timeout, connect=min(CONNECT_SECONDS, self._timeout)),
                # What is compressed could grow beyond any limit.
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=True,
                response_class=_Answer,
                middlewares=(_stay,),
            )
        return self._session

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def within(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """What the call gives. What stops it is told as RetryLater or ConfigError, and what Slack says as Refusal."""
        try:
            return await call
        except SlackApiError as error:
            raise self._refused(error.response) from None
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError, _Redirected, _Endless) as error:
            raise self._fault(error) from None
        except (SlackClientError, AttributeError, ValueError, RecursionError):
            # The library takes it for granted that an answer has the right form.
            raise self._unreadable() from None

    def _trust(self) -> ssl.SSLContext | bool:
        if self._ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._ca_file.expanduser())
        except OSError as error:
            raise ConfigError(
                f"{self._ca_file}: cannot be read as certificates ({error.strerror}): name a PEM file as `ca_file`"
            ) from None

    def _refused(self, answer: Any) -> Exception:
        """The library gives its own answer, or that of the HTTP client where it is no JSON."""
        status: int = answer.status_code if isinstance(answer, AsyncSlackResponse) else answer.status
        told = answer.data if isinstance(answer, AsyncSlackResponse) else None
        return refused(self.host, status, told, answer.headers)

    def _unreadable(self) -> RetryLater:
        return _unreadable(self.host)

    def _fault(self, error: Exception) -> Exception:
        match error:
            case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
                return ConfigError(
                    f"the certificate of {self.host} is not to be trusted: name the file of its authority as `ca_file`"
                )
            case aiohttp.ClientSSLError() | ssl.SSLError():
                return ConfigError(f"{self.host} does not speak TLS as we do: check the address")
            case aiohttp.InvalidURL():
                return ConfigError(f"{self.host} or HTTPS_PROXY is no address: write https://host")
            case aiohttp.ClientHttpProxyError() if error.status == 407:
                return ConfigError("the proxy asks for a password (407): write it into HTTPS_PROXY")
            case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
                return RetryLater("the proxy of HTTPS_PROXY does not let us through; should NO_PROXY name the address?")
            case TimeoutError():
                return RetryLater(f"{self.host} does not answer in time")
            case aiohttp.ClientConnectorError():
                return RetryLater(f"{self.host} cannot be reached")
            case _Redirected():
                return RetryLater(f"{self.host} redirects elsewhere, which is not followed")
            case _Endless():
                return RetryLater(f"the answer of {self.host} does not end")
        return RetryLater(f"the connection to {self.host} broke before the answer was complete")


def refused(host: str, status: int, told: object, headers: Mapping[str, str]) -> Exception:
    """What an answer that is no success stands for."""
    code = told.get("error") if isinstance(told, dict) else None
    after = _wait(headers)
    if status == 429:
        return Refusal("ratelimited", after)
    if isinstance(code, str) and re.fullmatch("[a-z0-9_]{1,64}", code):
        needed = told.get("needed") if isinstance(told, dict) else ""
        return Refusal(code, after, needed if isinstance(needed, str) and re.fullmatch("[a-z:._,]+", needed) else "")
    if status >= 400:
        return RetryLater(f"{host} fails ({status})", after)
    return _unreadable(host)


def _unreadable(host: str) -> RetryLater:
    return RetryLater(f"what {host} answers is not what Slack answers; is the address right, or is a proxy in between?")


def _wait(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None


# Both libraries would take a proxy from the environment; the session finds it too, and heeds NO_PROXY.
def web(connection: Connection, url: str, token: str) -> AsyncWebClient:
    """Slack's own client for its Web API."""
    client = AsyncWebClient(token, url, session=connection.session(), retry_handlers=[], logger=_log)
    client.proxy, client.headers["User-Agent"] = None, "kubewhy"
    return client


def webhook(connection: Connection, url: str) -> AsyncWebhookClient:
    """Slack's own client for one incoming webhook."""
    client = AsyncWebhookClient(url, session=connection.session(), retry_handlers=[], logger=_log)
    client.proxy, client.default_headers["User-Agent"] = None, "kubewhy"
    return client
