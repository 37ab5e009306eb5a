"""A service of one's own, by a small JSON format: docs/backends.md has it."""

import httpx2
from pydantic import SecretStr

from explainer.backends.http import connect, post
from explainer.backends.refusals import Asked
from explainer.backends.settings import RestSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable
from kubewhy.http import within


class RestBackend:
    structured = False

    def __init__(self, settings: RestSettings, key: SecretStr | None) -> None:
        self.name = settings.called
        self._settings = settings
        self._asked = Asked(self.name, settings.model, settings.url, str(settings.key or ""))

        async def sign(request: httpx2.Request) -> None:
            if key:
                request.headers["authorization"] = f"Bearer {key.get_secret_value()}"

        self._http = connect(self._asked, settings.timeout_seconds, settings.ca_file, sign)

    async def complete(self, prompt: Prompt) -> Completion:
        return await within(self._asked, self._settings.timeout_seconds, self._ask(prompt))

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, prompt: Prompt) -> Completion:
        settings = self._settings
        body = {
            "model": settings.model,
            "prompt": f"{prompt.system}\n\n{prompt.user}",
            "options": {
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "top_k": settings.top_k,
                "max_tokens": settings.max_tokens or prompt.max_tokens,
                "message": prompt.user,
                "language": settings.language,
            },
        }
        told = await post(self._http, self._asked, settings.url, body)
        match told:
            case {"response": str(text)} if text:
                model = told.get("model")
                return Completion(text, model if isinstance(model, str) and model else settings.model, 0, 0)
        raise unreadable(self._asked)
