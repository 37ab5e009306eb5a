"""Pods that are broken as a kubelet would say it, where no kubelet is."""

from typing import Any

from infra.testbed.control_plane import ControlPlane

RULE = "pod-image-pull"


def broken_pod(plane: ControlPlane, space: str, name: str, message: str = "no such image", **metadata: Any) -> None:
    """One whose image cannot be pulled, in a namespace that is made where there is none."""
    if not plane.api.exists(f"/api/v1/namespaces/{space}"):
        plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        # Which a controller makes elsewhere, and without which no pod is let in.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": space}}
        plane.api.create(account)
    spec = {"containers": [{"name": "app", "image": "shop/app:1"}], "nodeName": "node-1"}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space, **metadata}, "spec": spec}
    plane.api.create(made)
    waiting = {"reason": "ImagePullBackOff", "message": message}
    container = {"name": "app", "image": "shop/app:1", "imageID": "", "ready": False, "restartCount": 0}
    statuses = [{**container, "state": {"waiting": waiting}}]
    plane.api.patch_status(plane.api.path(made), {"status": {"phase": "Pending", "containerStatuses": statuses}})
