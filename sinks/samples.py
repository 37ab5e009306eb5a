"""Findings that no cluster sent, to try things out with: one that tells much, and others that tell little."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from kubewhy.records import (
    Change,
    Explanation,
    Finding,
    IncidentView,
    Ref,
    Seen,
    Severity,
    Sort,
    Told,
    Words,
)

_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
_SECRET = Ref("Secret", "password", "shop")
_POD = Ref("Pod", "web-6d4cf56db6-x2x5k", "shop")
_TOLD = Told(
    object=_POD,
    rule="pod-config-missing",
    severity=Severity.CRITICAL,
    message="Secret shop/password does not exist",
    since=_AT - timedelta(minutes=1),
    until=None,
    cause=_SECRET,
    labels={"label:app": "web"},
)
OPENED = Finding(
    id="0" * 32,
    transition="explained",
    at=_AT,
    revision=2,
    incident=IncidentView(
        id="0" * 16,
        cluster="sample",
        title="Secret shop/password is missing",
        severity=Severity.CRITICAL,
        state="open",
        root=_SECRET,
        members=(_POD,),
        member_count=1,
        opened_at=_AT - timedelta(seconds=30),
        resolved_at=None,
        resolution=None,
        failures=(_TOLD,),
        words=(
            Words(
                rule=_TOLD.rule,
                title="A ConfigMap or Secret is missing",
                why="The container cannot start.",
                look="Create it, or mend the reference.",
                docs="https://kubernetes.io/docs/concepts/configuration/secret/",
            ),
        ),
        commands=("kubectl get secret password -n shop",),
        evidence=(Seen(object=_POD, lines=("web: CreateContainerConfigError",)),),
        changes=(Change(object=_SECRET, at=_AT - timedelta(minutes=2), sort=Sort.WRITTEN, what="written"),),
    ),
    explanation=Explanation(
        cause="The Secret was removed.",
        why="The pod reads its password from it.",
        fix=("Create the Secret again.",),
        verify=("kubectl get secret password -n shop",),
        confidence="high",
        language="English",
        backend="sample",
        model="sample",
        input_tokens=100,
        output_tokens=50,
        cost=0.001,
        cached=False,
    ),
)
RESOLVED = Finding(
    id="1" * 32,
    transition="resolved",
    at=_AT,
    revision=3,
    incident=IncidentView(
        id="1" * 16,
        cluster="sample",
        title="Node node-1 is not ready",
        severity=Severity.WARNING,
        state="resolved",
        root=Ref("Node", "node-1"),
        members=(),
        member_count=0,
        opened_at=_AT - timedelta(minutes=5),
        resolved_at=_AT,
        resolution="recovered",
        failures=(),
    ),
)
# Without words of rules or models, and without anything that fails: whatever reads them must do without.
BARE = replace(
    RESOLVED,
    id="2" * 32,
    transition="opened",
    incident=replace(RESOLVED.incident, state="open", resolved_at=None, resolution=None),
)
SAMPLES = (OPENED, BARE, RESOLVED)
