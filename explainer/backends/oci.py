"""Oracle's Generative AI, in its generic chat format.

Requests are signed as https://docs.oracle.com/iaas/Content/API/Concepts/signingrequests.htm has it.
"""

import base64
import hashlib
from configparser import ConfigParser
from configparser import Error as NoIni
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from explainer.backends.http import connect, post
from explainer.backends.refusals import Asked, cut_short, filtered
from explainer.backends.settings import OciSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable
from kubewhy.http import within

_SIGNED = ("date", "(request-target)", "host", "content-length", "content-type", "x-content-sha256")


class _Part(msgspec.Struct, frozen=True):
    text: str = ""


class _Message(msgspec.Struct, frozen=True):
    content: list[_Part] | None = None


class _Choice(msgspec.Struct, frozen=True, rename="camel"):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chat(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage = _Usage()


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    chat_response: _Chat
    model_id: str | None = None


class OciBackend:
    def __init__(self, settings: OciSettings) -> None:
        self.name = settings.called
        self.structured = settings.structured
        self._settings = settings
        place = f"profile {settings.profile} of {settings.config_file}"
        self._asked = Asked(self.name, settings.model, "Generative AI", place)
        profile = self._profile()
        region = settings.region or profile.get("region", "")
        if not region and not settings.url:
            raise self._asked.config(f"{place} has no region: write `region`")
        self._url = settings.url or f"https://inference.generativeai.{region}.oci.oraclecloud.com"
        self._asked = Asked(self.name, settings.model, self._url, place)
        self._key, self._key_id = self._signer(profile)
        self._http = connect(self._asked, settings.timeout_seconds, settings.ca_file, self._sign)

    async def complete(self, prompt: Prompt) -> Completion:
        return await within(self._asked, self._settings.timeout_seconds, self._ask(prompt))

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, prompt: Prompt) -> Completion:
        model = self._settings.model
        own = model.startswith("ocid1.generativeaiendpoint.")
        chat: dict[str, Any] = {
            "apiFormat": "GENERIC",
            "messages": [
                {"role": "SYSTEM", "content": [{"type": "TEXT", "text": prompt.system}]},
                {"role": "USER", "content": [{"type": "TEXT", "text": prompt.user}]},
            ],
            "maxTokens": self._settings.max_tokens or prompt.max_tokens,
        }
        if prompt.schema is not None and self.structured:
            schema = {"name": "answer", "schema": prompt.schema, "isStrict": True}
            chat["responseFormat"] = {"type": "JSON_SCHEMA", "jsonSchema": schema}
        body = {
            "compartmentId": self._settings.compartment,
            "servingMode": {"servingType": "DEDICATED", "endpointId": model}
            if own
            else {"servingType": "ON_DEMAND", "modelId": model},
            "chatRequest": chat,
        }
        return self._read(await post(self._http, self._asked, f"{self._url}/20231130/actions/chat", body))

    def _read(self, told: object) -> Completion:
        try:
            answer = msgspec.convert(told, _Answer)
        except msgspec.ValidationError:
            raise unreadable(self._asked) from None
        chat = answer.chat_response
        if not chat.choices:
            raise unreadable(self._asked)
        choice = chat.choices[0]
        match (choice.finish_reason or "").lower():
            case "length" | "max_tokens":
                raise cut_short(self._asked)
            case "content_filter":
                raise filtered(self._asked)
        text = "".join(part.text for part in choice.message.content or [])
        if not text:
            raise unreadable(self._asked)
        model = answer.model_id or self._asked.model
        return Completion(text, model, chat.usage.prompt_tokens, chat.usage.completion_tokens)

    def _profile(self) -> dict[str, str]:
        file, name = self._settings.config_file.expanduser(), self._settings.profile
        parser = ConfigParser(interpolation=None)
        try:
            parser.read_string(file.read_text(encoding="utf-8"))
            return dict(parser[name])
        except OSError as error:
            raise self._asked.config(f"{file}: cannot be read ({error.strerror}): check `config_file`") from None
        except (NoIni, UnicodeDecodeError):
            raise self._asked.config(f"{file}: not in OCI's format: mend it, or check `config_file`") from None
        except KeyError:
            raise self._asked.config(f"{file}: there is no profile {name}: check `profile`") from None

    def _signer(self, profile: dict[str, str]) -> tuple[RSAPrivateKey, str]:
        """The private key, and what the far side knows it by."""
        try:
            key = load_pem_private_key(Path(profile["key_file"]).expanduser().read_bytes(), None)
            if token := profile.get("security_token_file"):
                known = "ST$" + Path(token).expanduser().read_text(encoding="ascii").strip()
            else:
                known = "/".join(profile[name] for name in ("tenancy", "user", "fingerprint"))
        except KeyError as error:
            raise self._asked.config(f"{self._asked.key} has no {error.args[0]}: add it") from None
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            raise self._asked.config(
                f"the key_file of {self._asked.key} cannot be read: it must be an RSA key in PEM, without a passphrase"
            ) from None
        if not isinstance(key, RSAPrivateKey):
            raise self._asked.config(f"the key_file of {self._asked.key} holds no RSA key: name another")
        return key, known

    async def _sign(self, request: httpx2.Request) -> None:
        headers = request.headers
        headers["date"] = formatdate(usegmt=True)
        headers["x-content-sha256"] = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
        target = f"{request.method.lower()} {request.url.raw_path.decode()}"
        lines = [f"{name}: {target if name == '(request-target)' else headers[name]}" for name in _SIGNED]
        signature = base64.b64encode(self._key.sign("\n".join(lines).encode(), PKCS1v15(), SHA256())).decode()
        headers["authorization"] = (
            f'Signature version="1",keyId="{self._key_id}",algorithm="rsa-sha256",'
            f'headers="{" ".join(_SIGNED)}",signature="{signature}"'
        )
