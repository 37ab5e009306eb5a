"""What all Kubernetes objects share, and the base of the typed ones.

Only declared fields are ever decoded: see `docs/architecture.md`, the privacy and cost boundary. Field names follow
https://kubernetes.io/docs/reference/kubernetes-api/ in snake case.
"""

from datetime import datetime
from typing import ClassVar, NamedTuple

import msgspec
from msgspec import field


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A piece of an object. A field the API leaves out takes the default that the API means by leaving it out."""


class Resource(NamedTuple):
    """Where a kind lives in the API."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    def path(self, namespace: str | None = None) -> str:
        """The collection's URL path, of one namespace or of all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


class OwnerReference(Part, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    api_version: str = ""

    @property
    def group(self) -> str:
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""


class Annotations(Part, frozen=True):
    """The few annotations that mean something here; all others stay in the cluster."""

    ignore: str | None = field(default=None, name="kubewhy.dev/ignore")
    config_mirror: str | None = field(default=None, name="kubernetes.io/config.mirror")
    config_hash: str | None = field(default=None, name="kubernetes.io/config.hash")
    default_class: str | None = field(default=None, name="storageclass.kubernetes.io/is-default-class")
    default_class_beta: str | None = field(default=None, name="storageclass.beta.kubernetes.io/is-default-class")
    class_beta: str | None = field(default=None, name="volume.beta.kubernetes.io/storage-class")
    revision: str | None = field(default=None, name="deployment.kubernetes.io/revision")
    selected_node: str | None = field(default=None, name="volume.kubernetes.io/selected-node")


class ObjectMeta(Part, frozen=True):
    name: str = ""
    namespace: str | None = None
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: Annotations = Annotations()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None  # already includes the grace period
    finalizers: tuple[str, ...] = ()
    generation: int = 0
    owner_references: tuple[OwnerReference, ...] = ()


class ManagedFields(Part, frozen=True):
    """When one manager last wrote the object, or one of its subresources; what it wrote stays in the cluster."""

    subresource: str = ""
    time: datetime | None = None


class WrittenMeta(ObjectMeta, frozen=True):
    """The metadata of a kind for which it matters when it was last written."""

    managed_fields: tuple[ManagedFields, ...] = ()

    @property
    def written(self) -> datetime | None:
        """When anything but its status was last written, as far as the managers tell."""
        return max(
            (each.time for each in self.managed_fields if each.time and each.subresource != "status"), default=None
        )


class Object(Part, frozen=True):
    """A typed object of one kind. A class with fewer fields and the same `resource` is a view of that kind."""

    resource: ClassVar[Resource]

    metadata: ObjectMeta = ObjectMeta()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str | None:
        return self.metadata.namespace

    @property
    def created(self) -> datetime | None:
        return self.metadata.creation_timestamp

    @property
    def deleting(self) -> datetime | None:
        """When its deletion should have ended, grace period included; None when nobody deletes it."""
        return self.metadata.deletion_timestamp

    @property
    def controller(self) -> OwnerReference | None:
        return next((owner for owner in self.metadata.owner_references if owner.controller), None)


class Condition(Part, frozen=True):
    type: str = ""
    status: str = ""  # True, False or Unknown
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None
    last_update_time: datetime | None = None


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """The condition of that type, or None where the controller has not said it."""
    return next((each for each in conditions if each.type == kind), None)


class Requirement(Part, frozen=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        return False


class LabelSelector(Part, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether the labels fit. An empty selector fits everything, as in the API."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(requirement.matches(labels) for requirement in self.match_expressions)
