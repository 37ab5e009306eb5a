"""What arrives at vendors: real libraries, local far sides, and nothing private in any byte of what those get."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from analyzers import ANALYZERS
from analyzers.stage import AnalyzerStage
from explainer.backends import make
from explainer.masking import Masker
from explainer.masking.incident import told
from explainer.prompts import ask
from kubewhy.contracts import Analyzer, Prompt, Rule
from kubewhy.kube.core import Pod
from kubewhy.records import Failure, Report, Severity
from kubewhy.related import Related
from tests.conformance.cases import NOW, load
from tests.models import VENDORS
from tests.models.far import Far, Vendor, serving
from tests.test_nothing_private import PLANTED, RENAMED, leaks, planted, reported, subjects

CARELESS = Rule("Careless", Severity.CRITICAL, "It says all that it sees")


def _careless(pod: Pod, related: Related) -> Iterator[Failure]:
    """Written without a thought for masking: a whole object for a message."""
    yield CARELESS.failure(msgspec.json.encode(pod).decode())
    for container in pod.spec.containers:
        yield CARELESS.failure(
            f"{pod.metadata.name} on {pod.spec.node_name} runs {container.image}", container=container.name
        )


CARELESS_ANALYZER: Analyzer[Any] = Analyzer(Pod, (CARELESS,), _careless)


def reports() -> Iterator[Report]:
    """One for each analyzer, and all that the careless one says of pods."""
    for analyzer in ANALYZERS:
        yield reported(next(case for case in load(analyzer) if case.expect))[1]
    pods = (analyzer for analyzer in ANALYZERS if analyzer.reads is Pod)
    for case in (case for analyzer in pods for case in load(analyzer)):
        yield from AnalyzerStage([CARELESS_ANALYZER]).feed(planted(case.evidence), NOW)


def prompts() -> list[Prompt]:
    found = []
    for report in reports():
        for subject in subjects(report):
            masker = Masker(b"key", (*told(subject.incident), *subject.names))
            found.append(ask(subject.incident, masker.mask, "English", lambda: "abcdefgh12").prompt)
    return found


PROMPTS = prompts()


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
async def test_nothing_planted_arrives_at_a_vendor(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in vendor.environ().items():
        monkeypatch.setenv(name, value)
    async with serving(Far(vendor)) as far:
        backend = make(vendor.settings(far.url), vendor.environ())
        for prompt in PROMPTS:
            await backend.complete(prompt)
        await backend.close()
    assert len(far.asked) == len(PROMPTS)
    for asked in (*far.asked, *far.besides):
        arrived = f"{asked.path} {dict(asked.headers)} {asked.body.decode()}"
        assert not leaks(arrived), arrived


def test_each_analyzer_and_a_careless_one_are_among_what_is_sent() -> None:
    """Else the tests above would look at nothing."""
    assert len(PROMPTS) > len(ANALYZERS)
    said = "".join(failure.message for report in reports() for failure in report.failures)
    assert {RENAMED["web"], RENAMED["shop"], PLANTED["address"], PLANTED["token"]} <= set(leaks(said))
    assert sum("Careless" in prompt.user for prompt in PROMPTS) > 50
