"""What a vendor's refusal means. Its own words are searched, and never repeated: they may hold keys or prompts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.farside import proxy_refuses, unreadable, wait

_FILTERED = re.compile(rb"content.?(filter|policy|management)|guardrail|responsible.?ai|moderation|safety", re.I)
_TOO_LONG = re.compile(rb"context.?(length|window|size)|(prompt|input|request).{0,40}too (long|large)", re.I)
_LIMIT = re.compile(
    rb"(unsupported|not supported|invalid|unknown).{0,60}max_\w*tokens"
    rb"|max_\w*tokens.{0,60}(unsupported|not supported|too large|invalid|unknown)",
    re.I,
)
_TOO_MANY = re.compile(
    rb"too many (input )?tokens"
    rb"|(maximum|max|exceed\w*|limit).{0,60}tokens?\b|tokens?\b.{0,60}(maximum|exceed\w*|limit)",
    re.I,
)
_NO_MODEL = re.compile(
    rb"model.{0,80}(not.?found|not.?exist|isn.t supported|not supported|unsupported"
    rb"|not available|is invalid|unknown)"
    rb"|(unknown|invalid|no such|unsupported).{0,20}model|deploymentnotfound|endpoint.{0,80}not found",
    re.I | re.S,
)
# Not "billing": some name it when one only asks too often.
_SPENT = re.compile(rb"insufficient.?quota|credit balance|spend(ing)? limit", re.I)
_BAD_KEY = re.compile(
    rb"api.?key.{0,20}(not valid|invalid|incorrect)|(invalid|incorrect).{0,10}api.?key"
    rb"|unrecognizedclient|invalidsignature|signaturedoesnotmatch|incompletesignature|missingauthenticationtoken",
    re.I,
)
_EXPIRED = re.compile(rb"expiredtoken|(token|key|credential\w*|signature|session)\b.{0,40}\bexpired", re.I)


@dataclass(frozen=True)
class Asked:
    """Who was asked, for what and with what: all that a message may say."""

    backend: str
    model: str
    address: str
    key: str = ""  # where the credentials are, such as `environment variable X`
    setting: str = "`url`"

    @property
    def credentials(self) -> str:
        """The same, in a sentence."""
        return f"what {self.key} gives" if self.key else "a request without a key"

    def config(self, what: str) -> ConfigError:
        """What only a person can mend."""
        return ConfigError(f"backend {self.backend}: {what}")

    def later(self, what: str, after: float | None = None) -> RetryLater:
        """What may pass."""
        return RetryLater(f"backend {self.backend}: {what}", after)

    def rejected(self, what: str) -> Rejected:
        """What is this prompt's fault."""
        return Rejected(f"backend {self.backend}: {what}")


def refusal(asked: Asked, status: int, body: bytes, headers: Mapping[str, str]) -> Exception:
    """The exception that an HTTP status stands for, with what the body gives away."""
    match status:
        case 401 | 403 if _EXPIRED.search(body):
            return asked.config(f"{asked.credentials} has expired ({status}): renew it")
        case 401:
            return not_accepted(asked, status)
        case 403 if _BAD_KEY.search(body):
            return not_accepted(asked, status)
        case 402:
            return spent(asked, status)
        case 403:
            return asked.config(
                f"{asked.credentials} may not use model {asked.model} at {asked.address} ({status}): "
                "grant it, or choose another model or region"
            )
        case 404 | 410:
            return no_model(asked, status)
        case 407:
            return proxy_refuses(asked)
        case 413:
            return too_long(asked, status)
        case 429 if _SPENT.search(body):
            return spent(asked, status)
        case 429:
            return asked.later(f"asked too often ({status})", wait(headers))
        case 400 | 409 | 422:
            return _bad_request(asked, status, body)
    if status < 300:
        return unreadable(asked)
    if status < 400:
        return asked.config(f"{asked.address} redirects elsewhere ({status}): write the address it leads to into `url`")
    if status == 408 or status >= 500:
        return asked.later(f"the far side fails ({status})", wait(headers))
    return asked.rejected(f"the request is refused ({status})")


def _bad_request(asked: Asked, status: int, body: bytes) -> Exception:
    if _SPENT.search(body):
        return spent(asked, status)
    if _EXPIRED.search(body):
        return asked.config(f"{asked.credentials} has expired ({status}): renew it")
    if _BAD_KEY.search(body):
        return not_accepted(asked, status)
    if _FILTERED.search(body):
        return filtered(asked)
    # Before the model: "this model's maximum context length" is about the prompt.
    if _TOO_LONG.search(body):
        return too_long(asked, status)
    if _LIMIT.search(body):
        return asked.config(
            f"model {asked.model} does not take this limit of tokens ({status}): lower `max_tokens`, or choose another"
        )
    if _TOO_MANY.search(body):
        return too_long(asked, status)
    if _NO_MODEL.search(body):
        return no_model(asked, status)
    return asked.rejected(f"the request is not understood ({status}); perhaps `structured: false` helps")


def not_accepted(asked: Asked, status: int | str) -> ConfigError:
    """The far side does not know who asks."""
    return asked.config(f"{asked.credentials} is not accepted ({status}): check or renew it")


def no_model(asked: Asked, status: int | str) -> ConfigError:
    """There is no such model, or nothing at that address."""
    return asked.config(
        f"there is no model {asked.model} at {asked.address} ({status}): check `model`, and `url` or `region`"
    )


def filtered(asked: Asked) -> Rejected:
    """The vendor will not speak of it."""
    return asked.rejected("the content filter refuses this prompt")


def too_long(asked: Asked, status: int | str) -> Rejected:
    """It does not fit into what the model can read."""
    return asked.rejected(f"the prompt is longer than model {asked.model} can read ({status})")


def cut_short(asked: Asked) -> Rejected:
    """The model ran into the limit before it came to an end."""
    return asked.rejected("the answer is cut short: raise `max_tokens`, which thinking counts towards too")


def spent(asked: Asked, status: int | str) -> ConfigError:
    """Nothing is left to pay with."""
    return asked.config(f"the quota or credit of {asked.key or 'this account'} is used up ({status}): raise it")
