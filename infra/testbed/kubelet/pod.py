"""A pod as its kubelet knows it: containers, phase and conditions, and what is to be said about them."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.testbed.kubelet.container import Container, timestamp

Object = dict[str, Any]
# Reads an object by path; None where there is none.
Lookup = Callable[[str], Object | None]

_ANNOTATION = "kubewhy.dev/"


@dataclass(frozen=True)
class Said:
    """An Event to be recorded."""

    type: str
    reason: str
    message: str
    field: str = ""
    component: str = "kubelet"


class Pod:
    """Plays change it between two reports."""

    def __init__(self, document: Object, lookup: Lookup, first: Callable[[str], bool]) -> None:
        metadata = document["metadata"]
        self.document = document
        self.lookup = lookup
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.uid: str = metadata["uid"]
        self.spec: Object = document["spec"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.annotations: Mapping[str, str] = metadata.get("annotations", {})
        self.containers = [self._container(each) for each in self.spec["containers"]]
        self.inits = [self._container(each) for each in self.spec.get("initContainers", ())]
        self.said: list[Said] = []
        self.networked = False
        self.failure: tuple[str, str] | None = None
        self.extra_conditions: list[Object] = []
        self._began = timestamp()
        number = zlib.crc32(self.uid.encode()) % 62500
        # One that another kubelet gave it stays.
        self._address = document.get("status", {}).get("podIP") or f"10.65.{number // 250}.{number % 250 + 1}"
        self._first = first
        self._conditions = {each["type"]: each for each in document.get("status", {}).get("conditions", ())}

    @property
    def app(self) -> Container:
        """The container that misbehaves: the first, if no annotation names another."""
        wanted = self.annotations.get(_ANNOTATION + "container")
        return next((each for each in self.containers if each.name == wanted), self.containers[0])

    @property
    def full_name(self) -> str:
        """As kubelet writes it in messages: pkg/kubelet/util/format/pod.go."""
        return f"{self.name}_{self.namespace}({self.uid})"

    @property
    def restarts_never(self) -> bool:
        return self.spec.get("restartPolicy") == "Never"

    def number(self, annotation: str, default: float) -> float:
        """A play's setting, from the pod's annotation kubewhy.dev/NAME."""
        return float(self.annotations.get(_ANNOTATION + annotation, default))

    def first_of_its_owner(self) -> bool:
        """Whether no other pod of this owner asked before: what befalls one need not befall its successor."""
        owners = self.document["metadata"].get("ownerReferences", ())
        return self._first(next((each["uid"] for each in owners), self.uid))

    def warn(self, reason: str, message: str, container: Container | None = None) -> None:
        self.said.append(Said("Warning", reason, message, self._field(container)))

    def tell(self, reason: str, message: str, container: Container | None = None) -> None:
        self.said.append(Said("Normal", reason, message, self._field(container)))

    def status(self) -> Object:
        """The whole status, for a strategic merge: the scheduler's condition stays."""
        phase = self._phase()
        status: Object = {
            "phase": phase,
            "startTime": self._began,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "conditions": self._new_conditions(phase),
            "initContainerStatuses": [each.status() for each in self.inits],
            "containerStatuses": [each.status() for each in self.containers],
        }
        if self.networked:
            status["podIP"] = self._address
            status["podIPs"] = [{"ip": self._address}]
        if self.failure:
            status["reason"], status["message"] = self.failure
        return status

    def _container(self, spec: Object) -> Container:
        return Container(spec["name"], spec["image"], self.uid, spec.get("restartPolicy") == "Always")

    def _field(self, container: Container | None) -> str:
        if container is None:
            return ""
        sort = "initContainers" if container in self.inits else "containers"
        return f"spec.{sort}{{{container.name}}}"

    def _phase(self) -> str:
        """As pkg/kubelet/kubelet_pods.go, getPhase, decides."""
        if self.failure:
            return "Failed"
        never = self.restarts_never
        for init in self.inits:
            if init.exit_code not in (None, 0) and never:
                return "Failed"
            if not (init.exit_code == 0 or (init.sidecar and init.started)):
                return "Pending"
        if any("waiting" in each.state and not each.last for each in self.containers):
            return "Pending"
        codes = [each.exit_code for each in self.containers]
        if None in codes or self.spec.get("restartPolicy", "Always") == "Always":
            return "Running"
        if not any(codes):
            return "Succeeded"
        return "Failed" if never else "Running"

    def _new_conditions(self, phase: str) -> list[Object]:
        """As pkg/kubelet/status/generate.go words them."""
        gates = [each["conditionType"] for each in self.spec.get("readinessGates", ())]
        shut = [gate for gate in gates if self._conditions.get(gate, {}).get("status") != "True"]
        incomplete = [each.name for each in self.inits if not (each.exit_code == 0 or (each.sidecar and each.started))]
        unready = [each.name for each in (*self.inits, *self.containers) if not each.ready and self._counts(each)]
        initialized = _condition("Initialized", "ContainersNotInitialized", "incomplete", incomplete)
        containers = _condition("ContainersReady", "ContainersNotReady", "unready", unready)
        if phase in ("Succeeded", "Failed"):
            reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}[phase]
            containers = {"type": "ContainersReady", "status": "False", "reason": reason}
        ready = {**containers, "type": "Ready"}
        if ready["status"] == "True" and shut:
            missing = [f'corresponding condition of pod readiness gate "{gate}" does not exist.' for gate in shut]
            ready |= {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(missing)}
        network = {"type": "PodReadyToStartContainers", "status": str(self.networked)}
        return [self._dated(each) for each in (network, initialized, ready, containers, *self.extra_conditions)]

    def _counts(self, container: Container) -> bool:
        return container.sidecar or container in self.containers

    def _dated(self, condition: Object) -> Object:
        before = self._conditions.get(condition["type"])
        same = before is not None and before["status"] == condition["status"]
        moment = before["lastTransitionTime"] if before and same else timestamp()
        # Explicit nulls: a strategic merge would keep the reason of a state that is over.
        told = {"reason": None, "message": None, "lastProbeTime": None, **condition, "lastTransitionTime": moment}
        self._conditions[condition["type"]] = told
        return told


def _condition(sort: str, reason: str, adjective: str, names: list[str]) -> Object:
    if not names:
        return {"type": sort, "status": "True"}
    message = f"containers with {adjective} status: [{' '.join(names)}]"
    return {"type": sort, "status": "False", "reason": reason, "message": message}
