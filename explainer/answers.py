"""What a model answers: held to its schema, with its names put back, and without anything that could do harm. Pure."""

import json
import re
from collections.abc import Collection
from functools import cache
from typing import Any

from explainer.hostile import clean, cut, defuse
from explainer.masking import Masker
from explainer.prompts import SCHEMA
from explainer.readonly import allowed
from kubewhy.contracts import Completion
from kubewhy.records import Explanation

_FENCE = re.compile(r"^\s*```[a-z]*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_STEPS, _COMMANDS, _COMMAND = 5, 3, 300
_TEXT = 800  # characters of one part


@cache
def _validator() -> Any:
    # A tenth of a second that only answers need.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMA)


class BadAnswer(Exception):
    """It does not fit; the message may be shown to the model."""


def read(text: str) -> dict[str, Any]:
    """The answer as its schema has it. Raises BadAnswer."""
    fenced = _FENCE.match(text)
    inner = fenced[1] if fenced else text
    begin, end = inner.find("{"), inner.rfind("}")
    try:
        answer = json.loads(inner[begin : end + 1]) if begin >= 0 else None
    except (ValueError, RecursionError):
        raise BadAnswer("it is not JSON") from None
    if answer is None:
        raise BadAnswer("it is not JSON")
    fault = next(iter(_validator().iter_errors(answer)), None)
    if fault is not None:
        place = ".".join(map(str, fault.absolute_path)) or "the whole"
        raise BadAnswer(f"{place} does not fit the schema: {fault.validator}")
    if not answer["cause"].strip():
        raise BadAnswer("cause is empty")
    return dict(answer)


def explanation(
    answer: dict[str, Any],
    masker: Masker,
    completion: Completion,
    *,
    backend: str,
    language: str,
    cost: float | None,
    links: Collection[str] = (),
    commands: Collection[str] = (),
) -> Explanation:
    """For people. `links` and `commands` are our own, and may stand in it."""

    def safe(text: str) -> str:
        return cut(defuse(masker.unmask(text), links, (), commands).strip(), _TEXT)

    said = " ".join([answer["cause"], answer["why"], *answer["fix"], *answer["verify"]])
    made_up = bool(masker.strange(said))
    looks = (_command(masker.unmask(each)) for each in answer["verify"])
    verify = tuple(each for each in looks if each in commands or (len(each) <= _COMMAND and allowed(each)))
    return Explanation(
        cause=safe(answer["cause"]),
        why=safe(answer["why"]),
        fix=tuple(step for each in answer["fix"][:_STEPS] if (step := safe(each))),
        verify=tuple(each for each in verify if each in commands or (len(each) <= _COMMAND and allowed(each)))[
            :_COMMANDS
        ],
        confidence="low" if made_up else answer["confidence"],
        language=language,
        backend=backend,
        model=cut(clean(completion.model), 100),
        input_tokens=completion.input_tokens,
        output_tokens=completion.output_tokens,
        cost=cost,
        cached=False,
    )


def _command(text: str) -> str:
    return clean(text).strip().strip("`").removeprefix("$ ").strip()
