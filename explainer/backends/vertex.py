"""Google Vertex AI."""

import asyncio
from functools import partial
from typing import Any

import google.auth
import httpx2
import msgspec
from google import genai
from google.auth import exceptions as auth
from google.auth.transport.requests import Request
from google.genai import errors, types
from google.oauth2.credentials import Credentials
from google.oauth2.service_account import Credentials as Account

from explainer.backends.http import connect
from explainer.backends.refusals import Asked, cut_short, filtered, not_accepted, refusal
from explainer.backends.settings import VertexSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import no_tls, proxy_blocks, proxy_refuses, unreachable, unreadable, untrusted
from kubewhy.http import fault, within

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]

_FILTERED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "LANGUAGE"}


class _Part(msgspec.Struct, frozen=True):
    text: str | None = None
    thought: bool | None = None


class _Content(msgspec.Struct, frozen=True):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, frozen=True):
    content: _Content | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Feedback(msgspec.Struct, frozen=True):
    block_reason: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    model_version: str | None = None
    usage_metadata: _Usage | None = None


class VertexBackend:
    structured = True

    def __init__(self, settings: VertexSettings) -> None:
        self.name = settings.called
        self._settings = settings
        place = str(settings.credentials_file or "Google's default credentials")
        self._asked = Asked(self.name, settings.model, settings.url or f"Vertex AI in {settings.location}", place)
        self._http = connect(self._asked, settings.timeout_seconds, settings.ca_file, self._sign)
        self._credentials = self._found()
        self._renewing = asyncio.Lock()
        self._client = genai.Client(
            vertexai=True,
            project=settings.project,
            location=settings.location,
            credentials=Credentials(token="signed-elsewhere"),  # type: ignore[no-untyped-call]
            http_options=types.HttpOptions(
                base_url=settings.address,  # or the SDK would take it from the environment
                api_version="v1",
                httpx_async_client=self._http,
                timeout=int(settings.timeout_seconds * 1000),
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )

    async def complete(self, prompt: Prompt) -> Completion:
        return await within(self._asked, self._settings.timeout_seconds, self._ask(prompt))

    async def close(self) -> None:
        await self._http.aclose()

    def _found(self) -> Any:
        file = self._settings.credentials_file
        try:
            if file:
                return Account.from_service_account_file(str(file.expanduser()), scopes=SCOPES)  # type: ignore[no-untyped-call]
            found, _ = google.auth.default(scopes=SCOPES)
        except (auth.GoogleAuthError, OSError, ValueError) as error:
            raise self._asked.config(
                f"{self._asked.key}: no credentials can be read ({type(error).__name__}): "
                "write `credentials_file`, or sign in with gcloud auth application-default login"
            ) from None
        return found

    async def _sign(self, request: httpx2.Request) -> None:
        async with self._renewing:
            if not self._credentials.valid:
                await asyncio.to_thread(self._renew)
        request.headers["authorization"] = f"Bearer {self._credentials.token}"

    def _renew(self) -> None:
        request: Any = partial(Request(), timeout=self._settings.timeout_seconds)
        if self._settings.ca_file:
            # For each call, because what the environment names would come before the session's own.
            request = partial(request, verify=str(self._settings.ca_file.expanduser()))
        try:
            self._credentials.refresh(request)
        except auth.TransportError as error:
            raise self._cut_off(str(error)) from None
        except auth.GoogleAuthError as error:
            if error.retryable:
                raise self._asked.later(f"no token is given for {self._asked.key} at this time") from None
            raise not_accepted(self._asked, "no token is given for it") from None

    def _cut_off(self, said: str) -> Exception:
        """Why whoever gives tokens cannot be asked: the library says it in words only."""
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return untrusted(self._asked)
        if "SSLError" in said:
            return no_tls(self._asked)
        if "failed: 407" in said:
            return proxy_refuses(self._asked)
        return proxy_blocks(self._asked) if "ProxyError" in said else unreachable(self._asked)

    async def _ask(self, prompt: Prompt) -> Completion:
        wanted: dict[str, Any] = {}
        if prompt.schema is not None:
            wanted = {"response_mime_type": "application/json", "response_json_schema": dict(prompt.schema)}
        config = types.GenerateContentConfig(
            system_instruction=prompt.system,
            max_output_tokens=self._settings.max_tokens or prompt.max_tokens,
            **wanted,
        )
        try:
            answer = await self._client.aio.models.generate_content(
                model=self._settings.model, contents=prompt.user, config=config
            )
            return self._read(answer.model_dump(mode="json", warnings=False))
        except errors.APIError as error:
            reply: Any = error.response
            raise refusal(self._asked, error.code, str(error.details).encode(), getattr(reply, "headers", {})) from None
        except errors.UnknownApiResponseError as error:
            raise unreadable(self._asked) from error.__cause__
        except httpx2.HTTPError as error:
            raise fault(self._asked, error) from None
        except (AttributeError, LookupError, TypeError, ValueError):
            # The SDK takes it for granted that an answer has the right form.
            raise unreadable(self._asked) from None

    def _read(self, told: object) -> Completion:
        answer = msgspec.convert(told, _Answer)
        if answer.prompt_feedback and answer.prompt_feedback.block_reason:
            raise filtered(self._asked)
        if not answer.candidates:
            raise unreadable(self._asked)
        candidate = answer.candidates[0]
        if candidate.finish_reason == "MAX_TOKENS":
            raise cut_short(self._asked)
        if candidate.finish_reason in _FILTERED:
            raise filtered(self._asked)
        parts = (candidate.content and candidate.content.parts) or []
        text = "".join(part.text or "" for part in parts if not part.thought)
        if not text:
            raise unreadable(self._asked)
        usage = answer.usage_metadata or _Usage()
        output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        return Completion(text, answer.model_version or self._asked.model, usage.prompt_token_count or 0, output)
