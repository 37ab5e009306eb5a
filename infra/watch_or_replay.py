"""What `make run` does: watch the cluster of the current kubeconfig, else replay the recording of a broken shop."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from collectors.kubeconfig import ClusterEntry, choose, find_files
from kubewhy.errors import ConfigError

RECORDING = Path(__file__).parent.parent / "docs" / "examples" / "broken-shop.kwrec"


def main() -> None:
    """Becomes `kubewhy run`, with or without a recording."""
    cluster = current_cluster(os.environ)
    arguments: list[str] = []
    if cluster is None or not reachable(cluster, os.environ):
        why = f"{cluster.server} does not answer" if cluster else "no kubeconfig with a usable current context"
        print(f"make run: {why}; replaying a recording of a broken shop", file=sys.stderr, flush=True)
        arguments = ["--from", str(RECORDING)]
    os.execv(sys.executable, [sys.executable, "-m", "kubewhy", "run", *arguments])


def current_cluster(environ: Mapping[str, str]) -> ClusterEntry | None:
    """The one that kubectl would speak to."""
    files = find_files(None, environ)
    try:
        return choose(files, None).cluster if files else None
    except ConfigError:
        return None


def reachable(cluster: ClusterEntry, environ: Mapping[str, str]) -> bool:
    """Whether something listens there. Through a proxy that cannot be told from here, so it counts as yes."""
    url = urlsplit(cluster.server)
    proxied = cluster.proxy_url or environ.get("HTTPS_PROXY") or environ.get("https_proxy")
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
