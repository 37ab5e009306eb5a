"""What an API server's refusals and a broken connection mean, in one clear line each."""

import os
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from kubewhy.errors import ConfigError


class Refused(Exception):
    """This kind cannot be read there: forbidden, or there is no such API."""


class Expired(Exception):
    """The server has forgotten that version: only a new LIST can tell what is there now."""


class Unreachable(ConfigError):
    """No answer that can be used. `lasting` says that another try will not help a one-shot.

    `after` is how many seconds the server asks us to wait. `status` is the HTTP status, 0 when there was none.
    """

    def __init__(self, reason: str, *, after: float | None = None, lasting: bool = False, status: int = 0) -> None:
        super().__init__(reason)
        self.after = after
        self.lasting = lasting
        self.status = status


class Untrusted(Unreachable):
    """The server's certificate does not verify."""


class Unauthorized(Unreachable):
    """The credentials are missing, expired or unknown to the server."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, lasting=True, status=401)


class Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: float = 0


class Status(msgspec.Struct, frozen=True):
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: Details | None = None


def read_status(body: bytes) -> Status:
    """What the server says of its refusal. A proxy's HTML page says nothing."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        return Status()


def refusal(server: str, what: str, code: int, body: bytes, retry_after: str | None = None) -> Exception:
    """The exception that an HTTP status (or the code of an ERROR event) stands for."""
    status = read_status(body)
    said = " ".join(status.message.split())[:300]
    match code:
        case 400 | 422:
            return ConfigError(f"{server} does not accept the request for {what}: {said or 'bad request'}")
        case 401:
            return Unauthorized(
                f"{server} does not know these credentials (401): sign in again, or check the user of this context"
            )
        case 403:
            return Refused(f"forbidden: {said}" if said else "forbidden")
        case 404 | 405 | 406:
            return Refused(f"{server} has no API for {what}")
        case 410:
            return Expired(said or "version expired")
    after = _seconds(retry_after) or (status.details.retry_after_seconds if status.details else None) or None
    reason = f"{server} answers {code} for {what}" + (f": {said}" if said else "")
    return Unreachable(reason, after=after, lasting=code != 429 and code < 500, status=code)


def broken(server: str, error: Exception) -> Unreachable:
    """The one line for a connection that did not come about, or broke off."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return _untrusted(server, error)
        case aiohttp.ClientProxyConnectionError():
            return Unreachable(f"the proxy {error.host}:{error.port} for {server} cannot be reached: check HTTPS_PROXY")
        case aiohttp.ClientHttpProxyError():
            return Unreachable(f"the proxy for {server} answers {error.status}: check HTTPS_PROXY and proxy-url")
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(f"cannot find the host of {server}: check its name, DNS, or your VPN")
        case TimeoutError():
            return Unreachable(f"{server} does not answer in time: check the address, firewalls, or your VPN")
        case aiohttp.ClientConnectorError():
            # asyncio puts the addresses into strerror; the number's own word is "connection refused" and such.
            why = os.strerror(error.os_error.errno).lower() if error.os_error.errno else "no connection"
            return Unreachable(f"cannot reach {server} ({why}): is the API server up, and the address right?")
    return Unreachable(f"the connection to {server} broke off ({type(error).__name__})")


def _untrusted(server: str, error: Exception) -> Untrusted:
    cause: object = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate does not verify ({cause.verify_message})"
        return Untrusted(f"cannot trust {server}: {why}; check certificate-authority in the kubeconfig", lasting=True)
    reason = getattr(cause, "reason", None) or type(cause).__name__
    return Untrusted(
        f"no TLS connection to {server} ({reason}): check the scheme, the port and the client certificate", lasting=True
    )


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After is a number of seconds or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
