"""Which model is asked, how it fares, and what may be spent on it."""

import logging
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import msgspec

from kubewhy.contracts import Backend, Completion

log = logging.getLogger(__name__)

# A backend that fails so often in a row is left alone for a while; then one call tries whether it is back.
FAILURES = 3
HALF_OPEN = timedelta(seconds=30)
LONGEST_WAIT = timedelta(seconds=60)  # so that an hour-long Retry-After delays no recovery


@dataclass(frozen=True)
class Price:
    """In US dollars, for a million tokens."""

    input: float
    output: float

    def of(self, completion: Completion) -> float:
        return (completion.input_tokens * self.input + completion.output_tokens * self.output) / 1_000_000


@dataclass
class Choice:
    """One backend, and how it fares. `model` is what it was told to ask."""

    backend: Backend
    model: str
    price: Price | None = None
    failures: int = 0
    shut_until: datetime | None = None
    said: str = ""  # the last trouble that a person was told of

    def is_open(self, now: datetime) -> bool:
        """Whether it may be asked now."""
        return self.shut_until is None or now >= self.shut_until

    def closed_for(self, now: datetime) -> float:
        """In how many seconds it may be asked."""
        return (self.shut_until - now).total_seconds() if self.shut_until else 0.0

    def failed(self, error: Exception, now: datetime, after: float | None) -> None:
        """It is left alone for so many seconds; where nothing says how many, only once it has failed too often."""
        self.complain(error)
        self.failures += 1
        if after is not None:
            self.shut_until = now + min(timedelta(seconds=after), LONGEST_WAIT)
        elif self.failures >= FAILURES:
            self.shut_until = now + HALF_OPEN

    def worked(self) -> None:
        self.failures, self.shut_until = 0, None
        if self.said:
            log.warning("backend %s answers again", self.backend.name)
            self.said = ""

    def complain(self, error: Exception) -> None:
        """Once for each trouble."""
        if str(error) != self.said:
            self.said = str(error)
            log.warning("%s; incidents are told in the rules' words until it answers", self.said)


@dataclass
class Budget:
    """What may be spent in one day, by UTC; null: as much as it takes."""

    tokens: int | None = None
    dollars: float | None = None
    day: date | None = None
    spent_tokens: int = 0
    spent_dollars: float = 0.0
    noticed: bool = False

    def allows(self, now: datetime) -> bool:
        """Says once a day that it is spent."""
        if now.date() != self.day:
            self.day, self.spent_tokens, self.spent_dollars, self.noticed = now.date(), 0, 0.0, False
        spent = (self.tokens is not None and self.spent_tokens >= self.tokens) or (
            self.dollars is not None and self.spent_dollars >= self.dollars
        )
        if spent and not self.noticed:
            self.noticed = True
            log.warning("the day's budget for models is spent: until midnight UTC incidents keep the rules' words")
        return not spent

    def row(self) -> bytes:
        """What was spent of it, to be kept across restarts."""
        return msgspec.json.encode((self.day, self.spent_tokens, self.spent_dollars, self.noticed))

    def restore(self, row: bytes) -> None:
        """As it was when that row was written. A row that is none is as good as none."""
        try:
            told = msgspec.json.decode(row, type=tuple[date | None, int, float, bool])
        except msgspec.DecodeError:
            return
        self.day, self.spent_tokens, self.spent_dollars, self.noticed = told

    def at_least(self, row: bytes) -> None:
        """So much is spent, or more. A row that is none is as good as none."""
        other = Budget()
        other.restore(row)
        if other.day and (self.day is None or other.day > self.day):
            self.restore(row)
        elif other.day == self.day:
            self.spent_tokens = max(self.spent_tokens, other.spent_tokens)
            self.spent_dollars = max(self.spent_dollars, other.spent_dollars)

    def spend(self, completion: Completion, cost: float | None) -> None:
        self.spent_tokens += completion.input_tokens + completion.output_tokens
        self.spent_dollars += cost or 0.0
