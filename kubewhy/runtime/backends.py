"""The language models of one user: one YAML file, which says where their keys are and never holds one."""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from explainer.backends.settings import BackendSettings
from kubewhy.errors import ConfigError
from kubewhy.faults import first
from kubewhy.spelling import hint

_SETTINGS: TypeAdapter[BackendSettings] = TypeAdapter(BackendSettings)
_MODELS: dict[str, type[BaseModel]] = {
    name: model
    for model in get_args(get_args(BackendSettings)[0])
    for name in get_args(model.model_fields["type"].annotation)
}
TYPES = tuple(sorted(_MODELS))


class Kept(BaseModel, extra="forbid", frozen=True):
    """`default` is asked where nobody says which."""

    default: str = ""
    backends: tuple[BackendSettings, ...] = ()

    def named(self, name: str) -> BackendSettings:
        """Raises ConfigError where there is none of that name."""
        for each in self.backends:
            if each.called == name:
                return each
        names = [each.called for each in self.backends]
        known = f"known: {', '.join(names)}" if names else "there is none yet: kubewhy backends add"
        raise ConfigError(f"there is no backend {name}{hint(name, names)} ({known})")

    def with_one(self, settings: BackendSettings, *, replace: bool) -> "Kept":
        """One more, or another in its place. The first becomes the default."""
        name = settings.called
        others = tuple(each for each in self.backends if each.called != name)
        if len(others) < len(self.backends) and not replace:
            raise ConfigError(f"there is a backend {name} already: give another --name, or --replace it")
        return Kept(default=self.default or name, backends=(*others, settings))

    def without(self, name: str) -> "Kept":
        """One less. Where it was the default, the first of the others becomes that."""
        gone = self.named(name)
        others = tuple(each for each in self.backends if each is not gone)
        default = self.default if self.default != name else next((each.called for each in others), "")
        return Kept(default=default, backends=others)


def place(environ: Mapping[str, str]) -> Path:
    """Where the file is: https://specifications.freedesktop.org/basedir-spec/latest/ has the rule."""
    told = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (told if told.is_absolute() else Path.home() / ".config") / "kubewhy" / "backends.yaml"


def settings_of(told: Mapping[str, Any]) -> BackendSettings:
    """One backend's settings. Raises ConfigError with the key and the remedy."""
    try:
        return _SETTINGS.validate_python(dict(told))
    except ValidationError as error:
        raise ConfigError(first(error, BackendSettings, "backend")) from None


def load(path: Path) -> Kept:
    """What is kept there; nothing, where there is no file yet."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Kept()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); mend that, or name another file") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise ConfigError(f"{path}: no YAML in UTF-8; mend or remove it") from None
    try:
        kept = Kept.model_validate({} if told is None else told)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first(error, Kept)}") from None
    names = [each.called for each in kept.backends]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{path}: there are two backends {twice}; give each a `name` of its own")
    if kept.default and kept.default not in names:
        raise ConfigError(f"{path}: default: there is no backend {kept.default}{hint(kept.default, names)}")
    return kept


def write(path: Path, kept: Kept) -> None:
    """All or nothing, readable by its owner alone."""
    told = kept.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    # A link to the file goes on leading to it.
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=".backends.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yaml.safe_dump(told, file, sort_keys=False, allow_unicode=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); mend that, or name another --file") from None
