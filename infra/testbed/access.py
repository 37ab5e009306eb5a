"""Who may knock at the API server, and the kubeconfig files that they knock with."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

ADMIN = "admin"
# Users without rights: a test gives them what it wants through RBAC objects.
USERS = ("kubewhy", "reader", "nobody", *(f"user-{number:02}" for number in range(40)))

# Components sign in as themselves, so that the audit log tells them apart from the clients under test.
COMPONENTS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kwok": "testbed:kwok",
    "kubelet": "testbed:kubelet",
}


def make_tokens() -> dict[str, str]:
    return {user: secrets.token_urlsafe(24) for user in (ADMIN, *COMPONENTS.values(), *USERS)}


def token_file(tokens: dict[str, str]) -> str:
    """Lines of token,user,uid,"groups", as --token-auth-file reads them."""
    masters = {ADMIN, *COMPONENTS.values()}
    lines = [
        f"{token},{user},{user}" + (',"system:masters"' if user in masters else "") for user, token in tokens.items()
    ]
    return "\n".join(lines) + "\n"


def kubeconfig(url: str, ca_file: Path, user: str, token: str, namespace: str | None = None) -> dict[str, Any]:
    context = {"cluster": "testbed", "user": user, **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": context}],
    }


def write_private(path: Path, content: str) -> Path:
    """Only the owner may read it, from the first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    return path


def write_kubeconfig(path: Path, document: dict[str, Any]) -> Path:
    # JSON is YAML, and every client reads it.
    return write_private(path, json.dumps(document, indent=1) + "\n")
