"""What goes wrong on the way to a far side, and what to do about it: one line each, which holds no secret."""

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.request import getproxies

from kubewhy.errors import ConfigError, Rejected, RetryLater

LONGEST_REPLY = 1_000_000
LONGEST_WAIT = 3600.0


class Far(Protocol):
    """Who is asked. `address` is what a message may say of where that is, `setting` names what leads there."""

    @property
    def address(self) -> str: ...

    @property
    def setting(self) -> str: ...

    def config(self, what: str) -> ConfigError:
        """What only a person can mend."""
        ...

    def later(self, what: str, after: float | None = None) -> RetryLater:
        """What may pass."""
        ...

    def rejected(self, what: str) -> Rejected:
        """What is the fault of what was sent."""
        ...


def proxy_refuses(far: Far) -> ConfigError:
    """A proxy wants to know who asks."""
    return far.config("the proxy asks for a password (407): write it into HTTPS_PROXY, as in http://user:password@host")


def untrusted(far: Far) -> ConfigError:
    """Nobody whom we trust vouches for the far side."""
    return far.config(
        f"the certificate of {far.address} is not to be trusted: name the file of its authority as `ca_file`"
    )


def no_tls(far: Far) -> ConfigError:
    """Something answers, but not TLS."""
    return far.config(f"{far.address} does not speak TLS as we do: check {far.setting}")


def broken(far: Far) -> RetryLater:
    """Half an answer came."""
    return far.later(f"the connection to {far.address} broke before the answer was complete")


def endless(far: Far) -> Rejected:
    """More came than an answer can be long."""
    return far.rejected("the answer does not end")


def proxy_blocks(far: Far) -> RetryLater:
    """A proxy is there, and does not do what it is for."""
    return far.later("the proxy of HTTPS_PROXY does not let us through; should NO_PROXY name the address?")


def unreachable(far: Far) -> RetryLater:
    """Nobody answers there."""
    via = ", or the proxy before it, as HTTPS_PROXY has it," if getproxies() else ""
    return far.later(f"{far.address}{via} cannot be reached; is {far.setting} right, and does it run?")


def unreadable(far: Far) -> RetryLater:
    """An answer came, but not in the format that it should have."""
    return far.later(f"what {far.address} answers is not what is answered to such a request; is {far.setting} right?")


def wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that Retry-After asks for, in either of its forms (RFC 9110, 10.2.3), or None."""
    told = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None
