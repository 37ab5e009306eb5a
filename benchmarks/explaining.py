"""What explanations of the shipped recording cost: calls, and what leaves in them."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from analyzers import enabled
from benchmarks.cluster import Bench
from benchmarks.table import Row
from explainer.backends import make
from explainer.cache import Answers
from explainer.wanting import Wanted
from kubewhy.cli.report import report
from kubewhy.runtime.asking import explain, questions
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.choosing import Choice
from kubewhy.runtime.explaining import Explainer
from kubewhy.runtime.oneshot import analyze_recording
from tests.models.far import Asked, Far, serving
from tests.models.openai import OpenAI

RECORDING = Path(__file__).parents[1] / "docs" / "examples" / "broken-shop.kwrec"
BYTES_A_TOKEN = 3  # at least, in English and in placeholders
MOST_TOKENS = 2000
ANSWER = {"cause": "it lacks memory", "why": "it is down", "fix": ["raise it"], "verify": [], "confidence": "high"}


def explaining(bench: Bench) -> Iterator[Row]:
    """Against one call for each object that something is wrong with, which is what others make."""
    analysis = analyze_recording(RECORDING, enabled())
    wanted = questions(analysis)
    results = len({(each.kind, each.namespace, each.name) for each in report(analysis).diagnoses})
    with TemporaryDirectory() as folder:
        cache = Answers(Path(folder, "answers.sqlite"), lambda: datetime.now(UTC))
        asked, again = asyncio.run(_asked(wanted, cache))
    ratio = len(asked) / results
    yield Row(
        "explaining the broken shop",
        f"{len(asked)} calls for {len(wanted)} incidents",
        f"{ratio:.2f} x one call a result ({results})",
        "at most 1 x",
        ratio <= 1,
    )
    largest = max(map(_prompt_bytes, asked)) / BYTES_A_TOKEN
    mean = sum(map(_prompt_bytes, asked)) / BYTES_A_TOKEN / len(asked)
    figure = f"{mean:,.0f} tokens an incident, {largest:,.0f} at most"
    bound = f"{largest / MOST_TOKENS:.2f} of the limit"
    yield Row("what is asked", figure, bound, f"at most {MOST_TOKENS:,}", largest <= MOST_TOKENS)
    yield Row("what leaves", f"{sum(len(each.body) for each in asked) / len(asked):,.0f} B an incident")
    yield Row("explaining it again", f"{again} calls", "answers that are kept", "0", again == 0)


def _prompt_bytes(asked: Asked) -> int:
    return sum(len(each["content"].encode()) for each in asked.json["messages"])


async def _asked(wanted: Sequence[Wanted], cache: Answers) -> tuple[list[Asked], int]:
    """What arrives at the model, and how much when the same is asked for again."""
    vendor = OpenAI()
    async with serving(Far(vendor, json.dumps(ANSWER))) as far:
        counts = []
        for _ in range(2):
            choice = Choice(make(vendor.settings(far.url), vendor.environ()), "m")
            calls = Calls(Explainer([choice], lambda: datetime.now(UTC), b"k" * 32, cache=cache))
            await explain(wanted, calls)
            await calls.close()
            counts.append(len(far.asked))
        return far.asked[: counts[0]], counts[1] - counts[0]
