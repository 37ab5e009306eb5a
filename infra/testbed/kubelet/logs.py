"""What containers have written: the pod's annotation kubewhy.dev/log, served as pkg/kubelet/server/server.go does."""

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from infra.testbed.kubelet.pod import Pod

Find = Callable[[str, str], Pod | None]


def serve(port: int, certificate: Path, key: Path, find: Find) -> None:
    """In the background, to the API server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = _answer(urlsplit(self.path).path, find)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _answer(path: str, find: Find) -> tuple[int, bytes]:
    _, kind, *rest = path.split("/")
    if kind != "containerLogs" or len(rest) != 3:
        return 404, b"not found"
    namespace, name, container = rest
    pod = find(namespace, name)
    if pod is None:
        return 404, f'pods "{name}" not found'.encode()
    if not any(each.name == container and each.identity for each in (*pod.containers, *pod.inits)):
        return 400, f'container "{container}" in pod "{name}" is waiting to start'.encode()
    return 200, f"{pod.annotations.get('kubewhy.dev/log', '')}\n".encode()
