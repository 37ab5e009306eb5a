"""Finds a cluster and the credentials for it as kubectl does: kubeconfig files first, then the pod's own account."""

import base64
import ipaddress
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from collectors.connection import Access
from collectors.kubeconfig import Chosen, ClusterEntry, UserEntry, choose, find_files
from collectors.renewal import FileTokens, PluginTokens
from collectors.requests import Cluster, Limits
from kubewhy import __version__
from kubewhy.errors import ConfigError

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PLUGIN_LIMIT = 60.0
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"
_RELOAD = timedelta(minutes=1)


async def connect(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    limits: Limits | None = None,
    plugin_limit: float = PLUGIN_LIMIT,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Cluster:
    """The cluster as its credentials see it. Asks the API server nothing yet; close it at the end.

    Raises ConfigError with one line that says what is wrong, where, and how to mend it.
    """
    files = find_files(kubeconfig, environ)
    if files:
        chosen = choose(files, context)
        return Cluster(chosen.context, chosen.namespace, await _from_kubeconfig(chosen, plugin_limit, environ), limits)
    if context is None and kubeconfig is None and environ.get("KUBERNETES_SERVICE_HOST"):
        return Cluster("in-cluster", _own_namespace(service_account), _in_cluster(service_account, environ), limits)
    tried = environ.get("KUBECONFIG") or "~/.kube/config"
    raise ConfigError(
        f"no kubeconfig ({tried} does not exist), and not running in a cluster: "
        "name one with --kubeconfig or $KUBECONFIG"
    )


async def _from_kubeconfig(chosen: Chosen, plugin_limit: float, environ: Mapping[str, str]) -> Access:
    user, cluster = chosen.user, chosen.cluster
    _check_user(chosen)
    configuration = await _load(chosen)
    configuration.proxy = _proxy(chosen, environ)
    if cluster.insecure_skip_tls_verify:
        log.warning(
            "the certificate of %s is not verified (insecure-skip-tls-verify): anyone may answer", cluster.server
        )
    headers = _headers(cluster.server) + _impersonation(user)
    if user.exec:
        told = _cluster_info(cluster, chosen.cluster_folder)
        plugin = PluginTokens(user.exec, chosen.user_folder, told, plugin_limit)
        await plugin.fetch(configuration)
        _before_each_request(configuration, plugin.fetch)
        if plugin.has_certificate:
            # A connection kept open would go on with the certificate that it began with.
            headers.append(("Connection", "close"))
        return Access(configuration, headers, plugin)
    if user.token_file:
        file = FileTokens(chosen.user_folder / user.token_file)
        file.fetch(configuration)
        _before_each_request(configuration, file.fetch)
        return Access(configuration, headers, file)
    return Access(configuration, headers)


def _in_cluster(account: Path, environ: Mapping[str, str]) -> Access:
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    configuration = _configuration()
    loader: Any = _untyped(InClusterConfigLoader)(str(account / "token"), str(account / "ca.crt"), environ=environ)
    try:
        loader.load_and_set(configuration)
    except (ConfigException, OSError) as error:
        why = str(error).rstrip(".").lower() if isinstance(error, ConfigException) else error.strerror
        raise ConfigError(
            f"running in a cluster, but its service account cannot be used ({why}): "
            "set automountServiceAccountToken, or name a kubeconfig"
        ) from None
    configuration.proxy = proxy_for(configuration.host, environ)
    return Access(configuration, [*_headers(configuration.host), ("Accept-Encoding", "identity")])


def _own_namespace(account: Path) -> str:
    try:
        return (account / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"


async def _load(chosen: Chosen) -> Any:
    """The official client's own reading of certificates, passwords and OIDC, of the one context."""
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.kube_config import KubeConfigLoader

    configuration = _configuration()
    loader: Any = _untyped(KubeConfigLoader)(_for_loader(chosen), config_base_path="")
    try:
        await loader.load_and_set(configuration)
    except ConfigException as error:
        raise ConfigError(f"context {chosen.context}: {' '.join(str(error).split())[:300]}") from None
    except (ValueError, OSError) as error:
        # The text of a ValueError could hold a part of a key.
        why = getattr(error, "strerror", None) or "a field that ends in -data is not base64"
        raise ConfigError(f"context {chosen.context}: cannot read its certificates or keys ({why})") from None
    if chosen.user.auth_provider:
        read_at = datetime.now(UTC)

        async def reload(target: Any) -> None:
            nonlocal read_at
            if datetime.now(UTC) - read_at >= _RELOAD:
                read_at = datetime.now(UTC)
                await loader.load_and_set(target)  # fetches a new token when the old one nears its end

        _before_each_request(configuration, reload)
    return configuration


def _configuration() -> Any:
    from kubernetes.aio.client.configuration import Configuration

    configuration = Configuration()
    configuration.connection_pool_maxsize = 0  # one connection for each watch, however many there are
    # Like kubectl: the strict checks refuse certificates that clusters have used for years.
    configuration.disable_strict_ssl_verification = True
    return configuration


def _untyped(loader: Any) -> Any:
    """The client's config package has no annotations."""
    return loader


def _before_each_request(configuration: Any, fetch: Any) -> None:
    # The client calls the hook only where it has some key to begin with.
    configuration.api_key.setdefault("BearerToken", "")
    configuration.refresh_api_key_hook = fetch


def _for_loader(chosen: Chosen) -> dict[str, Any]:
    """The context alone, with absolute paths, and without what this module does itself."""
    cluster = msgspec.to_builtins(chosen.cluster)
    user = msgspec.to_builtins(chosen.user)
    for section, folder, keys in (
        (cluster, chosen.cluster_folder, ("certificate-authority",)),
        (user, chosen.user_folder, ("client-certificate", "client-key")),
    ):
        for key in keys:
            if section.get(key):
                section[key] = str(folder / section[key])
    mine = {"exec", "tokenFile", *(("token",) if chosen.user.token_file or chosen.user.exec else ())}
    return {
        "current-context": "chosen",
        "contexts": [{"name": "chosen", "context": {"cluster": "chosen", "user": "chosen"}}],
        "clusters": [{"name": "chosen", "cluster": {key: value for key, value in cluster.items() if value}}],
        "users": [{"name": "chosen", "user": {key: user[key] for key in user if user[key] and key not in mine}}],
    }


def _check_user(chosen: Chosen) -> None:
    provider = chosen.user.auth_provider
    if provider and provider.get("name") != "oidc":
        raise ConfigError(
            f"context {chosen.context} uses the auth provider {provider.get('name')}, which Kubernetes has removed: "
            "make the kubeconfig anew with your provider's tool, which will write an exec plugin"
        )
    user = chosen.user
    if not user.impersonate and (user.as_uid or user.as_groups or user.as_user_extra):
        raise ConfigError(f"context {chosen.context} impersonates groups without a user: add `as` beside `as-groups`")


def _headers(server: str) -> list[tuple[str, str]]:
    # Compression costs the API server more than loopback gains.
    encoding = "identity" if _is_loopback(urlsplit(server).hostname or "") else "gzip"
    return [("User-Agent", f"kubewhy/{__version__}"), ("Accept-Encoding", encoding)]


def _impersonation(user: UserEntry) -> list[tuple[str, str]]:
    """https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation"""
    if not user.impersonate:
        return []
    headers = [("Impersonate-User", user.impersonate)]
    headers += [("Impersonate-Uid", user.as_uid)] if user.as_uid else []
    headers += [("Impersonate-Group", group) for group in user.as_groups]
    for key, values in user.as_user_extra.items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    log.warning("acting as %s, as the kubeconfig says", user.impersonate)
    return headers


def _cluster_info(cluster: ClusterEntry, folder: Path) -> dict[str, Any]:
    """What a plugin with provideClusterInfo is told."""
    told = msgspec.to_builtins(cluster)
    told.pop("extensions", None)
    if path := told.pop("certificate-authority", None):
        try:
            told["certificate-authority-data"] = base64.b64encode((folder / path).read_bytes()).decode()
        except OSError:
            raise ConfigError(f"cannot read certificate-authority {path}: check the kubeconfig") from None
    own = next((each.extension for each in cluster.extensions if each.name == _EXEC_EXTENSION), None)
    return {**told, **({"config": own} if own is not None else {})}


def _proxy(chosen: Chosen, environ: Mapping[str, str]) -> str | None:
    proxy = chosen.cluster.proxy_url or proxy_for(chosen.cluster.server, environ)
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigError(
            f"context {chosen.context} needs a proxy of the sort {urlsplit(proxy).scheme or 'unknown'}: "
            "only http:// and https:// proxies are possible"
        )
    return proxy


def proxy_for(server: str, environ: Mapping[str, str]) -> str | None:
    """The environment's proxy for a server, by the rules of the Go tools: NO_PROXY may hold networks."""
    url = urlsplit(server)
    host = (url.hostname or "").lower()
    name = f"{url.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name)
    if not proxy or _is_loopback(host):
        return None
    exempt = (environ.get("NO_PROXY") or environ.get("no_proxy") or "").lower()
    if any(_exempts(rule.strip(), host, url.port or 443) for rule in exempt.split(",") if rule.strip()):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _exempts(rule: str, host: str, port: int) -> bool:
    address = _address(host)
    try:
        network = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        name, _, only_port = rule.partition(":")
        if only_port and only_port != str(port):
            return False
        name = name.removeprefix("*")
        # A leading dot means the names below it alone.
        return not name or host == name or host.endswith(name if name.startswith(".") else f".{name}")
    return address is not None and address in network


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
