"""What the commands that ask models have in common: their options, what is asked, and how it goes."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from kubewhy.cli.line import Line
from kubewhy.errors import ConfigError

if TYPE_CHECKING:
    from explainer.backends.settings import BackendSettings
    from explainer.wanting import Wanted
    from kubewhy.records import Explanation, Ref
    from kubewhy.runtime.explaining import Explainer

LANGUAGE = r"^[^\W\d_][\w ()-]{1,39}$"


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


async def explained(wanted: "Sequence[Wanted]", asking: Asking, backend: "BackendSettings") -> "dict[Ref, Explanation]":
    """What that backend says of these, by their roots. On a terminal a line says how far it is."""
    from kubewhy.runtime.asking import explain
    from kubewhy.runtime.calls import Calls

    calls = Calls(explainer_of(asking, backend))
    try:
        with Line() as line:
            return await explain(
                wanted, calls, lambda done, of: line.say(f"{backend.called}: {done} of {of} incidents explained")
            )
    finally:
        await calls.close()


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
