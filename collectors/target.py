"""Where what is read of a cluster goes: the store, a recording, or both in turn."""

from datetime import datetime
from typing import Protocol

from kubewhy.kube.meta import Object, Resource


class Target(Protocol):
    """Takes what a LIST and its WATCH say of one kind, in one namespace or (None) in all.

    A LIST is `begin`, one `put` for each object, `synced`: what was there before and was not put since is gone. After
    that each watch event is a `put` or a `remove`. A LIST that breaks off is begun anew. `at` is the API server's time.
    """

    def begin(self, resource: Resource, namespace: str | None, at: datetime) -> None: ...

    def put(self, resource: Resource, subject: Object, at: datetime) -> None: ...

    def remove(self, resource: Resource, namespace: str | None, name: str, at: datetime) -> None:
        """`namespace` is the object's own here, None for a kind that has none."""
        ...

    def synced(self, resource: Resource, namespace: str | None, at: datetime) -> None: ...

    def refused(self, resource: Resource, namespace: str | None, reason: str, at: datetime) -> None:
        """This kind cannot be read there (forbidden, or no such API): nothing of it is ever missing."""
        ...
