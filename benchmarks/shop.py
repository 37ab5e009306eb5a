"""The objects of a large shop, as people, controllers and kubelets would write them. Pure.

Every name in them holds a mark (`app-00000`, `-pod00`, `node-000`, …), so that a copy is made by replacing marks.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

APP, NODE, POD, ADDRESS, SPACE = "app-00000", "node-000", "pod00", "10.99.99.99", "space-00"
HASH = "5d4f8c9b7d"
REPLICA_SET = f"{APP}-{HASH}"
LABELS = {
    "app.kubernetes.io/name": APP,
    "app.kubernetes.io/version": "4.17.2",
    "team": "checkout",
}
SELECTED = {"app.kubernetes.io/name": APP}

# The ways in which a pod is broken. None is healthy.
TROUBLES = ("crash", "pull", "oom", "config", "unready", "unschedulable")


def hours_ago(hours: float) -> str:
    """As the API writes times."""
    return (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def node() -> Document:
    """A node with what a kubelet says of it; its forty images are most of it."""
    room = {"cpu": "32", "memory": "128Gi", "pods": "250", "ephemeral-storage": "200Gi"}
    pressures = [
        condition(f"{what}Pressure", False, f"KubeletHas{enough}") | {"lastHeartbeatTime": hours_ago(0)}
        for what, enough in (("Memory", "SufficientMemory"), ("Disk", "NoDiskPressure"), ("PID", "SufficientPID"))
    ]
    ready = condition("Ready", True, "KubeletReady") | {
        "lastHeartbeatTime": hours_ago(0),
        "message": "kubelet is posting ready status",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {
                "kubernetes.io/hostname": NODE,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": "zone-a",
                "node.kubernetes.io/instance-type": "m7.8xlarge",
            },
        },
        "spec": {},
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": ADDRESS}, {"type": "Hostname", "address": NODE}],
            "conditions": [*pressures, ready],
            "images": [
                {"names": [f"registry.example.com/shop/part-{number}:4.17.2"], "sizeBytes": 123_456_789 + number}
                for number in range(40)
            ],
        },
    }


def service() -> Document:
    """A service in front of an application."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": APP, "namespace": SPACE, "labels": LABELS},
        "spec": {
            "selector": SELECTED,
            "clusterIP": "None",
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def endpoint_slice(ready: list[bool]) -> Document:
    """Its endpoints: one for each pod that has an address."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{APP}-slice",
            "namespace": SPACE,
            "labels": {
                **LABELS,
                "kubernetes.io/service-name": APP,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.98.{number // 200}.{number % 200 + 1}"],
                "conditions": {"ready": each, "serving": each, "terminating": False},
                "nodeName": NODE,
                "targetRef": {"kind": "Pod", "name": f"{REPLICA_SET}-pod{number:02}", "namespace": SPACE},
            }
            for number, each in enumerate(ready)
        ],
    }


def deployment(replicas: int, available: int) -> Document:
    """A deployment that has been rolled out for hours, short of what is broken."""
    whole = available == replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": APP, "namespace": SPACE, "labels": LABELS},
        "spec": {"replicas": replicas, "selector": {"matchLabels": SELECTED}, "template": _template()},
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": available,
            "availableReplicas": available,
            **({} if whole else {"unavailableReplicas": replicas - available}),
            "conditions": [
                condition("Progressing", True, "NewReplicaSetAvailable") | {"lastUpdateTime": hours_ago(5)},
                condition("Available", True, "MinimumReplicasAvailable") | {"lastUpdateTime": hours_ago(5)},
            ],
        },
    }


def replica_set(replicas: int, available: int) -> Document:
    """The deployment's current replica set."""
    labels = {**LABELS, "pod-template-hash": HASH}
    template = _template()
    template["metadata"]["labels"] = labels
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": REPLICA_SET,
            "namespace": SPACE,
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/desired-replicas": str(replicas)},
            "ownerReferences": [_owner("Deployment", APP)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {**SELECTED, "pod-template-hash": HASH}},
            "template": template,
        },
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "fullyLabeledReplicas": replicas,
            "readyReplicas": available,
            "availableReplicas": available,
        },
    }


def pod(trouble: str | None = None) -> Document:
    """A replica, healthy or broken in that way."""
    template = _template()
    placed = trouble != "unschedulable"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": f"{REPLICA_SET}-{POD}",
            "namespace": SPACE,
            "labels": {**LABELS, "pod-template-hash": HASH},
            "ownerReferences": [_owner("ReplicaSet", REPLICA_SET)],
        },
        "spec": {**template["spec"], **({"nodeName": NODE} if placed else {})},
        "status": pod_status(trouble),
    }


def lone_pod() -> Document:
    """A pod that nobody owns, so that its failure is an incident of its own."""
    document = pod()
    document["metadata"] |= {"name": APP, "ownerReferences": []}
    return document


def pod_status(trouble: str | None = None) -> Document:
    """What the kubelet, or the scheduler, says of it."""
    if trouble == "unschedulable":
        why = "0/100 nodes are available: 100 Insufficient cpu. preemption: 0/100 nodes are available."
        unplaced = condition("PodScheduled", False, "Unschedulable") | {"message": why}
        return {"phase": "Pending", "conditions": [unplaced]}
    ready = trouble is None
    return {
        "phase": "Pending" if trouble in ("pull", "config") else "Running",
        "startTime": hours_ago(5),
        "hostIP": "10.1.2.3",
        "hostIPs": [{"ip": "10.1.2.3"}],
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "qosClass": "Burstable",
        "conditions": [
            condition("PodReadyToStartContainers", True),
            condition("Initialized", True),
            condition("Ready", ready, "" if ready else "ContainersNotReady"),
            condition("ContainersReady", ready, "" if ready else "ContainersNotReady"),
            condition("PodScheduled", True),
        ],
        "containerStatuses": [_container_status(trouble)],
    }


def events(trouble: str | None) -> list[Document]:
    """What was told of that pod. Of a healthy one, what the scheduler and the kubelet say of every start."""
    subject = f"{REPLICA_SET}-{POD}"
    path = "spec.containers{web}"
    match trouble:
        case "crash" | "oom":
            words = f"Back-off restarting failed container web in pod {subject}_{SPACE}"
            return [_event("BackOff", words, path)]
        case "pull":
            image = "registry.example.com/shop/web:4.17.2"
            why = f"{image}: failed to resolve reference: not found"
            return [
                _event("Failed", f'Failed to pull image "{image}": rpc error: code = NotFound desc = {why}', path),
                _event("BackOff", f'Back-off pulling image "{image}"', path),
            ]
        case "config":
            return [_event("Failed", 'Error: configmap "web-settings" not found', path)]
        case "unready":
            words = "Readiness probe failed: HTTP probe failed with statuscode: 503"
            return [_event("Unhealthy", words, path)]
        case "unschedulable":
            return [_event("FailedScheduling", "0/100 nodes are available: 100 Insufficient cpu.", "")]
    return [
        _event("Scheduled", f"Successfully assigned {SPACE}/{subject} to {NODE}", "", normal=True),
        _event("Pulled", 'Container image "registry.example.com/shop/web:4.17.2" already present', path, normal=True),
        _event("Created", "Container created", path, normal=True),
        _event("Started", "Container started", path, normal=True),
    ]


def condition(kind: str, true: bool, reason: str = "", at: str | None = None) -> Document:
    """A condition that has been so for hours, unless told when."""
    said = {"type": kind, "status": "True" if true else "False", "lastTransitionTime": at or hours_ago(5)}
    return {**said, "reason": reason} if reason else said


def killed(at: str) -> Document:
    """A container that was just killed for lack of memory and waits to be started again."""
    dead = {"exitCode": 137, "reason": "OOMKilled", "startedAt": hours_ago(5), "finishedAt": at}
    return _web(False, 1, {"waiting": _back_off()}, {"terminated": dead | {"containerID": "containerd://" + "ab" * 32}})


def running(*, ready: bool = True, restarts: int = 0) -> Document:
    """A container that runs."""
    return _web(ready, restarts, {"running": {"startedAt": hours_ago(5)}}, {})


def _container_status(trouble: str | None) -> Document:
    dead = {"exitCode": 1, "reason": "Error", "startedAt": hours_ago(4.02), "finishedAt": hours_ago(4)}
    match trouble:
        case "crash":
            return _web(False, 12, {"waiting": _back_off()}, {"terminated": dead})
        case "oom":
            killed = dead | {"exitCode": 137, "reason": "OOMKilled"}
            return _web(False, 7, {"waiting": _back_off()}, {"terminated": killed})
        case "pull":
            message = 'Back-off pulling image "registry.example.com/shop/web:4.17.2"'
            return _web(False, 0, {"waiting": {"reason": "ImagePullBackOff", "message": message}}, {})
        case "config":
            message = 'configmap "web-settings" not found'
            return _web(False, 0, {"waiting": {"reason": "CreateContainerConfigError", "message": message}}, {})
    return running(ready=trouble is None)


def _web(ready: bool, restarts: int, state: Document, last: Document) -> Document:
    return {
        "name": "web",
        "image": "registry.example.com/shop/web:4.17.2",
        "imageID": "registry.example.com/shop/web@sha256:" + "7c" * 32,
        "containerID": "containerd://" + "5e" * 32,
        "ready": ready,
        "started": "running" in state,
        "restartCount": restarts,
        "state": state,
        "lastState": last,
    }


def _back_off() -> Document:
    pause = "back-off 5m0s restarting failed container=web pod=" + f"{REPLICA_SET}-{POD}_{SPACE}"
    return {"reason": "CrashLoopBackOff", "message": pause}


def _template() -> Document:
    return {
        "metadata": {
            "labels": LABELS,
            "annotations": {
                "checksum/config": "9b74c9897bac770ffc029102a200c5de0d5b5d7e1a2f9d9a5f1c9d7a8a7b6c5d",
            },
        },
        "spec": {
            "containers": [_container()],
            "serviceAccountName": "default",
            "volumes": [{"name": "settings", "configMap": {"name": "web-settings"}}],
        },
    }


def _container() -> Document:
    database = "postgresql://shop@orders-db.shop.svc.cluster.local:5432/orders?sslmode=verify-full"
    return {
        "name": "web",
        "image": "registry.example.com/shop/web:4.17.2",
        "env": [
            {"name": "DATABASE_URL", "value": database},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "web-token", "key": "token"}}},
        ],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 10},
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/web"}],
    }


def _owner(kind: str, name: str) -> Document:
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid(kind)}
    return {**owner, "controller": True, "blockOwnerDeletion": True}


def uid(kind: str) -> str:
    """Stands in an object for the uid of its owner of that kind."""
    return f"uid-of-its-{kind}"


def _event(reason: str, message: str, path: str, *, normal: bool = False) -> Document:
    name = f"{REPLICA_SET}-{POD}"
    about = {"kind": "Pod", "apiVersion": "v1", "namespace": SPACE, "name": name, "uid": uid("Pod")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{reason.lower()}", "namespace": SPACE},
        "involvedObject": about | ({"fieldPath": path} if path else {}),
        "type": "Normal" if normal else "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": "kubelet", "host": NODE},
        "firstTimestamp": hours_ago(0.5),
        "lastTimestamp": hours_ago(0.05),
        "count": 1 if normal else 40,
    }
