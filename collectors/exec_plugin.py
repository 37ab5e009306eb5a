"""Runs the program that a kubeconfig names for getting credentials, as kubectl does.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from collectors.answers import Unauthorized
from kubewhy.errors import ConfigError

_API = "client.authentication.k8s.io/"
# What could be a token or a key: nothing that long is a word.
_SECRET = re.compile(r"[A-Za-z0-9+/_=.~-]{40,}")


class Variable(msgspec.Struct, frozen=True):
    name: str
    value: str


class Plugin(msgspec.Struct, frozen=True, rename="camel"):
    """The `exec` section of a user."""

    command: str
    api_version: str = f"{_API}v1"
    args: tuple[str, ...] | None = None
    env: tuple[Variable, ...] | None = None
    install_hint: str = ""
    interactive_mode: str = "IfAvailable"
    provide_cluster_info: bool = False


class Credential(msgspec.Struct, frozen=True, rename="camel"):
    """What the program says. Never logged: all of it is secret."""

    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    status: Credential


async def run(plugin: Plugin, folder: Path, cluster: Mapping[str, Any], limit: float) -> Credential:
    """`folder` is the kubeconfig's: a command with a slash is relative to it.

    Raises ConfigError when there is no such program or it cannot run here, and Unauthorized when it fails or takes
    longer than `limit` seconds.
    """
    _check(plugin)
    code, said, complaint = await _start(plugin, _find(plugin, folder), cluster, limit)
    if code != 0:
        raise Unauthorized(f"the credential plugin {plugin.command} failed ({code}): {_last_line(complaint)}")
    try:
        answer = msgspec.json.decode(said, type=_Answer)
    except msgspec.DecodeError as error:
        raise Unauthorized(f"the credential plugin {plugin.command} gave no ExecCredential: {error}") from None
    if answer.api_version != plugin.api_version:
        raise ConfigError(
            f"the credential plugin {plugin.command} speaks {answer.api_version[:80]}, "
            f"but the kubeconfig says {plugin.api_version}: change apiVersion there, or update the plugin"
        )
    found = answer.status
    if not found.token and not (found.client_certificate_data and found.client_key_data):
        raise Unauthorized(
            f"the credential plugin {plugin.command} gave neither a token nor a certificate with its key"
        )
    return found


def _check(plugin: Plugin) -> None:
    if plugin.api_version not in (f"{_API}v1", f"{_API}v1beta1"):
        raise ConfigError(
            f"the credential plugin {plugin.command} uses {plugin.api_version}, which no longer exists: "
            f"write {_API}v1 into the kubeconfig, or make it anew with your provider's tool"
        )
    if plugin.interactive_mode == "Always" and not sys.stdin.isatty():
        raise ConfigError(f"the credential plugin {plugin.command} wants to ask you something: run it in a terminal")


def _find(plugin: Plugin, folder: Path) -> str:
    command = str(folder / plugin.command) if "/" in plugin.command else plugin.command
    found = shutil.which(command)
    if not found:
        hint = " ".join(plugin.install_hint.split())[:200]
        raise ConfigError(
            f"the credential plugin {plugin.command} is not installed or not in PATH" + (f": {hint}" if hint else "")
        )
    return found


async def _start(plugin: Plugin, program: str, cluster: Mapping[str, Any], limit: float) -> tuple[int, bytes, bytes]:
    interactive = plugin.interactive_mode != "Never" and sys.stdin.isatty()
    spec: dict[str, Any] = {"interactive": interactive}
    if plugin.provide_cluster_info:
        spec["cluster"] = dict(cluster)
    info = msgspec.json.encode({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}).decode()
    own = {each.name: each.value for each in plugin.env or ()}
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *(plugin.args or ()),
            env={**os.environ, **own, "KUBERNETES_EXEC_INFO": info},
            stdin=None if interactive else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # With a session of its own all its children can be ended; one that asks needs our terminal.
            start_new_session=not interactive,
        )
    except OSError as error:
        raise ConfigError(f"the credential plugin {plugin.command} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(limit):
            said, complaint = await process.communicate()
    except TimeoutError:
        raise Unauthorized(
            f"the credential plugin {plugin.command} gave no answer within {limit:g} s: run it by hand to see why"
        ) from None
    finally:
        if process.returncode is None:
            _end(process, whole_session=not interactive)
            await process.wait()
    return process.returncode or 0, said, complaint


def _end(process: asyncio.subprocess.Process, *, whole_session: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        if whole_session:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _last_line(complaint: bytes) -> str:
    lines = [line.strip() for line in complaint.decode(errors="replace").splitlines() if line.strip()]
    return _SECRET.sub("…", lines[-1])[:300] if lines else "it said nothing"
