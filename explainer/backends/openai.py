"""Whoever speaks OpenAI's chat completions: OpenAI, Azure, Gemini, Groq, Ollama and others."""

from typing import TYPE_CHECKING, Any

import httpx2
import openai
from pydantic import BaseModel, SecretStr

from explainer.backends.chat import completion, messages, schema
from explainer.backends.http import connect
from explainer.backends.refusals import Asked, refusal
from explainer.backends.settings import OpenAISettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable
from kubewhy.http import fault, within

if TYPE_CHECKING:
    from explainer.backends.entra import Entra


class OpenAIBackend:
    def __init__(self, settings: OpenAISettings, key: SecretStr | None) -> None:
        self.name = settings.called
        self.structured = settings.preset.structured if settings.structured is None else settings.structured
        self._settings = settings
        place = "Microsoft Entra" if settings.entra else str(settings.key_place or "")
        self._asked = Asked(self.name, settings.model, settings.address, place)
        self._key = key
        self._entra = _entra(self._asked) if settings.entra else None
        # What is not given here the SDK would take from the environment.
        self._client = openai.AsyncOpenAI(
            base_url=settings.address,
            api_key="signed-elsewhere",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            max_retries=0,
            timeout=settings.timeout_seconds,
            http_client=connect(self._asked, settings.timeout_seconds, settings.ca_file, self._sign),
        )

    async def complete(self, prompt: Prompt) -> Completion:
        return await within(self._asked, self._settings.timeout_seconds, self._ask(prompt))

    async def close(self) -> None:
        await self._client.close()
        if self._entra:
            await self._entra.close()

    async def _sign(self, request: httpx2.Request) -> None:
        if self._entra:
            request.headers["authorization"] = f"Bearer {await self._entra.token()}"
        elif self._key:
            request.headers["authorization"] = f"Bearer {self._key.get_secret_value()}"

    async def _ask(self, prompt: Prompt) -> Completion:
        wanted: dict[str, Any] = {self._settings.preset.limit: self._settings.max_tokens or prompt.max_tokens}
        if prompt.schema is not None and self.structured:
            wanted["response_format"] = schema(prompt)
        told: Any = messages(prompt)
        try:
            answer = await self._client.chat.completions.create(model=self._settings.model, messages=told, **wanted)
        except openai.APIStatusError as error:
            raise refusal(self._asked, error.status_code, error.response.content, error.response.headers) from None
        except openai.APIError as error:
            raise fault(self._asked, error) from None
        except ValueError:
            raise unreadable(self._asked) from None
        # The SDK gives whatever came that is no JSON as it is.
        return completion(self._asked, answer.model_dump(warnings=False) if isinstance(answer, BaseModel) else answer)


def _entra(asked: Asked) -> "Entra":
    # A library that only those need who have no key.
    from explainer.backends.entra import Entra

    return Entra(asked)
