"""What the commands that ask models have in common: their options, what is asked, and how it goes."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kubewhy.errors import ConfigError

if TYPE_CHECKING:
    from explainer.backends.settings import BackendSettings
    from kubewhy.runtime.explaining import Explainer

LANGUAGE = r"^[^\W\d_][\w ()-]{1,39}$"
_CLEAR = "\r\x1b[K"


@dataclass(frozen=True)
class Asking:
    """Which model is to be asked, and how. An empty backend is the default one."""

    backend: str = ""
    language: str = "English"
    cached: bool = True
    masked: bool = True

    @property
    def is_default(self) -> bool:
        return self == Asking()


def asking_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--backend`, `--language`, `--no-cache` and `--no-mask`, in one (asking: Asking)."""

    @click.option(
        "--backend",
        default="",
        metavar="NAME",
        shell_complete=_complete,
        help="Which model to ask, by its name in `kubewhy backends list`.  [default: the default one]",
    )
    @click.option("--language", default="English", show_default=True, callback=_language, help="What to answer in.")
    @click.option("--no-cache", is_flag=True, help="Ask again what was answered before, and keep no answer.")
    @click.option(
        "--no-mask", is_flag=True, help="Send names, hosts and addresses as they are; secrets are still masked."
    )
    @wraps(function)
    def command(*args: Any, backend: str, language: str, no_cache: bool, no_mask: bool, **options: Any) -> Any:
        asking = Asking(backend, language, cached=not no_cache, masked=not no_mask)
        return function(*args, asking=asking, **options)

    return command


def settings_of(asking: Asking) -> "BackendSettings":
    """Raises ConfigError where there is no such backend, or none at all."""
    from kubewhy.runtime.backends import load, place

    kept = load(place(os.environ))
    if name := asking.backend or kept.default:
        return kept.named(name)
    if kept.backends:
        raise ConfigError("no backend is the default: kubewhy backends default NAME, or give --backend NAME")
    raise ConfigError("there is no model to ask yet: keep one by `kubewhy backends add`, which --help explains")


def explainer_of(asking: Asking, backend: "BackendSettings | None") -> "Explainer":
    """What asks that backend; without one, it only says what would be asked."""
    # What asks models is large: nobody without one waits for it.
    from kubewhy.runtime.models import explainer
    from kubewhy.settings import ExplainSettings

    told = ExplainSettings(
        backends=(backend,) if backend else (), language=asking.language, cache=asking.cached and backend is not None
    )
    return explainer(told, lambda: datetime.now(UTC), os.environ, masked=asking.masked)


class Asked:
    """One line on a terminal that says how many incidents are explained, and is gone at the end; elsewhere nothing."""

    def __init__(self, name: str) -> None:
        self._shown, self._name = sys.stderr.isatty(), name

    def show(self, done: int, of: int) -> None:
        if self._shown:
            words = f"{self._name}: {done} of {of} incidents explained"
            click.echo(f"{_CLEAR}{words[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            click.echo(_CLEAR, nl=False, err=True)


def _language(context: click.Context, parameter: click.Parameter, told: str) -> str:
    if not re.fullmatch(LANGUAGE, told):
        raise click.BadParameter(f"{told!r} is no name of a language; write German, or Brazilian Portuguese")
    return told


def _complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from kubewhy.runtime.backends import load, place

    try:
        kept = load(place(os.environ))
    except ConfigError:
        return []
    return [CompletionItem(each.called) for each in kept.backends if each.called.startswith(begun)]
