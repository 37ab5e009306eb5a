"""kubewhy backends: the language models that may be asked for better words."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from explainer.backends import make
from explainer.backends.settings import BackendSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.keys import Key, forget, keep
from kubewhy.plain import clean
from kubewhy.runtime.backends import TYPES, Kept, changing, load, place, settings_of, write

HELLO = Prompt(
    system="You are being tried out. Answer in JSON.",
    user='Answer {"ready": true} and nothing else.',
    schema={
        "type": "object",
        "properties": {"ready": {"type": "boolean"}},
        "required": ["ready"],
        "additionalProperties": False,
    },
    max_tokens=200,
)

FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=lambda: place(os.environ),
    metavar="FILE",
    help="Where they are kept.  [default: kubewhy/backends.yaml in your configuration folder]",
)
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


def _complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        kept = load(context.params.get("path") or place(os.environ))
    except ConfigError:
        return []
    return [CompletionItem(each.called) for each in kept.backends if each.called.startswith(incomplete)]


NAME: Callable[..., Any] = click.argument("name", shell_complete=_complete_names)
MAYBE_NAME: Callable[..., Any] = click.argument("name", required=False, shell_complete=_complete_names)


@click.group("backends", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Keep the language models that may be asked for better words.

    What is kept says where their keys are, and never holds one.
    """


@command.command("add", short_help="Keep one more.")
@click.argument("type", metavar="TYPE", type=click.Choice(TYPES))
@FILE
@click.option("--name", default="", help="What to call it.  [default: its type]")
@click.option("--model", help="Which model to ask; for azure, the deployment.")
@click.option("--url", help="Another address than the vendor's own.")
@click.option("--key-env", metavar="VARIABLE", help="The environment variable that holds the key.")
@click.option("--key-file", metavar="FILE", type=click.Path(path_type=Path), help="The file that holds the key.")
@click.option(
    "--key-keyring", is_flag=True, help="Ask for the key, or read it from stdin, and put it into the keyring."
)
@click.option("--set", "more", multiple=True, metavar="KEY=VALUE", help="Any other setting; may be repeated.")
@click.option("--replace", is_flag=True, help="Put it in place of one of the same name.")
def add_command(type: str, path: Path, name: str, replace: bool, key_keyring: bool, **options: Any) -> None:
    """Keep one more. The first that is added becomes the default. TYPE is one of:

    anthropic, azure, bedrock, cohere, gemini, groq, huggingface, litellm, localai, oci, ollama, openai, rest, rules,
    sagemaker, vertex, vllm, watsonx. docs/backends.md has an example of each.

    \b
    kubewhy backends add openai --model gpt-5-mini --key-env OPENAI_API_KEY
    kubewhy backends add bedrock --model eu.amazon.nova-lite-v1:0 --set region=eu-central-1
    kubewhy backends add ollama --model llama3.1
    """
    settings = settings_of(_told(type, name, key_keyring, **options))
    secret = _secret() if key_keyring else None
    with changing(path):
        before = load(path)
        kept = before.with_one(settings, replace=replace)
        if secret:
            keep(settings.called, secret)
        write(path, kept)
        _forget_unused(before, kept)
    click.echo(settings.called)


@command.command("list")
@FILE
@OUTPUT
def list_command(path: Path, output: str) -> None:
    """List what is kept."""
    kept = load(path)
    if output == "json":
        click.echo(json.dumps([_shown(each, kept) for each in kept.backends], indent=2))
        return
    Console().print(table(kept))


@command.command("test", short_help="Send one tiny prompt to one.")
@MAYBE_NAME
@FILE
@OUTPUT
def test_command(name: str | None, path: Path, output: str) -> None:
    """Send one tiny prompt, to NAME or the default: say which model answers, its tokens, and how long it took."""
    kept = load(path)
    name = name or _default(kept)
    settings = kept.named(name)
    begun = time.perf_counter()
    told = asyncio.run(_ask(settings))
    took = time.perf_counter() - begun
    if output == "json":
        answer = {"name": name, "model": told.model, "seconds": round(took, 3)}
        click.echo(json.dumps({**answer, "input_tokens": told.input_tokens, "output_tokens": told.output_tokens}))
        return
    tokens = f"{told.input_tokens} tokens in, {told.output_tokens} out" if told.output_tokens else "tokens not told"
    click.echo(f"{name}: {clean(told.model)} answers ({tokens}, {took:.1f} s)")


@command.command("remove", short_help="Keep one less.")
@NAME
@FILE
def remove_command(name: str, path: Path) -> None:
    """Keep one less, and take its key out of the keyring, where that is."""
    with changing(path):
        before = load(path)
        kept = before.without(name)
        write(path, kept)
        _forget_unused(before, kept)


@command.command("default", short_help="Say, or change, which is asked.")
@MAYBE_NAME
@FILE
def default_command(name: str | None, path: Path) -> None:
    """Say which is asked where nobody says which; with NAME, make it that."""
    if name is None:
        click.echo(_default(load(path)))
        return
    with changing(path):
        kept = load(path)
        kept.named(name)
        write(path, Kept(default=name, backends=kept.backends))


def _default(kept: Kept) -> str:
    if kept.default:
        return kept.default
    if kept.backends:
        raise ConfigError("no backend is the default: kubewhy backends default NAME")
    raise ConfigError("there is no backend yet: kubewhy backends add")


def table(kept: Kept) -> Table | Text:
    """One line a backend. Pure."""
    if not kept.backends:
        return Text("There is no backend yet: kubewhy backends add")
    shown = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in ("NAME", "TYPE", "MODEL", "ADDRESS", "KEY"):
        shown.add_column(heading, overflow="fold")
    for each in kept.backends:
        name = f"{each.called} (default)" if each.called == kept.default else each.called
        model = getattr(each, "model", getattr(each, "endpoint", "-"))
        key = getattr(each, "key_place", getattr(each, "key", None))
        address = getattr(each, "address", each.url)
        row = (name, each.type, model, str(address or "-"), str(key or "-"))
        shown.add_row(*(Text(clean(cell)) for cell in row))
    return shown


def _shown(settings: BackendSettings, kept: Kept) -> dict[str, Any]:
    told: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    return {**told, "name": settings.called, "default": settings.called == kept.default}


def _told(
    type: str,
    name: str,
    in_keyring: bool,
    *,
    model: str | None,
    url: str | None,
    key_env: str | None,
    key_file: Path | None,
    more: tuple[str, ...],
) -> dict[str, Any]:
    """The settings as a file would have them."""
    places = {"env": key_env, "file": key_file, "keyring": (name or type) if in_keyring else None}
    given = {place: told for place, told in places.items() if told is not None}
    if len(given) > 1:
        raise click.UsageError("give one of --key-env, --key-file and --key-keyring")
    settings: dict[str, Any] = {}
    for each in more:
        key, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter("write KEY=VALUE", param_hint="--set")
        if key in ("key", "name", "type"):
            raise click.BadParameter(f"{key} has an option of its own", param_hint="--set")
        settings[key] = value
    told = {"type": type, "name": name or None, "model": model, "url": url, "key": given or None}
    return {key: value for key, value in told.items() if value is not None} | settings


def _forget_unused(before: Kept, kept: Kept) -> None:
    for entry in _in_keyring(before) - _in_keyring(kept):
        forget(entry)


def _in_keyring(kept: Kept) -> set[str]:
    keys = (getattr(each, "key", None) for each in kept.backends)
    return {key.keyring for key in keys if isinstance(key, Key) and key.keyring}


def _secret() -> SecretStr:
    if sys.stdin.isatty():
        told = click.prompt("Key", hide_input=True, err=True)
    else:
        told = sys.stdin.readline()
    if not told.strip():
        raise ConfigError("no key was given: type it in, or write it to stdin")
    return SecretStr(told.strip())


async def _ask(settings: BackendSettings) -> Completion:
    backend = make(settings, os.environ)
    try:
        return await backend.complete(HELLO)
    except (RetryLater, Rejected) as error:
        raise ConfigError(str(error)) from None
    finally:
        await backend.close()
