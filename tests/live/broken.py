"""Pods that are broken as a kubelet would say it, where no kubelet is."""

from collections.abc import Mapping
from typing import Any

from infra.testbed.control_plane import ControlPlane


def broken_pod(
    plane: ControlPlane,
    space: str,
    name: str,
    message: str = "no such image",
    *,
    image: str = "shop/app:1",
    env: Mapping[str, str] | None = None,
    **metadata: Any,
) -> None:
    """One whose image cannot be pulled, in a namespace that is made where there is none."""
    if not plane.api.exists(f"/api/v1/namespaces/{space}"):
        plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        # Which a controller makes elsewhere, and without which no pod is let in.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": space}}
        plane.api.create(account)
    if not plane.api.exists("/api/v1/nodes/node-1"):
        plane.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        plane.api.patch_status("/api/v1/nodes/node-1", {"status": {"conditions": [ready]}})
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    spec = {"containers": [{"name": "app", "image": image, "env": variables}], "nodeName": "node-1"}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space, **metadata}, "spec": spec}
    plane.api.create(made)
    waiting = {"reason": "ImagePullBackOff", "message": message}
    container = {"name": "app", "image": image, "imageID": "", "ready": False, "restartCount": 0}
    statuses = [{**container, "state": {"waiting": waiting}}]
    plane.api.patch_status(plane.api.path(made), {"status": {"phase": "Pending", "containerStatuses": statuses}})


def grant(plane: ControlPlane, space: str, user: str, *resources: str) -> None:
    """Lets a user read these kinds of that namespace."""
    if not plane.api.exists(f"/api/v1/namespaces/{space}"):
        plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    api = "rbac.authorization.k8s.io"
    meta = {"name": f"{user}-reads", "namespace": space}
    rules = [{"apiGroups": ["*"], "resources": [*resources], "verbs": ["get", "list", "watch"]}]
    binding = {
        "roleRef": {"apiGroup": api, "kind": "Role", "name": meta["name"]},
        "subjects": [{"kind": "User", "name": user, "apiGroup": api}],
    }
    plane.api.apply(
        [
            {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": rules},
            {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": meta, **binding},
        ]
    )
