"""IBM watsonx.ai in IBM Cloud: its chat, and the tokens that an API key is exchanged for."""

import asyncio
import time
from typing import Any

import httpx2
from pydantic import SecretStr

from explainer.backends.chat import completion, messages, schema
from explainer.backends.http import connect, decoded, post
from explainer.backends.refusals import Asked, not_accepted, refusal
from explainer.backends.settings import WatsonxSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable
from kubewhy.http import within

VERSION = "2025-02-06"  # the day whose API is meant
GRANT = "urn:ibm:params:oauth:grant-type:apikey"
RENEW_SECONDS = 120.0  # so long before its end a token is not used any more


class WatsonxBackend:
    def __init__(self, settings: WatsonxSettings, key: SecretStr) -> None:
        self.name = settings.called
        self.structured = settings.structured
        self._settings = settings
        self._key = key
        self._asked = Asked(self.name, settings.model, settings.url, str(settings.key))
        self._http = connect(self._asked, settings.timeout_seconds, settings.ca_file, self._sign)
        self._iam = connect(self._asked, settings.timeout_seconds, settings.ca_file)
        self._renewing = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    async def complete(self, prompt: Prompt) -> Completion:
        return await within(self._asked, self._settings.timeout_seconds, self._ask(prompt))

    async def close(self) -> None:
        await self._http.aclose()
        await self._iam.aclose()

    async def _ask(self, prompt: Prompt) -> Completion:
        settings = self._settings
        place = {"project_id": settings.project} if settings.project else {"space_id": settings.space}
        body: dict[str, Any] = {
            "model_id": settings.model,
            **place,
            "messages": messages(prompt),
            "max_tokens": settings.max_tokens or prompt.max_tokens,
        }
        if prompt.schema is not None and self.structured:
            body["response_format"] = schema(prompt)
        url = f"{settings.url}/ml/v1/text/chat?version={VERSION}"
        return completion(self._asked, await post(self._http, self._asked, url, body))

    async def _sign(self, request: httpx2.Request) -> None:
        async with self._renewing:
            if time.monotonic() > self._until:
                await self._renew()
        request.headers["authorization"] = f"Bearer {self._token}"

    async def _renew(self) -> None:
        form = {"grant_type": GRANT, "apikey": self._key.get_secret_value()}
        reply = await self._iam.post(f"{self._settings.iam_url}/identity/token", data=form)
        if reply.status_code in (400, 401, 403):
            raise not_accepted(self._asked, reply.status_code)
        if not reply.is_success:
            raise refusal(self._asked, reply.status_code, reply.content, reply.headers)
        match decoded(self._asked, reply):
            case {"access_token": str(token), "expires_in": int(seconds)} if token.isascii() and token.isprintable():
                self._token, self._until = token, time.monotonic() + seconds - RENEW_SECONDS
            case _:
                raise unreadable(self._asked)
