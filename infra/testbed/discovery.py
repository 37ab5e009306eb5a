"""Finds out from the API server where objects of a kind live."""

from collections.abc import Callable, Mapping
from typing import Any

from infra.testbed.errors import TestbedError


class Discovery:
    """Answers are kept; a kind that is not known is asked for again, since definitions may have come since."""

    def __init__(self, get: Callable[[str], dict[str, Any]]) -> None:
        self._get = get
        self._known: dict[tuple[str, str], tuple[str, bool]] = {}

    def collection(self, document: Mapping[str, Any]) -> str:
        """The path of the collection that an object belongs to."""
        version, kind = document["apiVersion"], document["kind"]
        if (version, kind) not in self._known:
            self._learn(version)
        try:
            plural, namespaced = self._known[version, kind]
        except KeyError:
            raise TestbedError(f"the API server knows no {kind} in {version}") from None
        namespace = document["metadata"].get("namespace") or "default"
        return f"{_root(version)}/namespaces/{namespace}/{plural}" if namespaced else f"{_root(version)}/{plural}"

    def _learn(self, version: str) -> None:
        for resource in self._get(_root(version))["resources"]:
            if "/" not in resource["name"]:
                self._known[version, resource["kind"]] = (resource["name"], resource["namespaced"])


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
