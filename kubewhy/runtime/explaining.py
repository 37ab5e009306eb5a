"""Asks models about an incident: several backends in order, within a budget, and never twice for the same."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from explainer.answers import BadAnswer, explanation, read
from explainer.masking import Masker
from explainer.masking.incident import told
from explainer.prompts import Question, again, ask
from explainer.wanting import Subject
from kubewhy.contracts import AnswerCache, Backend, Completion, Prompt
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.records import Explanation, IncidentView
from kubewhy.runtime.choosing import LONGEST_WAIT, Budget, Choice
from kubewhy.runtime.telemetry.notes import Notes

log = logging.getLogger(__name__)

_TIMEOUT = 120.0  # seconds, whatever a backend itself allows


class Unfit(RetryLater):
    """A backend answers, but not what it was asked: it may learn to, but each try costs."""


@dataclass(frozen=True)
class _Case:
    """One incident, and what is asked about it."""

    view: IncidentView
    masker: Masker
    question: Question


class _Answered(NamedTuple):
    """What came of asking, and of whom."""

    choice: Choice
    completion: Completion
    cost: float | None


@dataclass
class Explainer:
    """Gives one incident an explanation. `key` makes the placeholders that stand for names.

    Where it is not `masked`, only secrets are hidden.
    """

    choices: Sequence[Choice]
    clock: Callable[[], datetime]
    key: bytes
    language: str = "English"
    cache: AnswerCache | None = None
    budget: Budget = field(default_factory=Budget)
    masked: bool = True
    draw: Callable[[], str] = lambda: secrets.token_hex(6)
    notes: Notes = field(default_factory=Notes)
    _running: dict[str, "asyncio.Task[_Answered | None]"] = field(default_factory=dict)

    async def explain(self, subject: Subject) -> Explanation | None:
        """None where no backend has an answer to just this; RetryLater where one may have it later."""
        case = self._case(subject)
        for choice in self.choices:
            if found := await self._cached(choice, case):
                self.notes.looked_up(True)
                return found
        if self.cache:
            self.notes.looked_up(False)
        answered, again = await self._once(case)
        if answered is None:
            return None
        found = self._explanation(case, answered)
        # Whoever asked the same at the same time has paid for it.
        return msgspec.structs.replace(found, cached=True, cost=None) if again else found

    def question(self, subject: Subject) -> Question:
        """What would be asked, but for the mark that chance draws."""
        return self._case(subject).question

    async def close(self) -> None:
        for choice in self.choices:
            await choice.backend.close()
        if self.cache:
            await self.cache.close()

    async def _once(self, case: _Case) -> tuple[_Answered | None, bool]:
        """What is asked already is not asked again meanwhile; then it says True."""
        told = case.question.told
        if running := self._running.get(told):
            return await asyncio.shield(running), True
        task = self._running[told] = asyncio.create_task(self._ask(case))
        try:
            return await task, False
        finally:
            task.cancel()
            del self._running[told]

    async def _ask(self, case: _Case) -> _Answered | None:
        """The first backend that has an answer."""
        waits: list[float | None] = []  # for each that may have an answer later: in how many seconds, if it is known
        rejected, unfit = 0, False
        for choice in self.choices:
            now = self.clock()
            if not choice.is_open(now):
                waits.append(choice.closed_for(now))
                continue
            if not self.budget.allows(now):
                raise RetryLater("the budget is spent", after=60)
            try:
                return await self._answered(choice, case)
            except Rejected as error:
                log.info("rejected", extra={"backend": choice.backend.name, "why": str(error)})
                rejected += 1
            except ConfigError as error:
                waits.append(LONGEST_WAIT.total_seconds())
                choice.failed(error, self.clock(), waits[-1])
            except Unfit as error:
                choice.complain(error)
                unfit = True
            except RetryLater as error:
                waits.append(error.after)
                choice.failed(error, self.clock(), error.after)
        if rejected == len(self.choices):
            return None
        known = [each for each in waits if each is not None]
        after = min(known) if len(known) == len(waits) and known else None
        raise Unfit("no answer fits") if unfit else RetryLater("no backend answers", after)

    def _case(self, subject: Subject) -> _Case:
        view = subject.incident
        # The same name is another placeholder in another cluster.
        key = blake2b(view.cluster.encode(), key=self.key).digest()
        masker = Masker(key, (*told(view), *subject.names), names_too=self.masked)
        return _Case(view, masker, ask(view, masker.mask, self.language, self.draw))

    async def _answered(self, choice: Choice, case: _Case) -> _Answered:
        """Asks, and once more where the answer does not fit."""
        prompt, tokens, cost = case.question.prompt, (0, 0), None
        for _ in range(2):
            began = time.monotonic()
            try:
                completion = await _within(choice.backend, prompt)
            except (Rejected, RetryLater, ConfigError) as error:
                self._called(choice, _outcome(error), began)
                raise
            spent = choice.price.of(completion) if choice.price else None
            self.budget.spend(completion, spent)
            cost = None if spent is None else (cost or 0.0) + spent
            tokens = (tokens[0] + completion.input_tokens, tokens[1] + completion.output_tokens)
            self.notes.spent(choice.backend.name, choice.model, completion, spent)
            try:
                answer = read(completion.text)
            except BadAnswer as error:
                self._called(choice, "unfit", began)
                prompt = again(case.question, completion.text, str(error))
                continue
            self._called(choice, "answered", began)
            choice.worked()
            whole = Completion(msgspec.json.encode(answer).decode(), completion.model, *tokens)
            if self.cache:
                await self.cache.put(choice.backend.name, choice.model, self.language, case.question.told, whole)
            return _Answered(choice, whole, cost)
        raise Unfit(f"backend {choice.backend.name}: its answers do not fit the schema; try another model")

    def _called(self, choice: Choice, outcome: str, began: float) -> None:
        self.notes.called(choice.backend.name, choice.model, outcome, time.monotonic() - began)

    async def _cached(self, choice: Choice, case: _Case) -> Explanation | None:
        if not self.cache:
            return None
        kept = await self.cache.get(choice.backend.name, choice.model, self.language, case.question.told)
        try:
            found = self._explanation(case, _Answered(choice, kept, None)) if kept else None
        except BadAnswer:
            return None
        return msgspec.structs.replace(found, cached=True) if found else None

    def _explanation(self, case: _Case, answered: _Answered) -> Explanation:
        choice, completion, cost = answered
        return explanation(
            read(completion.text),
            case.masker,
            completion,
            backend=choice.backend.name,
            language=self.language,
            cost=cost,
            links=tuple({each.docs for each in case.view.words if each.docs}),
            commands=case.view.commands,
        )


def _outcome(error: Exception) -> str:
    match error:
        case Rejected():
            return "rejected"
        case ConfigError():
            return "misconfigured"
    return "failed"


async def _within(backend: Backend, prompt: Prompt) -> Completion:
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await backend.complete(prompt)
    except TimeoutError:
        raise RetryLater(f"backend {backend.name}: no answer within {_TIMEOUT:.0f} s") from None
