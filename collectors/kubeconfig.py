"""Finds and reads kubeconfig files as kubectl does, and says in one line what is wrong with them.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import field

from collectors.exec_plugin import Plugin
from kubewhy.errors import ConfigError
from kubewhy.spelling import is_namespace


class Entry(msgspec.Struct, frozen=True, rename="kebab"):
    """A part of a kubeconfig. What we do not read is let be."""


class Extension(Entry, frozen=True):
    name: str = ""
    extension: Any = None


class ClusterEntry(Entry, frozen=True, omit_defaults=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: tuple[Extension, ...] = ()


class UserEntry(Entry, frozen=True):
    token: str = ""
    token_file: str = field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    password: str = ""
    impersonate: str = field(default="", name="as")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: dict[str, tuple[str, ...]] = {}
    exec: Plugin | None = None
    auth_provider: dict[str, Any] | None = None


class ContextEntry(Entry, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class NamedCluster(Entry, frozen=True):
    name: str
    cluster: ClusterEntry = ClusterEntry()


class NamedUser(Entry, frozen=True):
    name: str
    user: UserEntry = UserEntry()


class NamedContext(Entry, frozen=True):
    name: str
    context: ContextEntry = ContextEntry()


class Kubeconfig(Entry, frozen=True):
    current_context: str = ""
    clusters: tuple[NamedCluster, ...] = ()
    users: tuple[NamedUser, ...] = ()
    contexts: tuple[NamedContext, ...] = ()


class Chosen(NamedTuple):
    """One context with all that it names. Relative paths and commands count from the folder of their own file."""

    context: str
    namespace: str
    cluster: ClusterEntry
    cluster_folder: Path
    user: UserEntry
    user_folder: Path


def find_files(flag: str | None, environ: Mapping[str, str]) -> list[Path]:
    """The files to merge, those that exist. A file named by the flag must."""
    if flag is not None:
        path = _expanded(flag)
        if not _exists(path):
            raise ConfigError(f"there is no kubeconfig {path}: check --kubeconfig")
        return [path]
    if listed := environ.get("KUBECONFIG"):
        paths = [_expanded(each) for each in listed.split(os.pathsep) if each]
    else:
        paths = [_expanded(environ.get("HOME") or "~") / ".kube" / "config"]
    return [path for path in paths if _exists(path)]


def _expanded(name: str) -> Path:
    # Unlike that of Path, it lets be what it does not know: another's home, or our own where we have none.
    return Path(os.path.expanduser(name))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot read the kubeconfig {path} ({(error.strerror or 'unknown error').lower()}): "
        "name another one with --kubeconfig or $KUBECONFIG"
    )


def read(path: Path) -> Kubeconfig:
    """Messages name the place and never the content, which is secret."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError:
        raise ConfigError(f"the kubeconfig {path} is no text file: name another one") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as for a date with a 13th month
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"the kubeconfig {path} is no valid YAML{where}: mend it, or name another one") from None
    try:
        return msgspec.convert(_without_nulls(document) or {}, Kubeconfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the kubeconfig {path} is not as it should be ({error}): mend it, or name another") from None


def choose(files: list[Path], wanted: str | None) -> Chosen:
    """The wanted context, else the current one. Of several files the first that says something wins."""
    configs = [(path.absolute().parent, read(path)) for path in files]
    where = ", ".join(str(path) for path in files)
    contexts = {each.name: each for _, config in reversed(configs) for each in reversed(config.contexts)}
    known = ", ".join(sorted(contexts)) or "none"
    name = wanted or next((config.current_context for _, config in configs if config.current_context), "")
    if not name:
        raise ConfigError(f"no current context in {where}: choose one with --context (known: {known})")
    if name not in contexts:
        raise ConfigError(f"there is no context {name} in {where} (known: {known})")
    context = contexts[name].context
    clusters = {each.name: (each.cluster, at) for at, config in reversed(configs) for each in reversed(config.clusters)}
    users = {each.name: (each.user, at) for at, config in reversed(configs) for each in reversed(config.users)}
    if context.cluster not in clusters:
        raise ConfigError(f"context {name} names the cluster {context.cluster or '(none)'}, which is not in {where}")
    if context.user and context.user not in users:
        raise ConfigError(f"context {name} names the user {context.user}, who is not in {where}")
    cluster, cluster_folder = clusters[context.cluster]
    user, user_folder = users.get(context.user, (UserEntry(), cluster_folder))
    _check_server(context.cluster, cluster.server, where)
    if context.namespace and not is_namespace(context.namespace):
        raise ConfigError(f"context {name} in {where} has the namespace {context.namespace!r}, which none can be")
    return Chosen(name, context.namespace or "default", cluster, cluster_folder, user, user_folder)


def _check_server(cluster: str, server: str, where: str) -> None:
    try:
        url = urlsplit(server)
        # A password does not belong there: it would be told to whoever looks on.
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0 and "@" not in url.netloc
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"cluster {cluster} in {where} has no usable server: it should be like https://host:6443")


def _without_nulls(value: Any) -> Any:
    """A key with nothing behind it counts as left out."""
    match value:
        case dict():
            return {key: _without_nulls(each) for key, each in value.items() if each is not None}
        case list():
            return [_without_nulls(each) for each in value]
    return value
