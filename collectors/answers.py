"""What an API server's refusals and a broken connection mean, in one clear line each."""

import os
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import msgspec

from kubewhy.errors import ConfigError

_FORBIDDEN = "forbidden"
_NO_API = "has no API"


class Refused(Exception):
    """This kind cannot be read there: forbidden, or there is no such API."""


class Absent(Refused):
    """There is no object of that name."""


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

    @property
    def of_one_kind(self) -> bool:
        """Whether the server answers, so that it may answer better for other kinds."""
        return self.status == 429 or self.status >= 500


class Untrusted(Unreachable):
    """The server's certificate does not verify."""


class NotAccepted(Unreachable):
    """The server does not understand what it is asked for."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason, lasting=True, status=status)


class Unauthorized(Unreachable):
    """The credentials are missing, expired or unknown to the server."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, lasting=True, status=401)


class Details(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
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


def is_forbidden(reason: str) -> bool:
    """Whether a kind was refused for want of permission, not for want of an API."""
    return reason.startswith(_FORBIDDEN)


def nothing_readable(cluster: str, why: str) -> ConfigError:
    """Every kind was refused, for that reason."""
    if is_forbidden(why) and "system:anonymous" in why:
        return ConfigError(f"{cluster}: may read nothing ({why}): sign in, or check the user of this context")
    if is_forbidden(why):
        return ConfigError(
            f"{cluster}: may read nothing ({why}): grant what `kubewhy rbac` prints, or name a namespace with -n"
        )
    remedy = "check the server's address in the kubeconfig" if _NO_API in why else "try again later"
    return ConfigError(f"{cluster}: nothing can be read ({why}): {remedy}")


def refusal(server: str, what: str, code: int, body: bytes, retry_after: str | None = None) -> Exception:
    """The exception that an HTTP status (or the code of an ERROR event) stands for."""
    status = read_status(body)
    said = " ".join(status.message.split())[:300]
    match code:
        case 400 if b"HTTP request to an HTTPS server" in body:
            return NotAccepted(f"{server} speaks HTTPS: write https:// into the kubeconfig's server", code)
        case 400 | 422:
            return NotAccepted(f"{server} does not accept the request for {what}: {said or 'bad request'}", code)
        case 401:
            return Unauthorized(
                f"{server} does not know these credentials (401): sign in again, or check the user of this context"
            )
        case 403:
            return Refused(f"{_FORBIDDEN}: {said}" if said else _FORBIDDEN)
        case 404 if status.details and status.details.name:
            return Absent(said)
        case 404 | 405 | 406:
            return Refused(f"{server} {_NO_API} for {what}")
        case 410:
            return Expired(said or "version expired")
    after = _seconds(retry_after) or (status.details.retry_after_seconds if status.details else None) or None
    reason = f"{server} answers {code} for {what}" + (f": {said}" if said else "")
    reason += f" (and asks to wait {after:g} s)" if after and after > 1 else ""
    return Unreachable(reason, after=after, lasting=code != 429 and code < 500, status=code)


def redirected(server: str, location: str) -> Unreachable:
    """Not followed: an API server redirects nobody, and the credentials are for it alone. Only the host is told."""
    try:
        url = urlsplit(location)
        where = f"{url.scheme}://{url.hostname}" if url.hostname else "another page"
    except ValueError:
        where = "nowhere"
    return Unreachable(
        f"{server} redirects to {where}: a proxy may want a sign-in; name the API server itself in the kubeconfig",
        lasting=True,
    )


def foreign(server: str, body: bytes, expected: str) -> Unreachable:
    """Something answers, and it is not the Kubernetes API. A web page stays one, however often it is asked for."""
    if body.lstrip()[:1] == b"<":
        why = f"{server} sends a web page in place of {expected}: check the address, and for a proxy in between"
        return Unreachable(why, lasting=True)
    return Unreachable(f"{server} sends something else than {expected}: check the address, and for a proxy in between")


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
        case aiohttp.ClientResponseError():
            return Unreachable(f"{server} answers, but not as HTTP does: check the address and the port")
        case aiohttp.ClientConnectorDNSError() | UnicodeError():
            return Unreachable(f"cannot find the host of {server}: check its name, DNS, or your VPN")
        case TimeoutError():
            return Unreachable(f"{server} does not answer in time: check the address, firewalls, or your VPN")
        case aiohttp.ClientConnectorError():
            # asyncio puts the addresses into strerror; the number's own word is "connection refused" and such.
            why = os.strerror(error.os_error.errno).lower() if error.os_error.errno else "no connection"
            return Unreachable(f"cannot reach {server} ({why}): is the API server up, and the address right?")
    why = type(error).__name__
    return Unreachable(f"the connection to {server} broke off ({why}): try again; a proxy in between may have cut it")


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
    if re.fullmatch("[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - datetime.now(UTC).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
