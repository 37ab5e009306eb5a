"""Which commands only look: kubectl's reading verbs, with flags that lead nowhere else, and nothing for a shell."""

import re
from collections.abc import Collection

_LONGEST, _FEW = 300, 3
_PLAIN = re.compile(r"[A-Za-z0-9 ._:/=,@%+\[\]-]+", re.ASCII)
_ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/,@-]*", re.ASCII)
_VERBS = {
    ("get",),
    ("describe",),
    ("logs",),
    ("top", "pod"),
    ("top", "pods"),
    ("top", "node"),
    ("top", "nodes"),
    ("explain",),
    ("events",),
    ("rollout", "status"),
    ("rollout", "history"),
    ("auth", "can-i"),
    ("api-resources",),
    ("api-versions",),
    ("version",),
}
# True: the flag takes a value.
_FLAGS = {
    "-n": True,
    "--namespace": True,
    "-A": False,
    "--all-namespaces": False,
    "-l": True,
    "--selector": True,
    "--field-selector": True,
    "-o": True,
    "--output": True,
    "-c": True,
    "--container": True,
    "--containers": False,
    "--all-containers": False,
    "-p": False,
    "--previous": False,
    "--tail": True,
    "--since": True,
    "--timestamps": False,
    "--limit-bytes": True,
    "--prefix": False,
    "--sort-by": True,
    "--show-labels": False,
    "--no-headers": False,
    "--ignore-not-found": False,
    "--for": True,
    "--types": True,
    "--list": False,
    "--recursive": False,
    "--api-version": True,
    "--namespaced": False,
    "--client": False,
    "--revision": True,
    "--timeout": True,
    "--watch": False,
}
_OUTPUTS = {"wide", "name", "json", "yaml"}
_SECRET = re.compile(r"(?:^|,)secrets?(?:[./,].*)?$", re.IGNORECASE)
_ONLY_LOGS = {"-f": False, "--follow": False}


def allowed(command: str) -> bool:
    """Whether it can be run as it stands, and changes, sends and reveals nothing."""
    if len(command) > _LONGEST or not _PLAIN.fullmatch(command):
        return False
    words = command.split(" ")
    if words[0] != "kubectl" or "" in words:
        return False
    verb = next((verb for verb in _VERBS if tuple(words[1 : 1 + len(verb)]) == verb), None)
    if verb is None:
        return False
    rest = _arguments(words[1 + len(verb) :], {**_FLAGS, **_ONLY_LOGS} if verb == ("logs",) else _FLAGS)
    if rest is None:
        return False
    arguments, outputs = rest
    shows_data = any(output in {"json", "yaml"} for output in outputs) and any(map(_SECRET.search, arguments))
    return len(arguments) <= _FEW and all(output in _OUTPUTS for output in outputs) and not shows_data


def _arguments(words: list[str], flags: dict[str, bool]) -> tuple[list[str], list[str]] | None:
    """The arguments and the forms of output. None where something is not known to be harmless."""
    arguments: list[str] = []
    outputs: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-"):
            if not _ARGUMENT.fullmatch(word) or word == "kubectl":
                return None
            arguments.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in flags or (equals and not value):
            return None
        if flags[flag] and not equals:
            value = next(waiting, "-")
            if value.startswith("-"):
                return None
        if flag in {"-o", "--output"}:
            outputs.append(value)
    return arguments, outputs


# In prose a command ends with its line, its quotes, or the sentence.
_END = r"[^\n`]*?(?=`|\n|$|\bkubectl\b|[.!?] (?-i:[A-Z]))"
_KUBECTL = re.compile(
    rf"\bkubectl(?:-\w+)?[ \t]+(?!(?:to|and|or|is|can|as|with|for|from|command|output|client|version \w+ is)\b){_END}",
    re.IGNORECASE,
)
# Words that are English as well count only with what makes them a command.
_OTHERS = re.compile(
    r"(?<![\w-])(?:sudo|eval|bash|zsh|sh|curl|wget|nc|ncat|ssh|scp|rm|dd|chmod|chown|mkfs\S*|nsenter|chroot|python\d?"
    r"|perl|ruby|php|pwsh|powershell|iex|invoke-\w+|helm|docker|nerdctl|crictl|aws|gcloud|terraform|etcdctl|base64|xargs"
    r"|iptables|systemctl|pkill|crontab|npm|pip|apt|apt-get|yum|dnf)"
    r"[ \t]+(?:-|/|~|\.|\$|\"|'|[\w.]*[/:|=]|(?:install|uninstall|delete|rm|run|exec|apply|clone|upgrade|destroy)\b)"
    + _END,
    re.IGNORECASE,
)
_SHELL = re.compile(
    r"\$\([^)\n]*\)?|\$\{[^}\n]*\}?"
    r"|(?:(?<![^\n])|(?<=[`|;&]))[^\n`|;&]*(?:\|\||&&|;|\|)[ \t]*(?:sh|bash|sudo|rm|curl|nc|python\d?)\b[^\n`]*"
)
_PROSE = re.compile(r"(?:[\s\w.,:()'\"*]|\b-\b)*")


def without_commands(text: str, ours: Collection[str], instead: str) -> str:
    """The text, without any command that is neither ours nor only looks."""

    def checked(found: re.Match[str]) -> str:
        command = found[0]
        ends = [each.end() for each in re.finditer(r"[^\s.,;:!?)\"'*](?=[.,;:!?)\"'*]*(?:\s|$))", command[:_LONGEST])]
        told = [*(each for each in ours if command.startswith(each)), *(command[:end] for end in ends)]
        safe = any((each in ours or allowed(each)) and _PROSE.fullmatch(command, len(each)) for each in told)
        return command if safe else instead

    for pattern in (_SHELL, _OTHERS, _KUBECTL):
        text = pattern.sub(checked, text)
    return text
