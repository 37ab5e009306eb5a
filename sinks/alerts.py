"""Incidents as alerts of Prometheus's sort: one each, with the same labels from its opening to its end. Pure."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from kubewhy.contracts import Memo
from kubewhy.glance import cluster_of
from kubewhy.records import Finding, IncidentView, Severity
from sinks.settings import TemplateSettings
from sinks.wording import Word, docs, line, lines, rule, worded

_KEPT = "alerts/"
_DESCRIPTION = 4000  # characters
# What kube-state-metrics calls the names of these kinds in its labels, which routes and silences go by.
_LABELS = {
    "Pod": "pod",
    "Deployment": "deployment",
    "StatefulSet": "statefulset",
    "DaemonSet": "daemonset",
    "ReplicaSet": "replicaset",
    "Job": "job_name",
    "CronJob": "cronjob",
    "Node": "node",
    "Namespace": "namespace",
    "Service": "service",
    "Ingress": "ingress",
    "PersistentVolumeClaim": "persistentvolumeclaim",
    "PersistentVolume": "persistentvolume",
    "HorizontalPodAutoscaler": "horizontalpodautoscaler",
    "PodDisruptionBudget": "poddisruptionbudget",
}


class Alert(msgspec.Struct, frozen=True):
    """One alert. It fires until `ends_at`, and on and on where there is none."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None = None
    docs: str = ""

    @property
    def fingerprint(self) -> str:
        """By what Alertmanager tells it from others."""
        return fingerprint(self.labels)

    @property
    def brief(self) -> "Alert":
        """The same with the first line of what is wrong."""
        told = {**self.annotations, "description": self.annotations.get("description", "").partition("\n")[0]}
        return replace(self, annotations={name: text for name, text in told.items() if text and name != "commands"})


class Kept(msgspec.Struct, frozen=True):
    """The alerts of one incident as they were told last. All but the last have ended."""

    revision: int
    alerts: tuple[Alert, ...]

    @property
    def over(self) -> datetime | None:
        return self.alerts[-1].ends_at


class Texts(msgspec.Struct, frozen=True):
    """What the settings have to say of every alert: more labels, and how it is worded."""

    labels: Mapping[str, str]
    summary: Word
    description: Word


def fingerprint(labels: Mapping[str, str]) -> str:
    """FNV-1a of the labels, as prometheus/common's model has it."""
    digest = 0xCBF29CE484222325
    for name, value in sorted(labels.items()):
        for byte in b"%s\xff%s\xff" % (name.encode(), value.encode()):
            digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def texts(labels: Mapping[str, str], templates: TemplateSettings) -> Texts:
    """What these settings say. Raises ConfigError for a template that is none."""
    return Texts(labels, *worded(templates, _summary, _description))


def _summary(finding: Finding) -> str:
    return line(finding.incident.title)


def _description(finding: Finding) -> str:
    return "\n".join(lines(finding, shown=5))[:_DESCRIPTION]


def follow(before: Kept | None, finding: Finding, texts: Texts) -> Kept | None:
    """The alerts of the incident with this finding; None where later ones have been told already.

    What routes go by stays as it was first, though the incident's title, root or members change. Only where it becomes
    worse, another alert takes over and the one before ends, so that those hear of it who want to hear of the worse.
    """
    incident = finding.incident
    if before and before.revision > finding.revision:
        return None
    if before and before.revision == finding.revision:
        return before
    former = before.alerts if before else ()
    labels = former[-1].labels if former else {**texts.labels, **_labels(incident)}
    if Severity(labels["severity"]).rank < incident.severity.rank:
        former = (*former[:-1], replace(former[-1], ends_at=former[-1].ends_at or finding.at))
        labels = {**labels, "severity": str(incident.severity)}
    else:
        former = former[:-1]
    ends_at = (incident.resolved_at or finding.at) if finding.transition == "resolved" else None
    # A clock that was put back must not make an alert that ends before it starts.
    starts_at = min(incident.opened_at, ends_at or finding.at)
    alert = Alert(labels, _annotations(finding, texts), starts_at, ends_at, docs(incident))
    return Kept(finding.revision, (*former, alert))


def kept(memo: Memo, incident: str) -> Kept | None:
    """What was told of it, if anything."""
    row = memo.get(_KEPT + incident)
    return msgspec.json.decode(row, type=Kept) if row else None


def keep(memo: Memo, incident: str, alerts: Kept | None) -> None:
    """Before it is told, so that it is told the same way again. None forgets."""
    memo.put(_KEPT + incident, msgspec.json.encode(alerts) if alerts else None)


def all_kept(memo: Memo) -> dict[str, Kept]:
    """All of them, by the incident."""
    return {key.removeprefix(_KEPT): msgspec.json.decode(row, type=Kept) for key, row in list(memo.scan(_KEPT))}


def forget(memo: Memo, before: datetime) -> None:
    """Those that ended before."""
    for incident, each in all_kept(memo).items():
        if each.over and each.over < before:
            keep(memo, incident, None)


def _labels(incident: IncidentView) -> dict[str, str]:
    root = incident.root
    labels = {
        "alertname": rule(incident),
        "severity": str(incident.severity),
        "cluster": cluster_of(incident),
        "namespace": root.namespace or "",
        "kind": root.kind,
        "name": root.name,
        "incident": incident.id,
    }
    if known := _LABELS.get(root.kind):
        labels[known] = root.name
    # To Alertmanager an empty label is none.
    return {name: line(value) for name, value in labels.items() if value}


def _annotations(finding: Finding, texts: Texts) -> dict[str, str]:
    incident = finding.incident
    annotations = {
        "summary": texts.summary(finding),
        "description": texts.description(finding),
        "runbook_url": docs(incident),
        "commands": "\n".join(incident.commands[:5]),
    }
    return {name: value for name, value in annotations.items() if value}
