"""Vertex AI's generateContent, and the tokens of service accounts.

https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/projects.locations.publishers.models/generateContent
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explainer.backends.settings import VertexSettings
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
from tests.models.tls import pem

ENDINGS = {Ending.WHOLE: "STOP", Ending.CUT: "MAX_TOKENS", Ending.FILTERED: "SAFETY"}


def error(status: int, name: str, message: str, **headers: str) -> Reply:
    return Reply.of({"error": {"code": status, "message": message, "status": name}}, status, **headers)


REFUSALS = {
    Trouble.UNKNOWN_MODEL: error(404, "NOT_FOUND", f"Publisher Model `{MODEL}` was not found"),
    Trouble.WRONG_KEY: error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    Trouble.WRONG_REGION: error(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied"),
    Trouble.THROTTLED: error(429, "RESOURCE_EXHAUSTED", "Resource exhausted.", retry_after=str(RETRY_AFTER)),
    Trouble.OVERLOADED: error(503, "UNAVAILABLE", "The model is overloaded."),
    Trouble.TOO_LONG: error(
        400, "INVALID_ARGUMENT", "The input token count (1048577) exceeds the maximum number of tokens allowed"
    ),
}


class Vertex:
    name = "vertex"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def settings(self, url: str, **more: Any) -> VertexSettings:
        account = {
            "type": "service_account",
            "project_id": "shop",
            "private_key_id": "1",
            "private_key": pem().decode(),
            "client_email": "kubewhy@shop.example",
            "client_id": "1",
            "token_uri": f"{url}/token",
        }
        file = self._folder / "account.json"
        file.write_text(json.dumps(account))
        told = {"type": "vertex", "url": url, "model": MODEL, "project": "shop", "location": "europe-west4"}
        return VertexSettings.model_validate(told | {"credentials_file": file} | more)

    def environ(self) -> Mapping[str, str]:
        return {}

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of(
            {
                "candidates": [
                    {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": ENDINGS[ending]}
                ],
                "usageMetadata": {
                    "promptTokenCount": INPUT_TOKENS,
                    "candidatesTokenCount": OUTPUT_TOKENS,
                    "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
                },
                "modelVersion": MODEL,
            }
        )

    def refusal(self, trouble: Trouble) -> Reply | None:
        if trouble is Trouble.FILTERED:
            return Reply.of({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
        return REFUSALS.get(trouble)

    def aside(self, asked: Asked) -> Reply | None:
        if asked.path != "/token":
            return None
        return Reply.of({"access_token": SECRET, "expires_in": 3600, "token_type": "Bearer"})

    def schema(self, asked: Asked) -> object:
        return asked.json.get("generationConfig", {}).get("responseJsonSchema")
