"""Anthropic's own API."""

from typing import Any

import anthropic
import httpx2
import msgspec
from pydantic import BaseModel, SecretStr

from explainer.backends.http import connect
from explainer.backends.refusals import Asked, cut_short, filtered, refusal, too_long
from explainer.backends.settings import AnthropicSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable
from kubewhy.http import fault, within


class _Block(msgspec.Struct, frozen=True):
    text: str | None = None  # other blocks hold what the model thought


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0


class _Answer(msgspec.Struct, frozen=True):
    content: list[_Block]
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage = _Usage()


class AnthropicBackend:
    def __init__(self, settings: AnthropicSettings, key: SecretStr | None) -> None:
        self.name = settings.called
        self.structured = settings.structured
        self._settings = settings
        self._asked = Asked(self.name, settings.model, settings.address, str(settings.key_place or ""))

        async def sign(request: httpx2.Request) -> None:
            if key:
                request.headers["x-api-key"] = key.get_secret_value()

        # What is not given here the SDK would take from the environment.
        self._client = anthropic.AsyncAnthropic(
            base_url=settings.address,
            api_key="signed-elsewhere",
            webhook_key="",
            max_retries=0,
            timeout=settings.timeout_seconds,
            http_client=connect(self._asked, settings.timeout_seconds, settings.ca_file, sign),
        )

    async def complete(self, prompt: Prompt) -> Completion:
        return await within(self._asked, self._settings.timeout_seconds, self._ask(prompt))

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, prompt: Prompt) -> Completion:
        wanted: dict[str, Any] = {}
        if prompt.schema is not None and self.structured:
            wanted["output_config"] = {"format": {"type": "json_schema", "schema": dict(prompt.schema)}}
        try:
            answer: Any = await self._client.messages.create(
                model=self._settings.model,
                system=prompt.system,
                messages=[{"role": "user", "content": prompt.user}],
                max_tokens=self._settings.max_tokens or prompt.max_tokens,
                **wanted,
            )
        except anthropic.APIStatusError as error:
            raise refusal(self._asked, error.status_code, error.response.content, error.response.headers) from None
        except anthropic.APIError as error:
            raise fault(self._asked, error) from None
        except (AttributeError, TypeError, ValueError):
            # The SDK takes it for granted that an answer has the right form.
            raise unreadable(self._asked) from None
        return self._read(answer.model_dump(warnings=False) if isinstance(answer, BaseModel) else answer)

    def _read(self, told: object) -> Completion:
        try:
            answer = msgspec.convert(told, _Answer)
        except msgspec.ValidationError:
            raise unreadable(self._asked) from None
        match answer.stop_reason:
            case "max_tokens":
                raise cut_short(self._asked)
            case "refusal":
                raise filtered(self._asked)
            case "model_context_window_exceeded":
                raise too_long(self._asked, "model_context_window_exceeded")
        text = "".join(block.text or "" for block in answer.content)
        if not text:
            raise unreadable(self._asked)
        return Completion(
            text, answer.model or self._asked.model, answer.usage.input_tokens, answer.usage.output_tokens
        )
