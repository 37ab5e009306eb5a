"""What stands for a name: `POD_k3f9b`, the same for the same name and key, and back again.

A sort in capitals, an underscore, and a tag of letters and digits without vowels: no object of Kubernetes can be called
so, and a model takes it for one word. What belongs to another begins with the other's tag.
"""

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b

TAG = "bcdfghjkmnpqrtvwxz23456789"  # without s, so that a plural can be told
SHORTEST, OWN = 5, 4
NAME, TEXT = "NAME", "TEXT"
SORTS = (
    "ARN",
    "AUTOSCALER",
    "CLAIM",
    "CLUSTER",
    "CONFIGMAP",
    "CONTAINER",
    "CREDENTIAL",
    "CRONJOB",
    "DAEMONSET",
    "DATA",
    "DEPLOYMENT",
    "DIGEST",
    "EMAIL",
    "HEX",
    "HOST",
    "ID",
    "IMAGE",
    "INGRESS",
    "IP",
    "JOB",
    "LABEL",
    "MAC",
    "NAME",
    "NAMESPACE",
    "NODE",
    "POD",
    "PRIVATEKEY",
    "REGISTRY",
    "REPLICASET",
    "SECRET",
    "SERVICE",
    "SERVICEACCOUNT",
    "STATEFULSET",
    "STORAGECLASS",
    "TEXT",
    "TOKEN",
    "UID",
    "USER",
    "VOLUME",
)
_SHORT = {"PERSISTENTVOLUMECLAIM": "CLAIM", "PERSISTENTVOLUME": "VOLUME", "HORIZONTALPODAUTOSCALER": "AUTOSCALER"}


def sort_word(sort: str) -> str:
    """A sort as placeholders spell it. One that could be taken for a tag is not used."""
    word = re.sub(r"[^A-Z]", "", sort.upper())
    word = _SHORT.get(word, word)
    return word if set(word[:SHORTEST].lower()) - set(TAG) else NAME


class Placeholders:
    """Makes them for one key, and remembers what each stands for. No two texts have the same."""

    def __init__(self, key: bytes, sorts: Iterable[str]) -> None:
        if not key:
            raise ValueError("names cannot be masked without a key")
        self._key = blake2b(key, digest_size=32).digest()
        self._texts: dict[str, str] = {}
        self._sorts: dict[str, str] = {}
        self._made: dict[tuple[str, bool], str] = {}
        words = sorted({*SORTS, *map(sort_word, sorts)}, key=lambda word: (-len(word), word))
        sorts_pattern = "|".join(words)
        self.lookalike = rf"(?i:(?:{sorts_pattern})(?:\\?_|-)[{TAG}]{{{SHORTEST},}})"
        self._placeholder = re.compile(
            rf"(?<![A-Za-z0-9])(?:{sorts_pattern})(?:\\?_|-)([{TAG}]{{{SHORTEST},}})(?=s?(?![A-Za-z0-9]))",
            re.IGNORECASE | re.ASCII,
        )

    def known(self, text: str) -> str | None:
        """What stands for a name already."""
        return self._made.get((text, False))

    def make(self, text: str, sort: str, base: str = "", *, secret: bool = False) -> str:
        """What stands for a text. `base` is the tag of what it belongs to. A secret that is a name too is another."""
        made = self._made.get((text, secret))
        if made is None:
            tag = self._tag(f"\0{text}" if secret else text, base)
            word = sort_word(sort)
            self._texts[tag], self._sorts[tag] = text, word
            made = self._made[text, secret] = f"{word}_{tag}"
        return made

    def put_back(self, text: str, told: Callable[[str, str], str]) -> str:
        """Every one that was made is told by its sort and the text it stands for, however it is spelt."""

        def back(found: re.Match[str]) -> str:
            tag = found[1].lower()
            return told(self._sorts[tag], self._texts[tag]) if tag in self._texts else found[0]

        return self._placeholder.sub(back, text)

    def strange(self, text: str) -> list[str]:
        """Those in it that were never made: a model has altered or invented them."""
        return [found[0] for found in self._placeholder.finditer(text) if found[1].lower() not in self._texts]

    def _tag(self, text: str, base: str) -> str:
        digest = blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()
        number, digits = int.from_bytes(digest, "big"), ""
        while number:
            number, digit = divmod(number, len(TAG))
            digits += TAG[digit]
        length = OWN if base else SHORTEST
        while base + digits[:length] in self._texts:
            length += 1
        return base + digits[:length]
