"""Bedrock's Converse, as https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html has it."""

import json
from collections.abc import Mapping
from typing import Any

from explainer.backends.settings import BedrockSettings
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

ENDINGS = {Ending.WHOLE: "end_turn", Ending.CUT: "max_tokens", Ending.FILTERED: "guardrail_intervened"}


def aws_error(status: int, code: str, message: str, **headers: str) -> Reply:
    """The body of a refusal, as all of AWS's JSON services have it."""
    return Reply.of({"message": message}, status, x_amzn_errortype=code, **headers)


REFUSALS = {
    Trouble.UNKNOWN_MODEL: aws_error(400, "ValidationException", "The provided model identifier is invalid."),
    Trouble.WRONG_KEY: aws_error(
        403, "UnrecognizedClientException", f"The security token {SECRET} included in the request is invalid."
    ),
    Trouble.EXPIRED: aws_error(403, "ExpiredTokenException", f"The security token {SECRET} in the request is expired"),
    Trouble.WRONG_REGION: aws_error(
        403, "AccessDeniedException", "You don't have access to the model with the specified model ID."
    ),
    Trouble.THROTTLED: aws_error(
        429, "ThrottlingException", "Too many requests, please wait", retry_after=str(RETRY_AFTER)
    ),
    Trouble.OVERLOADED: aws_error(503, "ServiceUnavailableException", "The service is not able to process it"),
    Trouble.TOO_LONG: aws_error(400, "ValidationException", "Input is too long for requested model."),
}
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "AWS_SECRET_ACCESS_KEY": SECRET}


def converse(text: str, ending: Ending = Ending.WHOLE) -> dict[str, Any]:
    """The body of a good answer."""
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": ENDINGS[ending],
        "usage": {
            "inputTokens": INPUT_TOKENS,
            "outputTokens": OUTPUT_TOKENS,
            "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
        "metrics": {"latencyMs": 1},
    }


class Bedrock:
    name = "bedrock"

    def settings(self, url: str, **more: Any) -> BedrockSettings:
        told = {"type": "bedrock", "url": url, "model": MODEL, "region": "eu-central-1"} | more
        return BedrockSettings.model_validate(told)

    def environ(self) -> Mapping[str, str]:
        return AWS_KEYS

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of(converse(text, ending))

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSALS.get(trouble)

    def aside(self, asked: Asked) -> Reply | None:
        return None

    def schema(self, asked: Asked) -> object:
        config = asked.json.get("outputConfig")
        return config and json.loads(config["textFormat"]["structure"]["jsonSchema"]["schema"])
