"""What a shell completes: commands, options, and the values of those."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def ask(shell: str, *words: str) -> list[str]:
    """What kubewhy tells that shell's script for the last word, in the words of click's protocol."""
    *_, last = words
    number = last if shell == "fish" else str(len(words) - 1)
    environ = {"_KUBEWHY_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": number}
    command = [sys.executable, "-m", "kubewhy"]
    told = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=True)
    assert told.stderr == ""
    lines = told.stdout.split("\n")
    if shell == "zsh":  # a line for the type, the word, and its help
        return [word for kind, word in zip(lines[::3], lines[1::3], strict=False) if kind]
    return [line.partition(",")[2].partition("\t")[0] for line in lines if line]


COMPLETIONS = [
    (["kubewhy", "ru"], ["run", "rules"]),
    (["kubewhy", "run", "--until"], ["--until-idle"]),
    (["kubewhy", "analyze", "-f", "de"], ["deployment"]),
    (["kubewhy", "run", "-f", "S"], ["service", "statefulset"]),
    (["kubewhy", "rules", "node", "cr"], ["cronjob"]),
    (["kubewhy", "run", "-o", "j"], ["json"]),
    (["kubewhy", "completion", "f"], ["fish"]),
    (["kubewhy", "analyze", "-f", "xyz"], []),
    (["kubewhy", "wh"], ["why"]),
    (["kubewhy", "backends", "add", "wat"], ["watsonx"]),
    (["kubewhy", "why", "st"], ["statefulset"]),
    (["kubewhy", "why", "pod", "s"], []),
    (["kubewhy", "analyze", "--w"], ["--wait"]),
]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(("words", "completed"), COMPLETIONS)
def test_a_word_is_completed(shell: str, words: list[str], completed: list[str]) -> None:
    assert ask(shell, *words) == completed


# The script asks `kubewhy` on the path, and leaves what it found in COMPREPLY.
BASH = """
eval "$(kubewhy completion bash)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
compopt() { echo "compopt $*"; }
$(complete -p kubewhy | sed 's/.*-F \\([^ ]*\\).*/\\1/') kubewhy
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "completed"), [*COMPLETIONS[:3], (["kubewhy", "run", "--from", "x"], ["compopt", "-o", "default"])]
)
def test_bash_completes_a_word_by_the_script(words: list[str], completed: list[str]) -> None:
    environ = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", BASH, "bash", *words]
    told = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == completed
    assert told.stderr == ""
