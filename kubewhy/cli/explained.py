"""What a model says of an incident, in lines."""

from collections.abc import Iterator

from rich.text import Text

from kubewhy.plain import clean
from kubewhy.records import Explanation


def words(explanation: Explanation, *, briefly: bool = False) -> Iterator[Text]:
    """The cause, unless briefly why it matters, and what to do. Pure."""
    yield Text(clean(explanation.cause))
    if explanation.why and not briefly:
        yield Text(clean(explanation.why))
    for number, step in enumerate(explanation.fix, 1):
        yield Text(f"{number}. {clean(step)}")


def commands(explanation: Explanation) -> Iterator[Text]:
    """What looks closer."""
    for command in explanation.verify:
        yield Text(clean(command), style="cyan")


def source(explanation: Explanation) -> Text:
    """Whose words these are, and what they cost."""
    told = f"{clean(explanation.model)} by {clean(explanation.backend)}, confidence {clean(explanation.confidence)}"
    if explanation.cached:
        told += ", answered before"
    elif explanation.cost is not None:
        told += f", ${explanation.cost:.4f}"
    return Text(f"({told})", style="dim")
