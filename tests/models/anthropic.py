"""Anthropic's Messages, as https://platform.claude.com/docs/en/api/messages has them."""

from collections.abc import Mapping
from typing import Any

from explainer.backends.settings import AnthropicSettings
from tests.models.far import (
    INPUT_TOKENS,
    MODEL,
    OUTPUT_TOKENS,
    RETRY_AFTER,
    SECRET,
    Asked,
    Ending,
    Reply,
    Trouble,
)

ENDINGS = {Ending.WHOLE: "end_turn", Ending.CUT: "max_tokens", Ending.FILTERED: "refusal"}


def error(status: int, type: str, message: str, **headers: str) -> Reply:
    told = {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}
    return Reply.of(told, status, **headers)


REFUSALS = {
    Trouble.UNKNOWN_MODEL: error(404, "not_found_error", f"model: {MODEL}"),
    Trouble.WRONG_KEY: error(401, "authentication_error", f"invalid x-api-key {SECRET}"),
    Trouble.EXPIRED: error(401, "authentication_error", f"OAuth token {SECRET} has expired."),
    Trouble.WRONG_REGION: error(403, "permission_error", "Your API key does not have permission to use the resource"),
    Trouble.SPENT: error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    Trouble.THROTTLED: error(429, "rate_limit_error", "This would exceed your limit", retry_after=str(RETRY_AFTER)),
    Trouble.OVERLOADED: error(529, "overloaded_error", "Overloaded"),
    Trouble.FILTERED: error(400, "invalid_request_error", "Output blocked by content filtering policy"),
    Trouble.TOO_LONG: error(400, "invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum"),
}


class Anthropic:
    name = "anthropic"

    def settings(self, url: str, **more: Any) -> AnthropicSettings:
        told = {"type": "anthropic", "url": url, "model": MODEL, "key": {"env": "PLANTED"}} | more
        return AnthropicSettings.model_validate(told)

    def environ(self) -> Mapping[str, str]:
        return {"PLANTED": SECRET}

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": MODEL,
                "content": [{"type": "text", "text": text}],
                "stop_reason": ENDINGS[ending],
                "stop_sequence": None,
                "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
            }
        )

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSALS[trouble]

    def aside(self, asked: Asked) -> Reply | None:
        return None

    def schema(self, asked: Asked) -> object:
        config = asked.json.get("output_config")
        return config and config["format"]["schema"]
