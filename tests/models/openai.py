"""OpenAI's chat completions, as https://platform.openai.com/docs/api-reference/chat has them."""

from collections.abc import Mapping
from typing import Any

from explainer.backends.settings import OpenAISettings
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

ENDINGS = {Ending.WHOLE: "stop", Ending.CUT: "length", Ending.FILTERED: "content_filter"}


def chat(text: str, ending: Ending = Ending.WHOLE, model: str = MODEL) -> dict[str, Any]:
    """The body of a good answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": ENDINGS[ending],
            }
        ],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }


def error(status: int, code: str | None, message: str, type: str = "invalid_request_error", **headers: str) -> Reply:
    """The body of a refusal."""
    return Reply.of({"error": {"message": message, "type": type, "param": None, "code": code}}, status, **headers)


REFUSALS = {
    Trouble.UNKNOWN_MODEL: error(
        404, "model_not_found", f"The model `{MODEL}` does not exist or you do not have access to it."
    ),
    Trouble.WRONG_KEY: error(401, "invalid_api_key", f"Incorrect API key provided: {SECRET}."),
    Trouble.EXPIRED: error(401, "token_expired", f"Provided token {SECRET} is expired."),
    Trouble.WRONG_REGION: error(
        403, "unsupported_country_region_territory", "Country, region, or territory not supported", "request_forbidden"
    ),
    Trouble.SPENT: error(
        429, "insufficient_quota", "You exceeded your current quota, please check your plan", "insufficient_quota"
    ),
    Trouble.THROTTLED: error(
        429,
        "rate_limit_exceeded",
        "Rate limit reached. Add a payment method in billing.",
        "tokens",
        retry_after=str(RETRY_AFTER),
    ),
    Trouble.OVERLOADED: error(503, None, "The server is currently overloaded", "server_error"),
    Trouble.FILTERED: error(400, "content_filter", "The response was filtered due to the prompt triggering policy"),
    Trouble.TOO_LONG: error(
        400, "context_length_exceeded", "This model's maximum context length is 8192 tokens. Your messages have 9000."
    ),
}


class OpenAI:
    def __init__(self, type: str = "openai") -> None:
        self.name = type

    def settings(self, url: str, **more: Any) -> OpenAISettings:
        told = {"type": self.name, "url": f"{url}/v1", "model": MODEL, "key": {"env": "PLANTED"}} | more
        return OpenAISettings.model_validate(told)

    def environ(self) -> Mapping[str, str]:
        return {"PLANTED": SECRET}

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of(chat(text, ending))

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSALS[trouble]

    def aside(self, asked: Asked) -> Reply | None:
        return None

    def schema(self, asked: Asked) -> object:
        format = asked.json.get("response_format")
        return format and format["json_schema"]["schema"]
