"""What the kubelet and the scheduler mean by their messages, as reasons that hold no counts, hashes or times.

The wordings are those of kubernetes v1.35, `pkg/kubelet` and `pkg/scheduler/framework/plugins`, and of containerd.
"""

import re

from kubewhy.kube.core import Terminated
from kubewhy.records import Ref

EXITS = {
    0: "it ended without an error",
    1: "application error",
    2: "wrong usage or application error",
    126: "the command cannot be executed",
    127: "the command was not found",
    128: "the container could not start",
    130: "interrupted, SIGINT",
    134: "aborted, SIGABRT",
    137: "killed, SIGKILL, but not for its memory limit",
    139: "segmentation fault, SIGSEGV",
    143: "told to stop, SIGTERM",
    255: "unknown error",
}


def exit_words(terminated: Terminated) -> str:
    """The exit code and what it usually stands for."""
    code = terminated.exit_code
    words = EXITS.get(code)
    signal = terminated.signal or (code - 128 if 128 < code < 160 else 0)
    if terminated.reason == "OOMKilled":
        words = "killed for lack of memory"
    elif terminated.reason == "ContainerStatusUnknown":
        words = "its real end is unknown, as its node lost it"
    elif words is None and signal:
        words = f"killed by signal {signal}"
    return f"exit code {code} ({words})" if words else f"exit code {code}"


# What a gRPC error begins with, and the identifiers that the container runtime makes up.
_NOISE = re.compile(r"\brpc error: code = \w+ desc = | \"[0-9a-f]{64}\"")


def short(text: str, limit: int = 300) -> str:
    """One line, and not too long a one."""
    line = " ".join(_NOISE.sub("", text).split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 3] + "..."


# In this order: a registry that hides what it denies says both, and a name that does not resolve is no missing image.
PULLS = (
    ("rate-limited", ("toomanyrequests", "too many requests", "rate limit"), "the registry limits the rate of pulls"),
    (
        "certificate",
        ("x509:", "tls: ", "server gave http response to https client"),
        "the registry's certificate is not trusted or not there",
    ),
    (
        "platform",
        ("no match for platform", "no matching manifest", "image operating system"),
        "the image is not built for the node's platform",
    ),
    ("disk-full", ("no space left on device",), "the node's disk is full"),
    (
        "denied",
        ("denied", "unauthorized", "forbidden", "authorization failed", "no basic auth credentials", "authentication"),
        "the registry denies access, or the image does not exist",
    ),
    (
        "registry-unreachable",
        (
            *("no such host", "connection refused", "i/o timeout", "no route to host", "network is unreachable"),
            *("server misbehaving", "connection reset", "deadline exceeded", "service unavailable", "bad gateway"),
            *("tls handshake timeout", "unexpected eof", "registryunavailable", "temporary failure in name"),
        ),
        "the registry cannot be reached",
    ),
    ("not-found", ("not found", "manifest unknown", "name unknown", "does not exist"), "the image does not exist"),
)


def pull_reason(*texts: str) -> tuple[str, str]:
    """Why an image cannot be pulled, normalised and in words, from the first text that tells."""
    for text in texts:
        lowered = text.lower()
        if "tls handshake timeout" in lowered:  # slow, not untrusted
            return "registry-unreachable", "the registry cannot be reached"
        for reason, marks, words in PULLS:
            if any(mark in lowered for mark in marks):
                return reason, words
    return "unknown", "the registry or the container runtime refuses"


_OBJECT = re.compile(r"\b(secret|configmap) \"([^\"]+)\" not found", re.IGNORECASE)
_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) ([^/\s]+)/([^\s,]+)")
_VOLUME = re.compile(r"for volume \"([^\"]+)\"")
_VOLUME_KEY = re.compile(r"references non-existent (?:secret|config) key: (\S+)")
_ACCOUNT = re.compile(r"serviceaccounts? \"([^\"]+)\" not found", re.IGNORECASE)
_PULL_SECRETS = re.compile(r"image pull secrets \(([^)]*)\)")
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}
_TITLES = {"Secret": "Secret", "ConfigMap": "config map"}


def missing_config(text: str, namespace: str | None, volumes: dict[str, Ref]) -> tuple[str, str, Ref | None] | None:
    """What a container or a volume lacks: a reason, words, and the object; None where the text tells of no such thing.

    `volumes` says what each volume is made from: the kubelet names only the volume when a key is missing.
    """
    if told := _OBJECT.search(text):
        kind, name = _KINDS[told[1].lower()], told[2]
        # A volume's source may be named as namespace/name.
        ref = Ref(kind, name.rpartition("/")[2], namespace)
        return f"{kind.lower()}-missing", f"{_TITLES[kind]} {ref.name} does not exist", ref
    if told := _KEY.search(text):
        ref = Ref(told[2], told[4], told[3])
        return f"{told[2].lower()}-key-missing", f"{_TITLES[told[2]]} {told[4]} has no key {told[1]}", ref
    if told := _VOLUME_KEY.search(text):
        volume = _VOLUME.search(text)
        source = volumes.get(volume[1]) if volume else None
        kind = "secret" if "secret key" in text else "configmap"
        whose = f"{_TITLES[source.kind]} {source.name}" if source else f"the {_TITLES[_KINDS[kind]]} of a volume"
        return f"{kind}-key-missing", f"{whose} has no key {told[1]}", source
    return None


def missing_account(text: str) -> str | None:
    """The service account that a volume's token cannot be had for."""
    told = _ACCOUNT.search(text)
    return told[1].rpartition("/")[2] if told else None


def pull_secrets(text: str) -> list[str]:
    """The pull secrets that the kubelet could not read, sorted."""
    told = _PULL_SECRETS.search(text)
    return sorted(filter(None, re.split(r"[,\s]+", told[1]))) if told else []


# From what shuts out a node that was meant to what shuts out nodes that were never meant: where nodes differ, the
# first is why the pod waits. A fixed order, so that the reason does not follow the counts.
_SCHEDULING = (
    ("claim-unbound", "unbound immediate persistentvolumeclaims"),
    ("claim-missing", "persistentvolumeclaim"),
    ("too-many-pods", "too many pods"),
    ("free-ports", "free ports"),
    ("volume-count", "max volume count"),
    ("volume-space", "enough free storage"),
    ("volume-zone", "available volume zone"),
    ("volume-node", "volume node affinity conflict"),
    ("volume-in-use", "already in-use by another pod"),
    ("pod-affinity", "pod affinity rules"),
    ("pod-anti-affinity", "anti-affinity rules"),
    ("topology-spread", "topology spread constraints"),
    ("taint", "taint"),
    ("node-affinity", "node affinity/selector"),
    ("cordoned", "were unschedulable"),
    ("no-nodes", "no nodes available"),
)
_INSUFFICIENT = re.compile(r"insufficient ([\w./-]*\w)", re.IGNORECASE)


def scheduling_reason(text: str) -> str:
    """Why no node takes a pod, normalised."""
    lowered = text.lower()
    for reason, mark in _SCHEDULING[:2]:
        if mark in lowered and "readwriteoncepod" not in lowered:
            return reason
    short_of = sorted(set(_INSUFFICIENT.findall(lowered)))
    if short_of:
        return f"insufficient-{short_of[0]}"
    return next((reason for reason, mark in _SCHEDULING[2:] if mark in lowered), "other")


def evicted_for(text: str) -> tuple[str, bool]:
    """The resource a pod was evicted for, empty where untold, and whether it was the node that ran short of it."""
    if told := re.search(r"low on resource: ([\w-]+)", text):
        return told[1], True
    if "ephemeral" in text or "emptyDir" in text or "EmptyDir" in text:
        return "ephemeral-storage", False
    if told := re.search(r"node condition\(?s?\)?:? \[?(\w+)Pressure", text, re.IGNORECASE):
        return {"Memory": "memory", "Disk": "ephemeral-storage"}.get(told[1], told[1].lower()), True
    return "", False


_STARTS = (
    ("disk-full", ("no space left on device",)),
    ("command-not-found", ("executable file not found", "no such file or directory")),
    ("not-executable", ("exec format error", "permission denied")),
    ("runs-as-root", ("runasnonroot", "non-root", "non-numeric user")),
    ("read-only", ("read-only file system",)),
    ("name-in-use", ("is reserved for",)),
    ("device", ("device", "nvidia")),
)


def start_reason(text: str) -> str:
    """Why a container could not start, normalised."""
    lowered = text.lower()
    return next((reason for reason, marks in _STARTS if any(mark in lowered for mark in marks)), "other")
