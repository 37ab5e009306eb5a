"""Draws what the commands print about the shipped recording, for the README: python -m infra.pictures FOLDER."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from infra import slack_picture
from infra.watch_or_replay import RECORDING

_WIDTH = 132
_LINES = 40


def draw(command: str, *args: str) -> str:
    """The first lines of a command's own output, as SVG."""
    colours = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(_WIDTH)}
    told = subprocess.run(
        [sys.executable, "-m", "kubewhy", command, "--from", RECORDING, *args],
        capture_output=True,
        check=True,
        text=True,
        env=colours,
    ).stdout
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text("\n").join(Text.from_ansi(told).split()[:_LINES]))
    picture = console.export_svg(title=f"kubewhy {command}", unique_id=f"kubewhy-{command}")
    # Without the fonts that it would fetch from elsewhere.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def draw_all() -> dict[str, str]:
    """Each picture by its file's name."""
    return {
        "analyze.svg": draw("analyze"),
        "run.svg": draw("run", "-o", "text"),
        "slack.svg": slack_picture.draw(),
        "why.svg": draw("why", "deploy/pricing"),
    }


if __name__ == "__main__":
    for name, picture in draw_all().items():
        (Path(sys.argv[1]) / name).write_text(picture, encoding="utf-8")
