"""Amazon Bedrock, by its Converse operation, which is the same for every model."""

import json
from typing import Any

import msgspec

from explainer.backends.aws import AwsClient
from explainer.backends.refusals import cut_short, filtered, too_long
from explainer.backends.settings import BedrockSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable


class _Block(msgspec.Struct, frozen=True):
    text: str = ""  # other blocks hold what the model thought


class _Message(msgspec.Struct, frozen=True):
    content: list[_Block]


class _Output(msgspec.Struct, frozen=True):
    message: _Message


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: int = 0
    output_tokens: int = 0


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    output: _Output
    stop_reason: str
    usage: _Usage = _Usage()


class BedrockBackend:
    def __init__(self, settings: BedrockSettings) -> None:
        self.name = settings.called
        self.structured = settings.structured
        self._settings = settings
        self._client = AwsClient(settings, "bedrock-runtime", settings.model)

    async def complete(self, prompt: Prompt) -> Completion:
        wanted: dict[str, Any] = {}
        if prompt.schema is not None and self.structured:
            schema = {"name": "answer", "schema": json.dumps(prompt.schema)}
            wanted["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
        told = await self._client.call(
            "converse",
            modelId=self._settings.model,
            system=[{"text": prompt.system}],
            messages=[{"role": "user", "content": [{"text": prompt.user}]}],
            inferenceConfig={"maxTokens": self._settings.max_tokens or prompt.max_tokens},
            **wanted,
        )
        return self._read(told)

    async def close(self) -> None:
        await self._client.close()

    def _read(self, told: dict[str, Any]) -> Completion:
        asked = self._client.asked
        try:
            answer = msgspec.convert(told, _Answer)
        except msgspec.ValidationError:
            raise unreadable(asked) from None
        match answer.stop_reason:
            case "max_tokens" | "malformed_model_output":
                raise cut_short(asked)
            case "guardrail_intervened" | "content_filtered":
                raise filtered(asked)
            case "model_context_window_exceeded":
                raise too_long(asked, answer.stop_reason)
        text = "".join(block.text for block in answer.output.message.content)
        if not text:
            raise unreadable(asked)
        return Completion(text, self._settings.model, answer.usage.input_tokens, answer.usage.output_tokens)
