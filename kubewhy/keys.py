"""Where a secret is found. Settings name the place, and never hold the secret itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, model_validator

from kubewhy.errors import ConfigError

KEYRING_SERVICE = "kubewhy"


class Key(BaseModel, extra="forbid", frozen=True):
    """One place: an environment variable, a file, or an entry of the system's keyring."""

    env: str | None = Field(default=None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    file: Path | None = None
    keyring: str | None = Field(default=None, min_length=1, max_length=253)

    @model_validator(mode="before")
    @classmethod
    def _a_place(cls, told: Any) -> Any:
        if isinstance(told, str):
            raise ValueError("tell where the secret is, not the secret: {env: NAME}, {file: PATH} or {keyring: NAME}")
        return told

    @model_validator(mode="after")
    def _one(self) -> "Key":
        if len(self.model_fields_set) != 1:
            raise ValueError("give one place: env, file or keyring")
        return self

    def __str__(self) -> str:
        if self.env:
            return f"environment variable {self.env}"
        return f"file {self.file}" if self.file else f"keyring entry {self.keyring}"


def read(key: Key, environ: Mapping[str, str]) -> SecretStr:
    """The secret, without the white space around it. Raises ConfigError where there is none."""
    if key.env:
        found = environ.get(key.env, "")
    elif key.file:
        found = _of_file(key.file)
    else:
        found = _of_keyring(key.keyring or "")
    found = found.strip()
    if not found:
        raise ConfigError(f"{key} is empty or not there: put the key into it")
    if not (found.isascii() and found.isprintable()):
        raise ConfigError(f"{key} holds more than a key: it must be one line without control or other odd characters")
    return SecretStr(found)


def _of_file(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"file {path}: cannot read the key ({error.strerror}): name another file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"file {path}: no text file: it must hold the key and nothing else") from None


def _of_keyring(name: str) -> str:
    keyring = _keyring()
    try:
        return keyring.get_password(KEYRING_SERVICE, name) or ""
    except keyring.errors.KeyringError as error:
        raise _no_keyring(error) from None


def keep(name: str, secret: SecretStr) -> None:
    """Puts a secret into the keyring."""
    keyring = _keyring()
    try:
        keyring.set_password(KEYRING_SERVICE, name, secret.get_secret_value())
    except keyring.errors.KeyringError as error:
        raise _no_keyring(error) from None


def forget(name: str) -> None:
    """Takes a secret out of the keyring, where it is there."""
    keyring = _keyring()
    try:
        keyring.delete_password(KEYRING_SERVICE, name)
    except keyring.errors.PasswordDeleteError:
        return
    except keyring.errors.KeyringError as error:
        raise _no_keyring(error) from None


def _keyring() -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise ConfigError(
            "the keyring needs a package that is not there: pip install 'kubewhy[keyring]', "
            "or keep the key in an environment variable or a file"
        ) from None
    return keyring


def _no_keyring(error: Exception) -> ConfigError:
    return ConfigError(
        f"the system's keyring cannot be used ({type(error).__name__}): unlock it, "
        "or keep the key in an environment variable or a file"
    )
