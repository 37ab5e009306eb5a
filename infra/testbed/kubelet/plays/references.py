"""Pods that refer to what is not there. They look, as the kubelet does, and get well once it is there."""

from collections.abc import Iterator
from typing import Any

from infra.testbed.kubelet.plays.starting import come_up, create, initialize, launch
from infra.testbed.kubelet.pod import Pod

_PLURAL = {"Secret": "secrets", "ConfigMap": "configmaps"}


def config_error(pod: Pod) -> Iterator[float]:
    """pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables; kuberuntime_container.go, generateContainerConfig."""
    yield from come_up(pod)
    spec = pod.spec["containers"][pod.containers.index(pod.app)]
    while problem := _environment_problem(pod, spec):
        pod.tell(
            "Pulled",
            f'Container image "{pod.app.image}" already present on machine and can be accessed by the pod',
            pod.app,
        )
        pod.warn("Failed", f"Error: {problem}", pod.app)
        pod.app.wait("CreateContainerConfigError", problem)
        yield 2.0
    launch(pod, pod.app)


def mount_failed(pod: Pod) -> Iterator[float]:
    """pkg/volume/util/operationexecutor/operation_generator.go; the pod has no network before its volumes."""
    yield from create(pod, networked=False)
    while problem := _volume_problem(pod):
        pod.warn("FailedMount", problem)
        yield 2.0
    pod.networked = True
    yield from initialize(pod)
    for container in pod.containers:
        launch(pod, container)


def _environment_problem(pod: Pod, spec: dict[str, Any]) -> str | None:
    for source in spec.get("envFrom", ()):
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if field in source and (problem := _problem(pod, kind, source[field], None)):
                return problem
    for variable in spec.get("env", ()):
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            wanted = variable.get("valueFrom", {}).get(field)
            if wanted and (problem := _problem(pod, kind, wanted, wanted["key"])):
                return problem
    return None


def _volume_problem(pod: Pod) -> str | None:
    for volume in pod.spec.get("volumes", ()):
        secret, config = volume.get("secret"), volume.get("configMap")
        tokens = any("serviceAccountToken" in each for each in volume.get("projected", {}).get("sources", ()))
        if tokens:
            problem = _token_problem(pod)
        elif secret:
            problem = _volume_source_problem(pod, "Secret", secret["secretName"], secret)
        elif config:
            problem = _volume_source_problem(pod, "ConfigMap", config["name"], config)
        else:
            continue
        if problem:
            return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {problem}'
    return None


def _token_problem(pod: Pod) -> str | None:
    """pkg/volume/projected/projected.go, collectData; pkg/kubelet/token/token_manager.go."""
    account = pod.spec.get("serviceAccountName", "default")
    if pod.lookup(f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{account}") is not None:
        return None
    return (
        f'failed to fetch token: serviceaccounts "{account}" is forbidden: failed to fetch token: '
        f'serviceaccounts "{account}" not found'
    )


def _volume_source_problem(pod: Pod, kind: str, name: str, source: dict[str, Any]) -> str | None:
    held = _held(pod, kind, name)
    if source.get("optional"):
        return None
    if held is None:
        return _absent(kind, name)
    for item in source.get("items", ()):
        if item["key"] not in held:
            # pkg/volume/secret/secret.go and pkg/volume/configmap/configmap.go, MakePayload.
            sort = (
                "references non-existent secret key"
                if kind == "Secret"
                else "configmap references non-existent config key"
            )
            return f"{sort}: {item['key']}"
    return None


def _problem(pod: Pod, kind: str, wanted: dict[str, Any], key: str | None) -> str | None:
    if wanted.get("optional"):
        return None
    held = _held(pod, kind, wanted["name"])
    if held is None:
        return _absent(kind, wanted["name"])
    if key is not None and key not in held:
        return f"couldn't find key {key} in {kind} {pod.namespace}/{wanted['name']}"
    return None


def _absent(kind: str, name: str) -> str:
    return f'{kind.lower()} "{name}" not found'


def _held(pod: Pod, kind: str, name: str) -> dict[str, Any] | None:
    found = pod.lookup(f"/api/v1/namespaces/{pod.namespace}/{_PLURAL[kind]}/{name}")
    return None if found is None else {**found.get("data", {}), **found.get("binaryData", {})}
