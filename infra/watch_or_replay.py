"""What `make run` does: watch the cluster of the current kubeconfig, else replay the recording of a broken shop."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

RECORDING = Path(__file__).parent.parent / "docs" / "examples" / "broken-shop.kwrec"


def main() -> None:
    """Becomes `kubewhy run`, with or without a recording."""
    server = current_server(kubeconfigs(os.environ))
    arguments: list[str] = []
    if server is None or not reachable(server, os.environ):
        why = f"{server} does not answer" if server else "no kubeconfig with a current context"
        print(f"make run: {why}; replaying a recording of a broken shop", file=sys.stderr, flush=True)
        arguments = ["--from", str(RECORDING)]
    os.execv(sys.executable, [sys.executable, "-m", "kubewhy", "run", *arguments])


def kubeconfigs(environment: Mapping[str, str]) -> list[Path]:
    """Where kubectl looks, in its order."""
    told = environment.get("KUBECONFIG")
    if told:
        return [Path(part) for part in told.split(os.pathsep) if part]
    return [Path(environment.get("HOME", "~")).expanduser() / ".kube" / "config"]


def current_server(paths: list[Path]) -> str | None:
    """The URL of the current context's API server; where files are merged, the first that says a thing counts."""
    current = ""
    contexts: dict[str, Any] = {}
    clusters: dict[str, Any] = {}
    for path in paths:
        told = _read(path)
        current = current or told.get("current-context") or ""
        contexts = {each["name"]: each["context"] for each in told.get("contexts") or ()} | contexts
        clusters = {each["name"]: each["cluster"] for each in told.get("clusters") or ()} | clusters
    server = clusters.get(contexts.get(current, {}).get("cluster"), {}).get("server")
    return str(server) if server else None


def _read(path: Path) -> dict[str, Any]:
    try:
        told = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return told if isinstance(told, dict) else {}


def reachable(server: str, environment: Mapping[str, str]) -> bool:
    """Whether something listens there. Through a proxy that cannot be told from here, so it counts as yes."""
    url = urlsplit(server)
    proxied = any(environment.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if proxied and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        return True
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=3).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
