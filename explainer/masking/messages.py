"""How Kubernetes' own messages name objects, so that names are masked which nobody has told us of."""

import re

from explainer.masking import hosts
from explainer.masking.commonplace import EVERYWHERE, SHARED, UNSAID, WORDS
from explainer.masking.hosts import Part
from explainer.masking.placeholders import NAME
from explainer.masking.scanning import Scanner

# What each sort is called in messages and on command lines. RE2's patterns.
KINDS = {
    "NAMESPACE": "namespaces?|ns",
    "POD": "pods?|po",
    "DEPLOYMENT": "deployments?|deploy",
    "STATEFULSET": "stateful ?sets?|sts",
    "DAEMONSET": "daemon ?sets?|ds",
    "REPLICASET": "replica ?sets?|rs",
    "JOB": "jobs?",
    "CRONJOB": "cron ?jobs?|cj",
    "SERVICE": "services?|svc",
    "NODE": "nodes?",
    "CONTAINER": "(?:init )?containers?",
    "IMAGE": "images?",
    "SECRET": "secrets?",
    "CONFIGMAP": "config ?maps?|cm",
    "CLAIM": "claims?|persistent ?volume ?claims?|pvcs?",
    "VOLUME": "volumes?|persistent ?volumes?|pvs?",
    "SERVICEACCOUNT": "service ?accounts?|sa",
    "STORAGECLASS": "storage ?class(?:es)?|sc",
    "INGRESS": "ingress(?:es)?",
    "HOST": "hosts?|host ?names?",
    "USER": "users?",
}
_OBJECT = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_UNUSUAL = r"(?:[0-9]|[A-Za-z][A-Za-z.]*(?:[0-9]|-[A-Za-z0-9]))(?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_IMAGE = r"[A-Za-z0-9](?:[A-Za-z0-9._:/@-]*[A-Za-z0-9])?"
_PREFIXED = re.compile(
    r"(?i)(?:anti|auto|co|ex|in|inter|intra|multi|non|out|post|pre|re|read|run|self|semi|sub|up|un|well)-|v?[\d.%]+[a-z]{0,2}\Z"
)
_VERSION = re.compile(r"latest|stable|v?\d{1,3}(?:\.\d+){0,2}")

NAMESPACE_FLAG = r"(?:\B-n|--namespace)[ \t=]"

# Each is a pattern of what is hidden, its sort, and a pattern of the head that stays.
MENTIONS = [
    *(
        (_OBJECT, sort, rf"(?i:\b(?:{kinds})(?:\.[a-z0-9.]+)?:?[ \t]+\\*[\"'`])")
        for sort, kinds in KINDS.items()
        if sort not in {"IMAGE", "USER"}
    ),
    *(
        (_OBJECT, sort, rf"(?i:\b(?:{kinds})\\*[\"']?(?:=|:\\*[\"'])\\*[\"']?)")
        for sort, kinds in KINDS.items()
        if sort not in {"IMAGE", "USER", "SECRET", "HOST"}
    ),
    (_OBJECT, "NODE", r"(?i:\b(?:on|to|from) node[ \t]+)"),
    (_OBJECT, "STORAGECLASS", r"(?i:\b(?:storage|in) ?class[ \t]+)"),
    (r"[A-Za-z0-9 .-]*[A-Za-z0-9]", "VOLUME", r"(?i:\bvolumes=\[)"),
    (r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?", "NAMESPACE", NAMESPACE_FLAG),
]
# Without quotes it is a name only if it does not read like a word: see `unusual`.
UNQUOTED = [
    (_UNUSUAL, sort, rf"(?i:\b(?:{kinds})(?:\(s\))?[ \t]+)")
    for sort, kinds in KINDS.items()
    if sort not in {"IMAGE", "USER", "HOST", "NAMESPACE"}
]
USER_HEAD, USER = r"(?i:\busers?[ \t]+\\*[\"'])", r"[A-Za-z0-9:._@-]*[A-Za-z0-9]"

IMAGE_HEAD = r"(?i:\b(?:(?:pulling[ \t]+)?images?|resolve reference|repository)\\*[\"']?(?:[ \t]+|=|:[ \t]*)\\*[\"'`]?)"
IMAGE = rf"{IMAGE_HEAD}{_IMAGE}"
REGISTRIES = r"docker\.io|quay\.io|ghcr\.io|gcr\.io|k8s\.gcr\.io|registry\.k8s\.io|mcr\.microsoft\.com|public\.ecr\.aws"
IMAGE_OF_ALL = rf"\b(?:(?:registry-1|index)\.)?(?:{REGISTRIES}|nvcr\.io)/[A-Za-z0-9](?:[A-Za-z0-9._:/@-]*[A-Za-z0-9])?"
PAIR = rf"(?i:\b(?:{'|'.join(KINDS.values())})\\*[\"']?(?:[ \t]+|=|:[ \t]*)\\*[\"'`]?){_OBJECT}/{_OBJECT}"
ASSIGNED = rf"(?i:\bassigned[ \t]+){_OBJECT}/{_OBJECT}(?i:[ \t]+to[ \t]+){_OBJECT}"
LOG_NAME = rf"(?:\bpod=\\*[\"']?)?{_OBJECT}_{_OBJECT}\([0-9A-Fa-f-]{{36}}\)"
ACCOUNT = rf"\bsystem:serviceaccounts?:{_OBJECT}(?::{_OBJECT})?"


def named(text: str) -> bool:
    """Whether it is worth masking: not what every cluster has, and neither a version nor a small number."""
    lower = text.lower()
    return lower not in EVERYWHERE and lower not in SHARED and lower not in UNSAID and _VERSION.fullmatch(text) is None


def unusual(text: str) -> bool:
    """Whether what has a digit or a hyphen reads like a name, and not like a word of English or an amount."""
    return named(text) and _PREFIXED.match(text) is None


def unspoken(text: str) -> bool:
    """Whether it is no common word."""
    return named(text) and text.lower() not in WORDS


def image_parts(image: str) -> list[tuple[int, int, str]]:
    """Of an image's name: the registry, the path and the tag, as far as they are somebody's own."""
    parts: list[Part] = []
    path = image.partition("@")[0]
    tagged = ":" in path.rpartition("/")[2]
    end = path.rfind(":") if tagged else len(path)
    first = path.partition("/")[0]
    start = 0
    if len(first) < len(path) and ("." in first or ":" in first or first == "localhost"):
        host = first.partition(":")[0]
        parts += hosts.parts(host, sure=True)
        start = len(first) + 1
    if start < end:
        parts.append((start, end, "IMAGE"))
    if tagged and not _VERSION.fullmatch(path[end + 1 :]):
        parts.append((end + 1, len(path), "LABEL"))
    return parts


def image(surface: str) -> list[Part]:
    """What stands where an image would: something of one plain word is none."""
    start = Scanner(IMAGE_HEAD, longest=False).head(surface.encode("latin-1"))
    text = surface[start:]
    if not re.search(r"[/:@\"'`]", surface[start - 1 :]) or text.lower() in WORDS:
        return []
    return [(begin + start, end + start, sort) for begin, end, sort in image_parts(text)]


def log_name(surface: str) -> list[Part]:
    """A pod as kubelets write it: NAME_NAMESPACE(UID)."""
    start = len(surface) - len(re.sub(r"^pod=\W*", "", surface))
    middle, end = surface.index("_", start), len(surface) - 38
    parts = [(start, middle, "POD"), (end + 1, len(surface) - 1, "UID")]
    return [*parts, (middle + 1, end, "NAMESPACE")] if named(surface[middle + 1 : end]) else parts


def pair(surface: str) -> list[Part]:
    """NAMESPACE/NAME after the kind."""
    slash = surface.index("/")
    start = max(surface.rfind(each, 0, slash) for each in " \t=:\"'`") + 1
    namespace, name = surface[start:slash], surface[slash + 1 :]
    if namespace.lower() in WORDS and name.lower() in WORDS:
        return []
    parts = [(slash + 1, len(surface), NAME)] if named(name) else []
    return [(start, slash, "NAMESPACE"), *parts] if named(namespace) else parts


def assigned(surface: str) -> list[Part]:
    """What the scheduler says: assigned NAMESPACE/POD to NODE."""
    before, to, _ = re.split(r"(?i)(\s+to\s+)", surface)
    return [*pair(before), (len(before) + len(to), len(surface), "NODE")]


def account(surface: str) -> list[Part]:
    """A service account as the API server names it: system:serviceaccount:NAMESPACE:NAME."""
    start = surface.index(":", 7) + 1
    namespace, _, name = surface[start:].partition(":")
    parts = [(start, start + len(namespace), "NAMESPACE")] if named(namespace) else []
    if name and named(name):
        parts.append((len(surface) - len(name), len(surface), "SERVICEACCOUNT"))
    return parts
