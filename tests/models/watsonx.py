"""watsonx.ai's chat, and IBM Cloud's tokens: https://cloud.ibm.com/apidocs/watsonx-ai and /iam-identity-token-api."""

from collections.abc import Mapping
from typing import Any

from explainer.backends.settings import WatsonxSettings
from tests.models.far import MODEL, RETRY_AFTER, SECRET, Asked, Ending, Reply, Trouble
from tests.models.openai import chat


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    told = {"errors": [{"code": code, "message": message}], "trace": "1", "status_code": status}
    return Reply.of(told, status, **headers)


REFUSALS = {
    Trouble.UNKNOWN_MODEL: error(404, "model_not_supported", f"Model '{MODEL}' is not supported"),
    Trouble.WRONG_KEY: error(401, "authentication_token_not_valid", f"Failed to authenticate {SECRET}"),
    Trouble.EXPIRED: error(401, "authentication_token_expired", "Failed to authenticate: the token has expired"),
    Trouble.WRONG_REGION: error(403, "token_quota_reached", "This project is not in this region"),
    Trouble.THROTTLED: error(429, "too_many_requests", "slow down", retry_after=str(RETRY_AFTER)),
    Trouble.OVERLOADED: error(500, "internal_error", "try again"),
    Trouble.TOO_LONG: error(
        400, "invalid_input_argument", "the number of input tokens 9000 cannot exceed the total tokens limit 8192"
    ),
}


class Watsonx:
    name = "watsonx"

    def settings(self, url: str, **more: Any) -> WatsonxSettings:
        told = {"type": "watsonx", "url": url, "iam_url": url, "model": MODEL, "project": "p-1"}
        return WatsonxSettings.model_validate(told | {"key": {"env": "PLANTED"}, "structured": True} | more)

    def environ(self) -> Mapping[str, str]:
        return {"PLANTED": SECRET}

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        told = chat(text, ending)
        told["model_id"] = told["model"]
        return Reply.of(told)

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSALS.get(trouble)

    def aside(self, asked: Asked) -> Reply | None:
        if asked.path != "/identity/token":
            return None
        return Reply.of({"access_token": f"token-for-{SECRET}", "token_type": "Bearer", "expires_in": 3600})

    def schema(self, asked: Asked) -> object:
        format = asked.json.get("response_format")
        return format and format["json_schema"]["schema"]
