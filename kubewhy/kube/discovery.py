"""discovery.k8s.io/v1: endpoint slices."""

from typing import ClassVar

from kubewhy.kube.meta import Object, Part, Resource


class EndpointConditions(Part, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class EndpointTarget(Part, frozen=True):
    kind: str = ""
    name: str = ""


class Endpoint(Part, frozen=True):
    """Addresses are left out: whether there is one, and whose, is all that is read."""

    conditions: EndpointConditions = EndpointConditions()
    target_ref: EndpointTarget | None = None

    @property
    def is_ready(self) -> bool:
        """A null condition is to be read as ready (EndpointConditions.ready in the API reference)."""
        return self.conditions.ready is not False


class EndpointSlice(Object, frozen=True):
    resource: ClassVar[Resource] = Resource("EndpointSlice", "endpointslices", group="discovery.k8s.io")

    endpoints: tuple[Endpoint, ...] | None = None
