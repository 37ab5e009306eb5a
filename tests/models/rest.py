"""A service of one's own: docs/backends.md has its format."""

from collections.abc import Mapping
from typing import Any

from explainer.backends.settings import RestSettings
from tests.models.far import MODEL, RETRY_AFTER, SECRET, Asked, Ending, Reply, Trouble

REFUSALS = {
    Trouble.UNKNOWN_MODEL: Reply(404, b"no such model"),
    Trouble.WRONG_KEY: Reply(401, f"{SECRET} is wrong".encode()),
    Trouble.EXPIRED: Reply(401, b"token expired"),
    Trouble.WRONG_REGION: Reply(403, b"no"),
    Trouble.SPENT: Reply(402, b"pay"),
    Trouble.THROTTLED: Reply(429, b"slow down", {"retry-after": str(RETRY_AFTER)}),
    Trouble.OVERLOADED: Reply(503, b"busy"),
    Trouble.TOO_LONG: Reply(413, b"too long"),
    Trouble.FILTERED: Reply(422, b"content policy"),
}


class Rest:
    name = "rest"

    def settings(self, url: str, **more: Any) -> RestSettings:
        told = {"type": "rest", "url": f"{url}/complete", "model": MODEL, "key": {"env": "PLANTED"}} | more
        return RestSettings.model_validate(told)

    def environ(self) -> Mapping[str, str]:
        return {"PLANTED": SECRET}

    def answer(self, asked: Asked, text: str, ending: Ending = Ending.WHOLE) -> Reply:
        return Reply.of({"model": asked.json["model"], "created_at": "2026-01-01T00:00:00Z", "response": text})

    def refusal(self, trouble: Trouble) -> Reply | None:
        return REFUSALS[trouble]

    def aside(self, asked: Asked) -> Reply | None:
        return None

    def schema(self, asked: Asked) -> object:
        return None
