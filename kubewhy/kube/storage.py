"""storage.k8s.io/v1: storage classes."""

from typing import ClassVar

from kubewhy.kube.meta import Object, Resource


class StorageClass(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("StorageClass", "storageclasses", group="storage.k8s.io", namespaced=False)

    provisioner: str = ""
    volume_binding_mode: str = "Immediate"

    @property
    def is_default(self) -> bool:
        told = self.metadata.annotations
        return told.default_class == "true" or told.default_class_beta == "true"  # IsDefaultAnnotation in Kubernetes

    @property
    def binds_late(self) -> bool:
        """Whether a claim waits for its first pod by design."""
        return self.volume_binding_mode == "WaitForFirstConsumer"

    @property
    def is_static(self) -> bool:
        """Whether its volumes are made by hand, as local ones are."""
        return self.provisioner == "kubernetes.io/no-provisioner"
