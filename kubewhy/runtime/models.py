"""From the settings to what asks models; and the key by which names are masked."""

import os
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

from explainer.backends import make
from explainer.backends.settings import BackendSettings
from explainer.cache import Answers
from kubewhy.buckets import BucketSettings
from kubewhy.contracts import AnswerCache, Backend, Completion, Prompt
from kubewhy.errors import ConfigError
from kubewhy.keys import Key, read
from kubewhy.runtime.choosing import Budget, Choice, Price
from kubewhy.runtime.explaining import Explainer
from kubewhy.runtime.telemetry.notes import Notes
from kubewhy.settings import ExplainSettings

SHORTEST_SECRET = 16


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where what can be lost is kept."""
    return Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/tmp"), ".cache")) / "kubewhy"


class Late:
    """A backend whose key or library may be missing now, and there later: what watches must not end for that."""

    structured = False

    def __init__(self, settings: BackendSettings, environ: Mapping[str, str]) -> None:
        self._settings, self._environ = settings, environ
        self._backend: Backend | None = None
        self.name = settings.called

    def make(self) -> Backend:
        """Raises ConfigError where it is missing."""
        self._backend = self._backend or make(self._settings, self._environ)
        return self._backend

    async def complete(self, prompt: Prompt) -> Completion:
        return await self.make().complete(prompt)

    async def close(self) -> None:
        if self._backend:
            await self._backend.close()


def explainer(
    settings: ExplainSettings,
    clock: Callable[[], datetime],
    environ: Mapping[str, str],
    *,
    masked: bool = True,
    notes: Notes | None = None,
) -> Explainer:
    """A key or a library that is missing is told at once; the others are asked meanwhile."""
    folder = cache_folder(environ)
    return Explainer(
        choices=[_choice(each, settings, environ) for each in settings.backends],
        clock=clock,
        key=shared_key(settings.masking_key, environ) if settings.masking_key else masking_key(folder / "masking.key"),
        language=settings.language,
        cache=_cache(settings.cache, environ, clock),
        budget=Budget(settings.daily_tokens, settings.daily_dollars),
        masked=masked,
        notes=notes or Notes(),
    )


def answers(environ: Mapping[str, str], clock: Callable[[], datetime]) -> Answers:
    """The cache of this user."""
    return Answers(cache_folder(environ) / "answers.sqlite", clock)


def _choice(told: BackendSettings, settings: ExplainSettings, environ: Mapping[str, str]) -> Choice:
    price = settings.prices.get(told.called)
    model = getattr(told, "model", "") or getattr(told, "endpoint", "")
    late = Late(told, environ)
    choice = Choice(late, model, Price(price.input, price.output) if price else None)
    try:
        late.make()
    except ConfigError as error:
        choice.complain(error)
    return choice


def _cache(
    told: bool | BucketSettings, environ: Mapping[str, str], clock: Callable[[], datetime]
) -> AnswerCache | None:
    if isinstance(told, bool):
        return answers(environ, clock) if told else None
    try:
        from explainer.cache_s3 import SharedAnswers
    except ImportError as error:
        raise ConfigError(
            f"explain.cache: needs a package that is not there ({error.name}): pip install 'kubewhy[s3]'"
        ) from None
    try:
        return SharedAnswers(told, clock)
    except ConfigError as error:
        raise ConfigError(f"explain.cache: {error}") from None


def shared_key(place: Key, environ: Mapping[str, str]) -> bytes:
    """The same wherever the same secret is."""
    try:
        secret = read(place, environ).get_secret_value()
    except ConfigError as error:
        raise ConfigError(f"explain.masking_key: {error}") from None
    if len(secret) < SHORTEST_SECRET:
        raise ConfigError(
            f"explain.masking_key: {place} is too short to keep names secret: put {SHORTEST_SECRET} characters or more "
            "there, as of `openssl rand -hex 32`"
        )
    return blake2b(secret.encode(), digest_size=32, person=b"kubewhy masking").digest()


def masking_key(path: Path) -> bytes:
    """The same at every start, so that the same name has the same placeholder and answers are found again.

    Where it cannot be kept, it is new each time.
    """
    try:
        return _kept(path)
    except OSError:
        return secrets.token_bytes(32)


def _kept(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != 32:
            raise ConfigError(f"{path}: is no key for masking; remove it, and a new one is made") from None
        return key
    with os.fdopen(handle, "wb") as file:
        key = secrets.token_bytes(32)
        file.write(key)
    return key
