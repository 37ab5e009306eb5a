"""A SageMaker endpoint: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html."""

import json
from collections.abc import Mapping
from typing import Any

from explainer.backends.settings import SageMakerSettings
from tests.models.bedrock import AWS_KEYS, REFUSALS, aws_error
from tests.models.far import MODEL, Asked, Ending, Reply, Trouble
from tests.models.openai import chat


def model_error(status: int, message: str) -> Reply:
    """What the container itself refused."""
    told = {"Message": "Received error from primary", "OriginalStatusCode": status, "OriginalMessage": message}
    return Reply(424, json.dumps(told).encode(), {"x-amzn-errortype": "ModelError"})


REFUSED = {
    Trouble.UNKNOWN_MODEL: aws_error(400, "ValidationError", f"Endpoint {MODEL} of account 111122223333 not found."),
    Trouble.WRONG_KEY: REFUSALS[Trouble.WRONG_KEY],
    Trouble.EXPIRED: REFUSALS[Trouble.EXPIRED],
    Trouble.WRONG_REGION: REFUSALS[Trouble.WRONG_REGION],
    Trouble.THROTTLED: REFUSALS[Trouble.THROTTLED],
    Trouble.OVERLOADED: model_error(500, "CUDA out of memory"),
    Trouble.TOO_LONG: model_error(
        422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096; inputs exceed the limit"
    ),
}


class SageMaker:
    name = "sagemaker"

    def settings(self, url: str, **more: Any) -> SageMakerSettings:
        told = {"type": "sagemaker", "url": url, "endpoint": MODEL, "region": "eu-central-1"} | more
        return SageMakerSettings.model_validate(told)

    def environ(self) -> Mapping[str, str]:
        return AWS_KEYS

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of(chat(text, ending))

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSED.get(trouble)

    def aside(self, asked: Asked) -> Reply | None:
        return None

    def schema(self, asked: Asked) -> object:
        return asked.json.get("response_format")
