"""Reads and writes any kind of object, for test code: synchronous, plain dicts, one line per wish."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import urllib3
import yaml

from infra.testbed.discovery import Discovery
from infra.testbed.errors import ApiError, NotFound, TestbedError

Object = dict[str, Any]
Objects = list[Object]
Documents = str | Path | Object | Iterable[Object]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"


class Api:
    """A client that trusts one CA and shows one token. Safe to use from several threads."""

    def __init__(self, url: str, ca_file: Path, token: str, *, connections: int = 16) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(
            ca_certs=str(ca_file), maxsize=connections, block=True, retries=False, timeout=urllib3.Timeout(60)
        )
        self._headers = {"authorization": f"Bearer {token}", "user-agent": "testbed", "accept": "application/json"}
        self._discovery = Discovery(self.get)

    def get(self, path: str, **query: str | int) -> Object:
        return self.request("GET", path, query=query)

    def list(self, path: str, **query: str | int) -> Objects:
        """The items of a collection, however many pages they take."""
        items: Objects = []
        page: Object = {"metadata": {"continue": ""}}
        while True:
            asked = {"limit": 1000, **query, "continue": page["metadata"]["continue"]}
            page = self.get(path, **{key: value for key, value in asked.items() if value != ""})
            items += page["items"]
            if not page["metadata"].get("continue"):
                return items

    def create(self, document: Object) -> Object:
        return self.request("POST", self._discovery.collection(document), document)

    def create_many(self, documents: Iterable[Object], *, threads: int = 8) -> int:
        """Creates all, each with its status if it has one. Returns their number; some 250 a second
        with statuses, on two cores."""

        def create(document: Object) -> None:
            made = self.create(document)
            if "status" in document:
                self.patch_status(self.path(made), {"status": document["status"]})

        with ThreadPoolExecutor(threads) as pool:
            return sum(1 for _ in pool.map(create, documents))

    def apply(self, documents: Documents) -> Objects:
        """Makes the objects so, whatever they were before. A namespace is ready for pods when this returns."""
        return [self._apply(document) for document in read_documents(documents)]

    def patch(self, path: str, body: object, content_type: str = MERGE) -> Object:
        return self.request("PATCH", path, body, content_type=content_type)

    def patch_status(self, path: str, body: object, content_type: str = MERGE) -> Object:
        return self.patch(f"{path}/status", body, content_type)

    def delete(self, path: str, *, grace: int | None = None, propagation: str = "Background") -> None:
        """What is gone already needs no deleting."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        with suppress(NotFound):
            self.request("DELETE", path, options)

    def exists(self, path: str) -> bool:
        try:
            self.get(path)
        except NotFound:
            return False
        return True

    def wait(self, path: str, predicate: Callable[[Object], bool], timeout_seconds: float = 60.0) -> Object:
        """The object or list at the path, once the predicate holds. One that does not exist yet is waited for."""
        deadline = time.monotonic() + timeout_seconds
        seen: Object = {}
        while True:
            with suppress(NotFound):
                seen = self.get(path)
                if predicate(seen):
                    return seen
            if time.monotonic() > deadline:
                status = msgspec.json.encode(seen.get("status", seen)).decode()[:800]
                raise TestbedError(f"{path} did not get there in {timeout_seconds:.0f} s: {status}")
            time.sleep(0.1)

    def path(self, document: Mapping[str, Any]) -> str:
        """Where an object lives."""
        return f"{self._discovery.collection(document)}/{quote(document['metadata']['name'], safe=':')}"

    def watch(self, path: str, **query: str | int) -> Iterator[Object]:
        """Watch events until the server ends the stream."""
        reply = self._send("GET", path, None, {"watch": "1", **query}, {}, preload=False)
        buffer = b""
        try:
            for chunk in reply.stream(65536, decode_content=True):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield msgspec.json.decode(line)
        finally:
            reply.close()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Any request. Raises ApiError for every answer that is not a success."""
        headers = {"content-type": content_type} if body is not None else {}
        reply = self._send(method, path, body, query or {}, headers)
        answer: Object = msgspec.json.decode(reply.data) if reply.data[:1] in (b"{", b"[") else {}
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str | int],
        headers: Mapping[str, str],
        *,
        preload: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        url = self.url + path + (("&" if "?" in path else "?") + urlencode(query) if query else "")
        sent = None if body is None else msgspec.json.encode(body)
        timeout = urllib3.Timeout(60) if preload else urllib3.Timeout(connect=5, read=None)
        try:
            reply = self._pool.request(
                method, url, body=sent, headers={**self._headers, **headers}, preload_content=preload, timeout=timeout
            )
        except urllib3.exceptions.HTTPError as error:
            raise TestbedError(f"{method} {path}: {type(error).__name__}") from error
        if reply.status >= 400:
            raise ApiError.of(method, path, reply.status, reply.data)
        return reply

    def _apply(self, document: Object) -> Object:
        metadata = document["metadata"]
        if "name" not in metadata:
            return self.create(document)
        options = {"fieldManager": "testbed", "force": "true"}
        made = self.request("PATCH", self.path(document), document, query=options, content_type=_APPLY)
        if "status" in document and document["kind"] != "CustomResourceDefinition":
            self.patch_status(self.path(document), {"status": document["status"]})
        if document["kind"] == "Namespace":
            # Pods are refused until the controller has made their service account.
            self._await_service_account(metadata["name"])
        return made

    def _await_service_account(self, namespace: str) -> None:
        with suppress(TestbedError):  # without controllers it never comes
            self.wait(f"/api/v1/namespaces/{namespace}/serviceaccounts/default", bool, 5)


def read_documents(documents: Documents) -> Sequence[Object]:
    if isinstance(documents, Path):
        documents = documents.read_text()
    if isinstance(documents, str):
        return [document for document in yaml.safe_load_all(documents) if document]
    if isinstance(documents, dict):
        return [documents]
    return list(documents)
