"""What models have answered, still masked, on S3: one object an answer, for all who mask by the same key."""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from explainer.cache import AGE, key_of
from kubewhy.buckets import BucketSettings
from kubewhy.contracts import Completion
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.s3 import Bucket

Result = TypeVar("Result")

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 3.0
PAUSE = timedelta(minutes=1)


class _Kept(msgspec.Struct, frozen=True):
    """One object. `by` is what the vendor says has answered."""

    made: datetime
    text: str
    by: str
    input_tokens: int
    output_tokens: int


class SharedAnswers:
    """Nothing raises out of it: trouble is said once, and it is left alone for a minute.

    What is too old is not taken; to remove it is left to the bucket's own rules.
    """

    def __init__(
        self,
        settings: BucketSettings,
        clock: Callable[[], datetime],
        *,
        age: timedelta = AGE,
        seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._bucket = Bucket(settings, seconds)
        self._clock, self._age = clock, age
        self._shut_until: datetime | None = None
        self._said = ""

    async def get(self, backend: str, model: str, language: str, told: str) -> Completion | None:
        """What was answered to this before, whoever asked."""
        body = await self._with(lambda: self._bucket.get(self._name(backend, model, language, told)), None)
        if body is None:
            return None
        try:
            kept = msgspec.json.decode(body, type=_Kept)
            if self._clock() - kept.made > self._age:
                return None
        except (msgspec.MsgspecError, TypeError):
            return None
        return Completion(kept.text, kept.by, kept.input_tokens, kept.output_tokens)

    async def put(self, backend: str, model: str, language: str, told: str, answer: Completion) -> None:
        """Remembers it for all."""
        kept = _Kept(self._clock(), answer.text, answer.model, answer.input_tokens, answer.output_tokens)
        name, body = self._name(backend, model, language, told), msgspec.json.encode(kept)
        await self._with(lambda: self._bucket.put(name, body, "application/json"), False)

    async def close(self) -> None:
        await self._bucket.close()

    def _name(self, backend: str, model: str, language: str, told: str) -> str:
        return f"{self._bucket.settings.prefix}{key_of(backend, model, language, told)}.json"

    async def _with(self, work: Callable[[], Awaitable[Result]], otherwise: Result) -> Result:
        if self._shut_until and self._clock() < self._shut_until:
            return otherwise
        try:
            found = await work()
        except (ConfigError, Rejected, RetryLater) as error:
            self._shut_until = self._clock() + PAUSE
            if str(error) != self._said:
                self._said = str(error)
                log.warning("explain.cache: %s; models are asked each time until that is mended", error)
            return otherwise
        if self._said:
            self._said = ""
            log.warning("explain.cache: the bucket answers again")
        return found
