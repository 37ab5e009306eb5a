"""Why the API server refused what a controller wanted to create, and what stands behind it."""

import re
from collections.abc import Callable
from typing import NamedTuple

from analyzers.messages import short
from kubewhy.records import Ref

ADMISSION = "admissionregistration.k8s.io"


class Refusal(NamedTuple):
    reason: str  # normalised
    text: str  # the server's words, without the name made up for this attempt
    cause: Ref | None = None


def _in_namespace(kind: str) -> Callable[[re.Match[str], str | None], Ref]:
    return lambda found, namespace: Ref(kind, found["name"], namespace)


def _cluster_wide(kind: str, group: str = "") -> Callable[[re.Match[str], str | None], Ref]:
    return lambda found, namespace: Ref(kind, found["name"], group=group)


def _own_namespace(found: re.Match[str], namespace: str | None) -> Ref | None:
    return Ref("Namespace", namespace) if namespace else None


def _service(found: re.Match[str], namespace: str | None) -> Ref:
    return Ref("Service", found["name"], found["namespace"])


def _account(found: re.Match[str], namespace: str | None) -> Ref:
    return Ref("ServiceAccount", found["name"], found["namespace"])


_Cause = Callable[[re.Match[str], str | None], Ref | None]

# The first that fits says it: a webhook that cannot be called is blamed on its Service, where the text names one.
_TEXTS: tuple[tuple[str, str, _Cause | None], ...] = (
    ("quota-exceeded", r"exceeded quota: (?P<name>[^,\s]+)", _in_namespace("ResourceQuota")),
    ("quota-unmet", r"failed quota: (?P<name>[^:,\s]+)", _in_namespace("ResourceQuota")),
    ("service-account-missing", r"error looking up service account (?P<namespace>[^/\s]+)/(?P<name>[^:\s]+)", _account),
    ("service-account-missing", r'serviceaccount "(?P<name>[^"]+)" not found', _in_namespace("ServiceAccount")),
    (
        "priority-class-missing",
        r"no PriorityClass with name (?P<name>\S+) was found",
        _cluster_wide("PriorityClass", "scheduling.k8s.io"),
    ),
    (
        "runtime-class-missing",
        r'RuntimeClass "(?P<name>[^"]+)" not found',
        _cluster_wide("RuntimeClass", "node.k8s.io"),
    ),
    (
        "webhook-unreachable",
        r"failed calling webhook .*?https?://(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc\b",
        _service,
    ),
    (
        "webhook-unreachable",
        r'failed calling webhook "(?P<name>[^"]+)"',
        _cluster_wide("AdmissionWebhook", ADMISSION),
    ),
    (
        "webhook-denied",
        r'admission webhook "(?P<name>[^"]+)" (?:denied|has denied)',
        _cluster_wide("AdmissionWebhook", ADMISSION),
    ),
    (
        "policy-denied",
        r"ValidatingAdmissionPolicy '(?P<name>[^']+)'",
        _cluster_wide("ValidatingAdmissionPolicy", ADMISSION),
    ),
    ("pod-security", r"violates PodSecurity", _own_namespace),
    ("security-context-constraint", r"unable to validate against any security context constraint", None),
    ("limit-range", r"(?:minimum|maximum) \S+ usage per \w+|max limit to request ratio per \w+", None),
    ("namespace-terminating", r"because it is being terminated", _own_namespace),
    ("invalid", r"\bis invalid: ", None),
)

_KNOWN = tuple((reason, re.compile(pattern, re.DOTALL), cause) for reason, pattern, cause in _TEXTS)
_ATTEMPT = re.compile(r'^.*?\b[a-z]+(?:\.[a-z0-9.]+)? "[^"]*" is (?:forbidden|invalid): ', re.DOTALL)
_CONTROLLER = re.compile(r"^(?:Error creating: |create \w+ \S+ (?:for|in) .*? failed error: |Failed to create .*?: )")


def parse(message: str, namespace: str | None) -> Refusal:
    """What a ReplicaFailure condition or a FailedCreate event says. `namespace` is that of the object it is about."""
    text = _CONTROLLER.sub("", message.strip())
    text = short(_ATTEMPT.sub("", text) or text)
    for reason, pattern, cause in _KNOWN:
        found = pattern.search(message)
        if found:
            return Refusal(reason, text, cause(found, namespace) if cause else None)
    return Refusal("refused", text or "the API server gave no reason")
