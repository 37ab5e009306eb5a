"""Posts to addresses that people name, and says what is wrong where nothing takes it. Replies are not believed."""

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from pydantic import TypeAdapter, ValidationError

from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.farside import proxy_refuses, wait
from kubewhy.http import connect, trust, within
from kubewhy.keys import Key, read
from sinks.addresses import Address
from sinks.settings import HttpSettings

# Once the status is known, a reply is read only so that its connection may serve again.
_READING_SECONDS = 1.0
_SAID = 10_000  # bytes of it are searched
# Where keys stand in bodies, a wrong one is a bad request.
_BAD_KEY = re.compile(
    rb"(invalid|wrong|missing).{0,20}(routing|integration|api).?key"
    rb"|((routing|integration|api).?key|key format).{0,30}(invalid|not valid|missing|blank)",
    re.I | re.S,
)
_ADDRESS: TypeAdapter[str] = TypeAdapter(Address)


class TooLarge(Rejected):
    """The far side takes less at once."""


@dataclass(frozen=True)
class Addressee:
    """Who is posted to: all that a message may say of it. `setting` is where the address is."""

    address: str
    setting: str = "`url`"
    key: str = ""  # where the credentials are, such as `environment variable X`

    @staticmethod
    def at(url: str, setting: str = "`url`", key: str = "") -> "Addressee":
        """The rest of an address may be a secret."""
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return Addressee(f"{parts.scheme}://{parts.hostname}{port}", setting, key)

    def config(self, what: str) -> ConfigError:
        """What only a person can mend."""
        return ConfigError(what)

    def later(self, what: str, after: float | None = None) -> RetryLater:
        """What may pass."""
        return RetryLater(what, after)

    def rejected(self, what: str) -> Rejected:
        """What is this finding's fault."""
        return Rejected(what)


class Poster:
    """Posts to one address, in time. It follows no redirects, and no reply can hold it or fill it."""

    def __init__(
        self,
        url: str,
        setting: str,
        settings: HttpSettings,
        environ: Mapping[str, str],
        *,
        key: str = "",
        headers: Mapping[str, str] = {},
    ) -> None:
        """`key` is where those in `headers` come from. Raises ConfigError where something is missing."""
        self._url = url
        self._far = Addressee.at(url, setting, key or _key(settings))
        self._seconds = settings.timeout_seconds
        self._headers = {**headers, **_headers(settings, environ)}
        self._client = connect(self._far, self._seconds, _tls(self._far, settings), _no_cookies)

    @property
    def address(self) -> str:
        """What may be said of where it posts to."""
        return self._far.address

    async def post(self, body: bytes, headers: Mapping[str, str], path: str = "") -> None:
        """Returns once it is taken. Raises TooLarge, or one of the three errors."""
        told = {"content-type": "application/json", **headers, **self._headers}
        request = self._client.build_request("POST", f"{self._url}{path}", content=body, headers=told)
        reply = await within(self._far, self._seconds, self._client.send(request, stream=True))
        said = bytearray()
        try:
            with suppress(httpx2.HTTPError, TimeoutError):
                async with asyncio.timeout(_READING_SECONDS):
                    async for piece in reply.aiter_raw():
                        said += piece
        finally:
            await reply.aclose()
        if not reply.is_success:
            raise refusal(self._far, reply.status_code, reply.headers, bytes(said[:_SAID]))

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()


def refusal(far: Addressee, status: int, headers: Mapping[str, str], said: bytes = b"") -> Exception:
    """The exception that a status stands for. What is said with it is searched, and never repeated."""
    match status:
        case 400 | 422 if far.key and _BAD_KEY.search(said):
            return far.config(f"{far.address} does not accept what {far.key} gives ({status}): check or renew it")
        case 401 | 403 if far.key:
            return far.config(f"{far.address} does not accept what {far.key} gives ({status}): check or renew it")
        case 401 | 403:
            return far.config(f"{far.address} wants to know who posts ({status}): add `bearer`, `basic` or a header")
        case 404 | 410:
            return far.config(
                f"nothing is there to post to at {far.address} ({status}): check the path in {far.setting}"
            )
        case 407:
            return proxy_refuses(far)
        case 413:
            return TooLarge(f"{far.address} takes no post so large (413)")
        case 408 | 425:
            return far.later(f"{far.address} wants it again ({status})", wait(headers))
        case 429:
            return far.later(f"{far.address} is posted to too often (429)", wait(headers))
    if status >= 500:
        return far.later(f"{far.address} fails ({status})", wait(headers))
    if status >= 400:
        return far.rejected(f"{far.address} refuses it ({status})")
    where = _host(headers.get("location", ""), far)
    return far.config(
        f"{far.address} redirects to {where} ({status}): write the address it leads to into {far.setting}"
    )


def _host(location: str, far: Addressee) -> str:
    """Of where it leads only the host is told: the rest may hold secrets, and all of it is somebody else's words."""
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = ""
    if host is None:
        return f"another path of {far.address}"
    return host if re.fullmatch(r"[a-z0-9.:-]{1,253}", host) else "elsewhere"


def secret_address(key: Key, environ: Mapping[str, str]) -> str:
    """The address that is found there. Raises ConfigError, without a word of it, where it is none."""
    try:
        return _ADDRESS.validate_python(read(key, environ).get_secret_value())
    except ValidationError:
        raise ConfigError(f"what {key} gives is no address: put one like https://host/path there") from None


async def _no_cookies(request: httpx2.Request) -> None:
    request.headers.pop("cookie", None)


def _headers(settings: HttpSettings, environ: Mapping[str, str]) -> dict[str, str]:
    headers = {
        name.lower(): read(told, environ).get_secret_value() if isinstance(told, Key) else told
        for name, told in settings.headers.items()
    }
    if settings.bearer:
        headers["authorization"] = f"Bearer {read(settings.bearer, environ).get_secret_value()}"
    if settings.basic:
        password = read(settings.basic.password, environ).get_secret_value()
        both = base64.b64encode(f"{settings.basic.user}:{password}".encode())
        headers["authorization"] = f"Basic {both.decode()}"
    return headers


def _key(settings: HttpSettings) -> str:
    """Where the credentials are."""
    secret = settings.bearer or (settings.basic.password if settings.basic else None)
    return str(secret or next((told for told in settings.headers.values() if isinstance(told, Key)), ""))


def _tls(far: Addressee, settings: HttpSettings) -> ssl.SSLContext | bool:
    trusted = trust(far, settings.ca_file)
    if settings.certificate is None:
        return trusted
    context = ssl.create_default_context() if isinstance(trusted, bool) else trusted
    file, key_file = settings.certificate.file.expanduser(), settings.certificate.key_file
    try:
        # A password is asked for at a terminal, unless something gives one.
        context.load_cert_chain(file, key_file and key_file.expanduser(), password="")
    except ssl.SSLError:
        raise far.config(f"{file}: no certificate with the key that belongs to it: check `certificate`") from None
    except OSError as error:
        raise far.config(f"{file} or its key cannot be read ({error.strerror}): check `certificate`") from None
    return context
