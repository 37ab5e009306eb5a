"""OCI Generative AI's chat: https://docs.oracle.com/iaas/api/#/en/generative-ai-inference/20231130/ChatResult/Chat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explainer.backends.settings import OciSettings
from tests.models.far import (
    INPUT_TOKENS,
    MODEL,
    OUTPUT_TOKENS,
    RETRY_AFTER,
    Asked,
    Ending,
    Reply,
    Trouble,
)
from tests.models.tls import pem

ENDINGS = {Ending.WHOLE: "stop", Ending.CUT: "length", Ending.FILTERED: "content_filter"}


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    return Reply.of({"code": code, "message": message}, status, **headers)


REFUSALS = {
    Trouble.UNKNOWN_MODEL: error(404, "NotAuthorizedOrNotFound", f"Entity with key {MODEL} not found"),
    Trouble.WRONG_KEY: error(401, "NotAuthenticated", "The required information to complete authentication was wrong"),
    Trouble.EXPIRED: error(401, "NotAuthenticated", "The session token has expired"),
    Trouble.WRONG_REGION: error(403, "NotAllowed", "Tenant is not subscribed to this region"),
    Trouble.THROTTLED: error(429, "TooManyRequests", "Too many requests", retry_after=str(RETRY_AFTER)),
    Trouble.OVERLOADED: error(500, "InternalServerError", "Internal error"),
    Trouble.FILTERED: error(400, "InvalidParameter", "Inappropriate content detected by content moderation"),
    Trouble.TOO_LONG: error(
        400, "InvalidParameter", "total number of tokens in the prompt cannot exceed 4000: 9000 tokens"
    ),
}


class Oci:
    name = "oci"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def settings(self, url: str, **more: Any) -> OciSettings:
        key, config = self._folder / "oci.pem", self._folder / "oci.config"
        key.write_bytes(pem())
        config.write_text(
            "[DEFAULT]\nuser=ocid1.user.oc1..u\nfingerprint=20:3b\ntenancy=ocid1.tenancy.oc1..t\n"
            f"region=eu-frankfurt-1\nkey_file={key}\n"
        )
        told = {"type": "oci", "url": url, "model": MODEL, "compartment": "ocid1.compartment.oc1..c"}
        return OciSettings.model_validate(told | {"config_file": config} | more)

    def environ(self) -> Mapping[str, str]:
        return {}

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of(
            {
                "modelId": MODEL,
                "modelVersion": "1.0",
                "chatResponse": {
                    "apiFormat": "GENERIC",
                    "timeCreated": "2026-01-01T00:00:00Z",
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "ASSISTANT", "content": [{"type": "TEXT", "text": text}]},
                            "finishReason": ENDINGS[ending],
                        }
                    ],
                    "usage": {
                        "promptTokens": INPUT_TOKENS,
                        "completionTokens": OUTPUT_TOKENS,
                        "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
                    },
                },
            }
        )

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSALS.get(trouble)

    def aside(self, asked: Asked) -> Reply | None:
        return None

    def schema(self, asked: Asked) -> object:
        format = asked.json["chatRequest"].get("responseFormat")
        return format and format["jsonSchema"]["schema"]
