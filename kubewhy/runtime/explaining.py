"""Asks models about incidents: several backends in order, each with a breaker, within budgets, and never twice."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import msgspec

from explainer.answers import BadAnswer, explanation, read
from explainer.masking import Masker
from explainer.mentioned import told
from explainer.prompts import Question, again, ask
from explainer.wanting import Wanted
from kubewhy.contracts import AnswerCache, Backend, Completion
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Answer, Explanation, IncidentView

log = logging.getLogger(__name__)

# A backend that fails so often in a row is left alone for a while; then one call tries whether it is back.
FAILURES = 3
HALF_OPEN = timedelta(seconds=30)
_PAUSES = (2, 5, 15, 30, 60)  # seconds before the same is asked again, the last one for ever
_COSTLY = (60, 120, 300, 600, 900)
_TIMEOUT = 120.0  # whatever a backend itself allows
_LONGEST_WAIT = timedelta(seconds=60)  # so that an hour-long Retry-After delays no recovery


class Unfit(RetryLater):
    """A backend answers, but not what it was asked: it may learn to, but each try costs."""


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

    def failed(self, now: datetime, after: float | None = None) -> None:
        self.failures += 1
        if after is not None:
            self.shut_until = now + min(timedelta(seconds=after), _LONGEST_WAIT)
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

    def spend(self, completion: Completion, cost: float | None) -> None:
        self.spent_tokens += completion.input_tokens + completion.output_tokens
        self.spent_dollars += cost or 0.0


@dataclass
class Explainer:
    """Gives one incident an explanation. `key` makes the placeholders that stand for names."""

    choices: Sequence[Choice]
    clock: Callable[[], datetime]
    key: bytes
    language: str = "English"
    mask: bool = True
    cache: AnswerCache | None = None
    budget: Budget = field(default_factory=Budget)
    draw: Callable[[], str] = lambda: secrets.token_hex(6)

    async def explain(self, view: IncidentView) -> Explanation | None:
        """None where no backend has an answer to just this; RetryLater where one may have it later."""
        masker = Masker(self.key, told(view))
        question = ask(view, masker.mask if self.mask else str, self.language, self.draw)
        after: float | None = None
        rejected, unfit = 0, False
        for choice in self.choices:
            found = self._cached(choice, question, masker, view)
            if found:
                return found
        for choice in self.choices:
            if not choice.is_open(self.clock()):
                continue
            if not self.budget.allows(self.clock()):
                raise RetryLater("the budget is spent", after=60)
            try:
                answer, completion, cost = await self._ask(choice, question)
            except Rejected as error:
                log.info("rejected", extra={"backend": choice.backend.name, "why": str(error)})
                rejected += 1
                continue
            except ConfigError as error:
                choice.complain(error)
                choice.failed(self.clock(), _LONGEST_WAIT.total_seconds())
                continue
            except Unfit as error:
                choice.complain(error)
                unfit = True
                continue
            except RetryLater as error:
                choice.complain(error)
                choice.failed(self.clock(), error.after)
                after = error.after if after is None else min(after, error.after or after)
                continue
            choice.worked()
            self._keep(choice, question, answer, completion)
            return self._explanation(choice, answer, completion, masker, view, cost)
        if rejected == len(self.choices):
            return None
        raise Unfit("no answer fits") if unfit else RetryLater("no backend answers", after)

    def question(self, view: IncidentView) -> Question:
        """What would leave for a model."""
        masker = Masker(self.key, told(view))
        return ask(view, masker.mask if self.mask else str, self.language, self.draw)

    async def close(self) -> None:
        for choice in self.choices:
            await choice.backend.close()

    async def _ask(self, choice: Choice, question: Question) -> tuple[dict[str, object], Completion, float | None]:
        """Asks, and once more where the answer does not fit."""
        prompt, tokens, cost = question.prompt, (0, 0), None
        for attempt in range(2):
            completion = await _within(choice.backend, prompt)
            spent = choice.price.of(completion) if choice.price else None
            self.budget.spend(completion, spent)
            cost = None if spent is None else (cost or 0.0) + spent
            tokens = (tokens[0] + completion.input_tokens, tokens[1] + completion.output_tokens)
            try:
                answer = read(completion.text)
            except BadAnswer as error:
                if attempt:
                    break
                prompt = again(question, completion.text, str(error))
                continue
            return answer, Completion(completion.text, completion.model, *tokens), cost
        raise Unfit(f"backend {choice.backend.name}: its answers do not fit the schema; try another model")

    def _cached(self, choice: Choice, question: Question, masker: Masker, view: IncidentView) -> Explanation | None:
        kept = self.cache.get(choice.backend.name, choice.model, self.language, question.told) if self.cache else None
        if kept is None:
            return None
        try:
            answer = read(kept.text)
        except BadAnswer:
            return None
        found = self._explanation(choice, answer, kept, masker, view, None)
        return msgspec.structs.replace(found, cached=True)

    def _keep(self, choice: Choice, question: Question, answer: dict[str, object], completion: Completion) -> None:
        if self.cache:
            text = msgspec.json.encode(answer).decode()
            kept = Completion(text, completion.model, completion.input_tokens, completion.output_tokens)
            self.cache.put(choice.backend.name, choice.model, self.language, question.told, kept)

    def _explanation(
        self,
        choice: Choice,
        answer: dict[str, object],
        completion: Completion,
        masker: Masker,
        view: IncidentView,
        cost: float | None,
    ) -> Explanation:
        return explanation(
            answer,
            masker,
            completion,
            backend=choice.backend.name,
            language=self.language,
            cost=cost,
            links=tuple({each.docs for each in view.words if each.docs}),
        )


async def _within(backend: Backend, prompt: object) -> Completion:
    try:
        return await asyncio.wait_for(backend.complete(prompt), _TIMEOUT)  # type: ignore[arg-type]
    except TimeoutError:
        raise RetryLater(f"backend {backend.name}: no answer within {_TIMEOUT:.0f} s") from None


class Calls:
    """The calls of one process: `start` what is wanted, `take` what has come of it. No incident has two at once."""

    def __init__(self, explainer: Explainer, at_once: int = 4) -> None:
        self._explainer, self._at_once = explainer, at_once
        self._running: dict[tuple[str, str], asyncio.Task[Explanation | None]] = {}
        self._asked: dict[tuple[str, str], str] = {}
        self._attempts: dict[tuple[str, str, str], tuple[int, datetime]] = {}
        self._answers: list[Answer] = []

    @property
    def running(self) -> bool:
        return bool(self._running)

    def start(self, wanted: Iterable[Wanted]) -> None:
        """Those that do not run already, as many as may."""
        now = self._explainer.clock()
        named = set()
        for each in wanted:
            key = (each.incident.cluster, each.incident.id)
            attempt = (*key, each.asked)
            named.add(attempt)
            due = self._attempts.get(attempt, (0, now))[1]
            if key in self._running or due > now or len(self._running) >= self._at_once:
                continue
            self._asked[key] = each.asked
            task = asyncio.create_task(self._explainer.explain(each.incident))
            self._running[key] = task
            task.add_done_callback(lambda task, key=key: self._done(key, task))  # type: ignore[misc]
        running = {(*key, self._asked[key]) for key in self._running}
        self._attempts = {key: told for key, told in self._attempts.items() if key in named | running}

    def take(self) -> list[Answer]:
        """The answers since it was last asked."""
        taken, self._answers = self._answers, []
        return taken

    async def round(self, wanted: Iterable[Wanted]) -> bool:
        """Starts as many as may, and waits for them. False where there was none to start."""
        self.start(wanted)
        begun = bool(self._running)
        while self._running:
            await asyncio.wait(list(self._running.values()))
            await asyncio.sleep(0)
        return begun

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._explainer.close()

    def _done(self, key: tuple[str, str], task: "asyncio.Task[Explanation | None]") -> None:
        del self._running[key]
        if task.cancelled():
            return
        asked = self._asked.pop(key)
        error = task.exception()
        if error is None:
            self._attempts.pop((*key, asked), None)
            self._answers.append(Answer(cluster=key[0], incident=key[1], asked=asked, explanation=task.result()))
            return
        if not isinstance(error, RetryLater):
            # A bug here must not be asked for again and again, nor stop what watches.
            log.error("not explained", extra={"incident": key[1], "error": type(error).__name__})
            self._answers.append(Answer(cluster=key[0], incident=key[1], asked=asked))
            return
        attempts = self._attempts.get((*key, asked), (0, self._explainer.clock()))[0]
        pauses = _COSTLY if isinstance(error, Unfit) else _PAUSES
        pause = timedelta(seconds=pauses[min(attempts, len(pauses) - 1)])
        if error.after is not None:
            pause = min(max(pause, timedelta(seconds=error.after)), _LONGEST_WAIT)
        self._attempts[(*key, asked)] = (attempts + 1, self._explainer.clock() + pause)
