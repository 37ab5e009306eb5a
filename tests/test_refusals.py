"""What vendors' refusals mean, by their words where the status says too little."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from explainer.backends.refusals import Asked, refusal
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.farside import LONGEST_WAIT, wait

ASKED = Asked("shop", "model-7", "https://far.example", "environment variable KEY")


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (400, "This model's maximum context length is 4096 tokens; reduce max_tokens.", Rejected, "longer than model"),
        (400, "prompt is too long: 9 tokens > 8 maximum", Rejected, "longer than model"),
        (400, "Input is too long for requested model.", Rejected, "longer than model"),
        (400, "The input token count exceeds the maximum number of tokens allowed", Rejected, "longer than model"),
        (413, "", Rejected, "longer than model"),
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model.", ConfigError, "`max_tokens`"),
        (400, "max_tokens is too large: 100000", ConfigError, "lower `max_tokens`"),
        (400, "The provided model identifier is invalid.", ConfigError, "no model model-7"),
        (400, "Invocation of model ID x with on-demand throughput isn't supported.", ConfigError, "no model model-7"),
        (400, "Endpoint x of account 1 not found.", ConfigError, "no model model-7"),
        (404, "<html>", ConfigError, "no model model-7 at https://far.example .*check `model`, and `url`"),
        (400, "API key not valid. Please pass a valid API key.", ConfigError, "KEY gives is not accepted"),
        (403, "UnrecognizedClientException: The security token is invalid", ConfigError, "is not accepted"),
        (403, "ExpiredTokenException", ConfigError, "has expired"),
        (400, "The request signature has expired", ConfigError, "has expired"),
        (403, "no access", ConfigError, "another model or region"),
        (429, "You exceeded your current quota, please check your plan and billing details", RetryLater, "too often"),
        (429, "insufficient_quota", ConfigError, "used up"),
        (402, "", ConfigError, "used up"),
        (400, "Your credit balance is too low", ConfigError, "used up"),
        (400, "content_filter", Rejected, "content filter"),
        (400, "something else", Rejected, "`structured: false`"),
        (407, "", ConfigError, "HTTPS_PROXY"),
        (308, "", ConfigError, "redirects"),
        (418, "", Rejected, "refused"),
        (408, "", RetryLater, "fails"),
        (529, "", RetryLater, "fails"),
    ],
)
def test_a_refusal_is_told_by_its_words(status: int, body: str, error: type[Exception], words: str) -> None:
    told = refusal(ASKED, status, body.encode(), {})
    with pytest.raises(error, match=f"^backend shop: .*{words}"):
        raise told


def test_a_request_without_a_key_is_told_as_that() -> None:
    told = refusal(Asked("shop", "m", "https://far.example"), 401, b"", {})
    assert str(told) == "backend shop: a request without a key is not accepted (401): check or renew it"


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("1e9", LONGEST_WAIT),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wait_is_bounded_whatever_is_asked(told: str, seconds: float | None) -> None:
    assert wait({"Retry-After": told}) == seconds


def test_a_wait_may_be_told_as_a_date() -> None:
    assert wait({"retry-after": format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)}) == LONGEST_WAIT
    assert wait({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert wait({}) is None
