"""The chat format that OpenAI began and many speak: what is asked, and what an answer says."""

from typing import Any

import msgspec

from explainer.backends.refusals import Asked, cut_short, filtered
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt, as a system's and a user's words."""
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]


def schema(prompt: Prompt) -> dict[str, Any]:
    """What `response_format` asks for."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": prompt.schema}}


def completion(asked: Asked, told: object) -> Completion:
    """What the model said. Raises Rejected where it was kept from saying it, or from saying all of it."""
    try:
        answer = msgspec.convert(told, _Answer)
    except msgspec.ValidationError:
        raise unreadable(asked) from None
    if not answer.choices:
        raise unreadable(asked)
    choice = answer.choices[0]
    if choice.finish_reason == "length":
        raise cut_short(asked)
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        raise filtered(asked)
    if not choice.message.content:
        raise unreadable(asked)
    usage = answer.usage or _Usage()
    model = answer.model or asked.model
    return Completion(choice.message.content, model, usage.prompt_tokens, usage.completion_tokens)
