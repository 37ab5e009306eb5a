"""Control planes whose audit log must show, at the end, that kubewhy did nothing but read what it may."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from infra.testbed.control_plane import ControlPlane
from tests.live.cli import kubewhy

USER = "kubewhy"
READING = {"get", "list", "watch"}


@contextmanager
def audited(**options: Any) -> Iterator[ControlPlane]:
    """One that ends as a failure where more than reading was asked for, under whatever name."""
    with ControlPlane.start(**options) as plane:
        yield plane
        done = asked(plane)
        assert done, "the audit log shows nothing of kubewhy"
        assert [each for each in done if not harmless(each)] == []


def asked(plane: ControlPlane) -> list[dict[str, Any]]:
    """What kubewhy asked the API server for, from the audit log."""
    with plane.audit_log.open() as lines:
        events = map(json.loads, lines)
        return [
            each for each in events if USER in (each["user"].get("username"), each.get("userAgent", "").split("/")[0])
        ]


def harmless(event: dict[str, Any]) -> bool:
    return event["verb"] in READING and event.get("objectRef", {}).get("resource") != "secrets"


def granted(plane: ControlPlane, *options: str) -> Path:
    """The kubeconfig of a user who may do what `kubewhy rbac` prints with these options, and no more."""
    role = yaml.safe_load(kubewhy("rbac", *options).stdout)
    name, group = role["metadata"]["name"], "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": role["apiVersion"],
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": role["kind"], "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    }
    plane.api.apply([role, binding])
    return plane.kubeconfig(USER)
