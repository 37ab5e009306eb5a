"""What to run next: kubectl commands that only read, and show no Secret's data. Pure."""

import re
import shlex
from collections.abc import Sequence

from explainer.correlation import Member
from explainer.hostile import clean
from kubewhy.records import Failure, Ref

_DIED = re.compile(r"crash|oom|exit|kill|restart|died|back-?off", re.IGNORECASE)
_NEVER_RAN = re.compile(r"image|pull|config|schedul|create|secret|mount|pending", re.IGNORECASE)
# The API groups whose kinds kubectl finds by the kind alone.
_BUILT_IN = {
    "",
    "apps",
    "batch",
    "autoscaling",
    "policy",
    "networking.k8s.io",
    "storage.k8s.io",
    "rbac.authorization.k8s.io",
}


def commands(root: Ref, members: Sequence[Member], context: str = "") -> tuple[str, ...]:
    """For an incident, its root first. A name that could be taken for a flag gets none."""
    found = _look(root, context)
    pods = [(ref, failure) for ref, failure in members if ref.kind == "Pod" and not ref.group]
    if pods:
        pod, failure = min(pods, key=lambda each: (each[1].symptom, not each[1].container))
        found += [*_look(pod, context), *_logs(pod, failure, context)]
    elif members and members[0][0] != root:
        found += _look(members[0][0], context)
    return tuple(dict.fromkeys(found))


def _look(ref: Ref, context: str) -> list[str]:
    if ref.kind == "AdmissionWebhook":
        # Its name is an entry's; which configuration has that is told nowhere.
        return _kubectl(["get", "validatingwebhookconfigurations,mutatingwebhookconfigurations"], {}, ref, context)
    if ref.kind == "Fleet":
        return []  # it is no object, but all clusters at once
    if ref.kind == "Cluster":
        return _kubectl(["get", "pods"], {"-l": "app.kubernetes.io/name=kubewhy"}, ref, context, everywhere=True)
    # `describe` prints a ConfigMap's data; and of a Secret nothing but its being there matters.
    verb = "get" if ref.kind in ("Secret", "ConfigMap") else "describe"
    kind = ref.kind.lower() if ref.group in _BUILT_IN else f"{ref.kind.lower()}.{ref.group}"
    return _kubectl([verb, kind, ref.name], {}, ref, context)


def _logs(pod: Ref, failure: Failure, context: str) -> list[str]:
    """A container's own words, where it ever ran; of its last life, where that has ended."""
    told = f"{failure.rule} {failure.reason}"
    never = _NEVER_RAN.search(told)
    died = not never and _DIED.search(told)
    if never or not failure.container:
        return []
    found = _kubectl(["logs", pod.name], {"-c": failure.container}, pod, context)
    return [f"{command} --previous" for command in found] if died else found


def _kubectl(words: list[str], flags: dict[str, str], ref: Ref, context: str, *, everywhere: bool = False) -> list[str]:
    if ref.namespace:
        flags = {"-n": ref.namespace} | flags
    if context:
        flags = flags | {"--context": context}
    values = [*words, *flags.values()]
    if any(not value or value.startswith("-") or "\n" in value or clean(value) != value for value in values):
        return []
    parts = (part for flag in flags.items() for part in flag)
    return [shlex.join(["kubectl", *words, *parts, *(["-A"] if everywhere else [])])]
