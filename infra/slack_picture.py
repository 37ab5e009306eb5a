"""Draws an incident of the shipped recording as Slack shows it: as it opens, is explained, and is over."""

import html
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.watch_or_replay import RECORDING
from kubewhy.records import Explanation, Finding
from sinks.slack.blocks import Message, message
from sinks.slack.look import Look

_WIDTH = 108
_ROOT = "payment-gateway"
# What a model may say of it: the recording asks none.
_EXPLANATION = Explanation(
    cause="The Deployments of checkout read a Secret payment-gateway that does not exist in their namespace.",
    why="Nobody can pay: no new pod of checkout can start.",
    fix=("Find out who was to create the Secret, and why it is not there.", "Create it with the key that they read."),
    verify=("kubectl get secrets -n checkout",),
    confidence="high",
    language="English",
    backend="bedrock",
    model="a model",
    input_tokens=812,
    output_tokens=143,
    cost=None,
    cached=False,
)
_BAR = Box("▌   \n" * 8)
_MARKUP = re.compile(
    r"```\n(?P<block>.*?)\n```|\*(?P<bold>[^*\n]+)\*|`(?P<code>[^`\n]+)`|<[^|>]*\|(?P<words>[^>]*)>", re.DOTALL
)
_STYLES = {"block": "cyan", "bold": "bold", "code": "cyan", "words": "blue"}


def draw() -> str:
    """As SVG."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for finding in _findings():
        console.print(_drawn(message(finding, Look())))
    picture = console.export_svg(title="#alerts", unique_id="kubewhy-slack")
    # Without the fonts that it would fetch from elsewhere.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def _findings() -> Iterator[Finding]:
    run = [sys.executable, "-m", "kubewhy", "run", "--from", str(RECORDING)]
    lines = subprocess.run(run, capture_output=True, check=True).stdout.splitlines()
    told = [msgspec.json.decode(line, type=Finding) for line in lines]
    found = {each.transition: each for each in told if each.incident.root.name == _ROOT}
    yield found["opened"]
    yield msgspec.structs.replace(found["updated"], transition="explained", explanation=_EXPLANATION)
    yield msgspec.structs.replace(found["resolved"], explanation=_EXPLANATION)


def _drawn(told: Message) -> RenderableType:
    attachment = told["attachments"][0]
    header = told["blocks"][-1]["text"]["text"]
    parts = [part for block in attachment["blocks"] for part in (*_block(block), Text())]
    bar = Panel(Group(*parts[:-1]), box=_BAR, border_style=attachment["color"], padding=(0, 1))
    return Group(Text(header, style="bold"), bar, Text())


def _block(block: dict[str, Any]) -> Iterator[RenderableType]:
    if "fields" in block:
        grid = Table.grid("", "", "", padding=(0, 6), pad_edge=False)
        cells = [_text(each["text"]) for each in block["fields"]]
        for at in range(0, len(cells), 3):
            grid.add_row(*cells[at : at + 3])
        yield grid
    elif "elements" in block:
        for each in block["elements"]:
            yield Text(_text(each["text"]).plain, style="dim")
    else:
        yield _text(block["text"]["text"])


def _text(markup: str) -> Text:
    """As Slack shows it."""
    shown, at = Text(), 0
    for found in _MARKUP.finditer(markup):
        shown.append(html.unescape(markup[at : found.start()]))
        shown.append(html.unescape(found[found.lastgroup or 0]), style=_STYLES[found.lastgroup or ""])
        at = found.end()
    return shown.append(html.unescape(markup[at:]))
