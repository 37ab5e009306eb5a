"""Case files: objects in, failures out, one file beside each analyzer.

    - case: what it shows
      tempts: rule-id            # the wrong answer it must not give (one rule or a list)
      object: {...}              # metadata.name defaults to `web`, metadata.namespace to `shop`, uid to `uid-1`
      root: Deployment/web       # Kind/name or Kind/namespace/name; left out: the object has no owner
      related: {StorageClass: [{...}], PodState: []}   # by view; a view that is named here is known
      unknown: [StorageClass]    # views that we may not read
      events: [{reason: ..., message: ..., lastTimestamp: ...}]    # newest first
      server: v1.35.4
      expect:                    # failures; only the fields named are compared
        - {rule: ..., message: ..., since: ..., until: ..., cause: StorageClass/fast, container: ..., reason: ...,
           severity: ..., hold: 120}

A name that the object's needs ask for, of a view that is named under `related`, and that is not listed there, is
absent.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Raw

import analyzers
from kubewhy.contracts import Analyzer, Link
from kubewhy.kube.core import Event
from kubewhy.records import Attached, Evidence, Failure, Ref, Version
from kubewhy.related import decode_object

FOLDER = Path(analyzers.__file__).parent
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    analyzer: Analyzer[Any]
    title: str
    evidence: Evidence
    expect: list[dict[str, Any]]
    tempts: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.analyzer.name}: {self.title}"


def file_of(analyzer: Analyzer[Any]) -> Path:
    """The case file beside the analyzer's module."""
    module = analyzer.find.__module__.rpartition(".")[2]
    return FOLDER / f"{module}.cases.yaml"


def load(analyzer: Analyzer[Any]) -> list[Case]:
    """All cases of one analyzer."""
    texts = yaml.load(file_of(analyzer).read_text(), Loader=_Loader)
    return [_case(analyzer, text) for text in texts]


class _Loader(yaml.SafeLoader):
    """YAML without dates: timestamps stay the strings that the API sends."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

KNOWN = {"case", "tempts", "object", "root", "related", "unknown", "events", "server", "expect"}


def _case(analyzer: Analyzer[Any], text: dict[str, Any]) -> Case:
    assert set(text) <= KNOWN, f"unknown keys {set(text) - KNOWN} in case {text.get('case')}"
    resource = analyzer.reads.resource
    meta = {"name": "web", "uid": "uid-1", **text["object"].get("metadata", {})}
    if resource.namespaced:
        meta.setdefault("namespace", "shop")
    subject = {**text["object"], "metadata": meta}
    raw = msgspec.json.encode(subject)
    evidence = Evidence(
        cluster="c1",
        version=Version(1, 1),
        ref=Ref(resource.kind, meta["name"], meta.get("namespace"), resource.group),
        uid=meta["uid"],
        observed_at=NOW,
        object=Raw(raw),
        root=_ref(text["root"], meta.get("namespace")) if "root" in text else None,
        related=tuple(_attached(analyzer, raw, text)),
        events=tuple(msgspec.convert(event, Event, strict=False) for event in text.get("events", [])),
        server=text.get("server", ""),
    )
    tempts = text.get("tempts", [])
    return Case(analyzer, text["case"], evidence, text["expect"], [tempts] if isinstance(tempts, str) else tempts)


def _attached(analyzer: Analyzer[Any], raw: bytes, text: dict[str, Any]) -> list[Attached]:
    subject = decode_object(raw, analyzer.reads)
    related, unknown = text.get("related", {}), text.get("unknown", [])
    views = {need.view.__name__: need for need in analyzer.needs if need.link is not Link.EVENTS}
    strange = (set(related) | set(unknown)) - set(views)
    assert not strange, f"{text['case']}: no need of {analyzer.name} is for {strange}"
    attached = [Attached(view=view, known=False) for view in unknown]
    for view, objects in related.items():
        present = {each["metadata"]["name"] for each in objects}
        wanted: list[str] = []
        for need in analyzer.needs:
            if need.link is Link.NAMED and need.view.__name__ == view and need.names:
                wanted += need.names(subject)
        attached.append(
            Attached(
                view=view,
                objects=tuple(Raw(msgspec.json.encode(each)) for each in objects),
                missing=tuple(name for name in wanted if name not in present),
                count=len(objects),
            )
        )
    return attached


def _ref(text: str, namespace: str | None) -> Ref:
    from kubewhy.kube import GROUPS

    kind, *rest = text.split("/")
    if len(rest) == 2:
        return Ref(kind, rest[1], rest[0], GROUPS.get(kind, ""))
    return Ref(kind, rest[0], namespace, GROUPS.get(kind, ""))


def told(failure: Failure, expected: dict[str, Any]) -> dict[str, Any]:
    """The failure as the case would write it, as far as the case names fields."""
    whole: dict[str, Any] = msgspec.to_builtins(failure)
    cause = failure.cause
    whole["cause"] = None if cause is None else f"{cause.kind}/{cause.name}"
    if isinstance(expected.get("cause"), str) and cause is not None and expected["cause"].count("/") == 2:
        whole["cause"] = f"{cause.kind}/{cause.namespace}/{cause.name}"
    defaults = {"since": None, "until": None, "container": "", "reason": "", "hold": 0.0}
    return {key: whole.get(key, defaults.get(key)) for key in expected}
