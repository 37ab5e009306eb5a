"""What in Kubernetes' objects names something: themselves, each other, and what they are made of. Pure."""

from collections.abc import Iterator
from typing import Any, NamedTuple


class Name(NamedTuple):
    """What something is called, and what it is: `Pod`, `container`, `image`."""

    sort: str
    text: str


# Fields of Kubernetes' objects that name something else, and what.
_FIELDS = {
    "namespace": "namespace",
    "nodeName": "node",
    "nominatedNodeName": "node",
    "image": "image",
    "serviceAccountName": "serviceaccount",
    "serviceName": "service",
    "claimName": "claim",
    "secretName": "secret",
    "volumeName": "volume",
    "storageClassName": "storageclass",
    "priorityClassName": "priorityclass",
    "ingressClassName": "ingressclass",
    "hostname": "host",
    "hostIP": "ip",
    "podIP": "ip",
    "clusterIP": "ip",
    "ip": "ip",
    "container": "container",
    "cluster": "cluster",
}
_LISTS = {
    "containers": "container",
    "initContainers": "container",
    "ephemeralContainers": "container",
    "containerStatuses": "container",
    "initContainerStatuses": "container",
    "ephemeralContainerStatuses": "container",
    "volumes": "volume",
    "volumeClaimTemplates": "claim",
    "imagePullSecrets": "secret",
    "configMap": "configmap",
    "secret": "secret",
    "missing": "name",
}
_VALUES = {"labels": "label", "matchLabels": "label", "selector": "label", "nodeSelector": "label"}
_NO_NAMES = {"ports", "resources", "conditions", "env"}
_LONGEST = 253


def names(value: Any, within: str = "", sort: str = "name") -> Iterator[Name]:
    """What names something in JSON of Kubernetes' form: objects, references, evidence."""
    if isinstance(value, list):
        for each in value:
            if isinstance(each, str) and within in _LISTS:
                yield Name(_LISTS[within], each)
            else:
                yield from names(each, within, sort)
    elif isinstance(value, dict):
        kind = value.get("kind") if isinstance(value.get("kind"), str) else None
        for key, each in value.items():
            if isinstance(each, str):
                if key == "name" and within not in _NO_NAMES:
                    yield from _name(kind or _LISTS.get(within) or sort, each)
                elif key in _FIELDS:
                    yield from _name(_FIELDS[key], each)
                elif within in _VALUES:
                    yield from _name("label", each)
            elif key not in _NO_NAMES:
                yield from names(each, key, kind if key == "metadata" and kind else "name")


def _name(sort: str, text: str) -> Iterator[Name]:
    if text and text != "None" and len(text) <= _LONGEST:  # a headless service has the address None
        yield Name(sort, text)
