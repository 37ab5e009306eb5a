"""Models asked about incidents: with a real SDK, against a server that speaks its vendor's format."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from explainer.backends import make
from explainer.cache import Answers
from explainer.wanting import SETTLED
from kubewhy.contracts import Completion
from kubewhy.errors import RetryLater
from kubewhy.records import Finding, Tick
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.choosing import FAILURES, HALF_OPEN, Budget, Choice, Price
from kubewhy.runtime.explaining import Explainer
from kubewhy.runtime.state import SqliteState
from tests.models.far import INPUT_TOKENS, OUTPUT_TOKENS, Asked, Far, Reply, Trouble, half, serving, silent, whole
from tests.models.openai import OpenAI
from tests.test_incidents import START, Clock, broken
from tests.test_run import EXAMPLE, kubewhy

ANSWER = {
    "cause": "the program in it runs out of memory",
    "why": "the shop does not answer",
    "fix": ["raise its memory limit"],
    "verify": ["kubectl describe pod a -n shop", "kubectl delete pod a -n shop"],
    "confidence": "high",
}
ASKED = Asked("POST", "/", {}, b"{}")


class Told(Clock):
    """Incidents that a model is asked about, with the calls as the runtime makes them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(explain=True, **options)

    async def explained(self, calls: Calls) -> list[str]:
        """What is told once all that is wanted was asked."""
        calls.start(self.stage.wanted(self.now))
        while await calls.first():
            pass
        return [each for answer in calls.take() for each in self.feed(answer)]  # type: ignore[arg-type]

    @property
    def last(self) -> Finding:
        return self.findings[-1]


@asynccontextmanager
async def asking(
    clock: Told, *, cache: Path | None = None, seconds: float = 5, **more: Any
) -> AsyncIterator[tuple[Far, Calls]]:
    vendor = OpenAI()
    async with serving(Far(vendor, json.dumps(ANSWER))) as far:
        backend = make(vendor.settings(far.url, timeout_seconds=seconds), vendor.environ())
        choice = Choice(backend, "model-7", Price(1.0, 10.0))
        explainer = Explainer([choice], lambda: clock.now, b"k" * 32, draw=lambda: "abcdefgh12", **more)
        if cache:
            explainer.cache = Answers(cache, lambda: clock.now)
        calls = Calls(explainer)
        try:
            yield far, calls
        finally:
            await calls.close()


@pytest.fixture
def clock() -> Told:
    told = Told()
    told.say("Pod shop/a", broken("oom", message="killed at 10.2.3.4 by admin@example.com"))
    told.wait(SETTLED.total_seconds())
    return told


async def test_an_incident_is_explained_in_the_same_incident(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        assert await clock.explained(calls) == ["explained Pod shop/a"]
        assert await clock.explained(calls) == []
    opened, explained = clock.findings
    assert (explained.incident.id, explained.revision) == (opened.incident.id, 2)
    told = explained.explanation
    assert told
    assert told.cause == ANSWER["cause"]
    assert told.verify == ("kubectl describe pod a -n shop",), "no command that changes anything"
    assert (told.backend, told.model, told.cached) == ("openai", "model-7", False)
    assert told.cost == pytest.approx((INPUT_TOKENS * 1 + OUTPUT_TOKENS * 10) / 1e6)
    assert len(far.asked) == 1


async def test_what_is_private_does_not_leave(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        await clock.explained(calls)
    body = far.asked[0].body.decode()
    for private in ("shop", "10.2.3.4", "admin", "example.com"):
        assert private not in body


async def test_nothing_is_asked_before_what_follows_has_come(clock: Told) -> None:
    clock.say("Pod shop/b", broken("oom"))
    assert [each.look().incident.root.name for each in clock.stage.wanted(clock.now)] == ["a"]
    clock.wait(5)
    assert [each.look().incident.root.name for each in clock.stage.wanted(clock.now)] == ["a", "b"]


async def test_a_hundred_replicas_cost_one_call() -> None:
    clock = Told()
    async with asking(clock) as (far, calls):
        for number in range(100):
            clock.say(f"Pod shop/a-{number}", broken(), root="Deployment shop/a")
            if not number % 10:
                clock.wait(10)
                await clock.explained(calls)
        clock.wait(600)
        await clock.explained(calls)
        assert len(far.asked) == 1
    assert [each.transition for each in clock.findings].count("opened") == 1


async def test_what_is_still_so_is_not_asked_about_again_nor_after_a_restart(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        await clock.explained(calls)
        for _ in range(24):
            clock.restart()
            clock.wait(60)
            clock.say("Pod shop/a", broken("oom", message=f"killed at {clock.now}"))
            assert await clock.explained(calls) == []
        assert len(far.asked) == 1
    clock.say("Pod shop/a")
    assert clock.last.transition == "resolved"
    assert clock.last.explanation, "the end of a message keeps its other half"


async def test_trouble_of_another_sort_is_asked_about(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        await clock.explained(calls)
        clock.say("Pod shop/a", broken("oom"), broken("probe"))
        clock.wait(30)
        assert await clock.explained(calls) == ["explained Pod shop/a"]
        assert len(far.asked) == 2


async def test_an_answer_about_what_has_become_something_else_is_dropped(clock: Told) -> None:
    async with asking(clock) as (_, calls):
        await calls.round(clock.stage.wanted(clock.now))
        clock.say("Pod shop/a", broken("oom"), broken("probe"))
        assert [each for answer in calls.take() for each in clock.feed(answer)] == []  # type: ignore[arg-type]
        assert await clock.explained(calls) == ["explained Pod shop/a"]


async def test_an_answer_after_the_end_is_dropped(clock: Told) -> None:
    async with asking(clock) as (_, calls):
        await calls.round(clock.stage.wanted(clock.now))
        clock.say("Pod shop/a")
        assert [each for answer in calls.take() for each in clock.feed(answer)] == []  # type: ignore[arg-type]
    assert list(clock.stage.wanted(clock.now)) == []


async def test_what_is_silenced_is_asked_about_never() -> None:
    clock = Told()
    clock.say("Pod shop/a", broken(), ignore="*")
    clock.wait(60)
    assert list(clock.stage.wanted(clock.now)) == []


@pytest.mark.parametrize(
    "fault",
    [
        "no JSON at all",
        "{}",
        json.dumps({**ANSWER, "confidence": "sure"}),
        json.dumps({**ANSWER, "cause": " "}),
        "[" * 9000,
    ],
)
async def test_an_answer_that_does_not_fit_is_asked_for_once_more(clock: Told, fault: str) -> None:
    async with asking(clock) as (far, calls):
        far.then(far.vendor.answer(ASKED, fault))
        assert await clock.explained(calls) == ["explained Pod shop/a"]
        assert len(far.asked) == 2
        assert "no use" in far.asked[1].body.decode()
    assert clock.last.explanation
    assert clock.last.explanation.input_tokens == 2 * INPUT_TOKENS


async def test_answers_that_do_not_fit_cost_little_and_one_that_does_is_taken(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        far.text = "I am sorry"
        for _ in range(360):
            assert await clock.explained(calls) == []
            clock.wait(10)
        assert len(far.asked) <= 16
        far.text = json.dumps(ANSWER)
        clock.wait(900)
        assert await clock.explained(calls) == ["explained Pod shop/a"]
    assert [each.transition for each in clock.findings] == ["opened", "explained"]


async def test_an_answer_in_a_fence_is_taken(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        far.text = f"```json\n{json.dumps(ANSWER)}\n```"
        assert await clock.explained(calls) == ["explained Pod shop/a"]


async def test_an_hour_of_refusals_ends_in_an_explanation_and_no_second_message(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        good = far.vendor.answer(ASKED, json.dumps(ANSWER))
        refusals = (far.vendor.refusal(each) for each in (Trouble.THROTTLED, Trouble.OVERLOADED, Trouble.WRONG_KEY))
        faults = [*(whole(each) for each in refusals if each), half(good), whole(Reply(200, b"<html>"))]
        for step in range(360):
            far.scripts[:] = [faults[step % len(faults)]]
            clock.wait(10)
            assert await clock.explained(calls) == []
        far.scripts.clear()
        clock.wait(61)
        assert await clock.explained(calls) == ["explained Pod shop/a"]
        assert 30 < len(far.asked) < 200
    assert [each.transition for each in clock.findings] == ["opened", "explained"]


async def test_a_backend_that_fails_is_left_alone_and_tried_again_within_a_minute(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        choice = calls._explainer.choices[0]
        for _ in range(FAILURES):
            far.then(far.vendor.refusal(Trouble.OVERLOADED))
            with pytest.raises(RetryLater):
                await calls._explainer.explain(next(clock.stage.wanted(clock.now)).look())
        with pytest.raises(RetryLater):
            await calls._explainer.explain(next(clock.stage.wanted(clock.now)).look())
        assert len(far.asked) == FAILURES
        assert timedelta(0) < HALF_OPEN <= timedelta(seconds=60)
        clock.wait(HALF_OPEN.total_seconds())
        assert await calls._explainer.explain(next(clock.stage.wanted(clock.now)).look())
        assert choice.shut_until is None


async def test_the_next_backend_answers_where_one_fails(clock: Told) -> None:
    async with asking(clock) as (first, calls), asking(clock) as (second, others):
        both = [*calls._explainer.choices, *others._explainer.choices]
        explainer = Explainer(both, lambda: clock.now, b"k" * 32)
        first.then(first.vendor.refusal(Trouble.WRONG_KEY))
        told = await explainer.explain(next(clock.stage.wanted(clock.now)).look())
        assert told
        assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_a_spent_budget_is_said_once_and_opens_the_next_day(
    clock: Told, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(tokens=INPUT_TOKENS)
    async with asking(clock, budget=budget) as (far, calls):
        await clock.explained(calls)
        clock.say("Pod shop/b", broken("probe"))
        for _ in range(5):
            clock.wait(120)
            await clock.explained(calls)
        assert len(far.asked) == 1
        assert caplog.text.count("budget") == 1
        clock.wait(86400 - (clock.now - START).total_seconds())
        clock.wait(60)
        assert await clock.explained(calls) == ["explained Pod shop/b"]


async def test_what_was_spent_is_remembered_across_a_restart(clock: Told, tmp_path: Path) -> None:
    with closing(SqliteState(tmp_path / "state")) as state:
        async with asking(clock, budget=Budget(tokens=INPUT_TOKENS)) as (far, calls):
            await clock.explained(calls)
            calls.spent(state)
        clock.say("Pod shop/b", broken("probe"))
        clock.wait(120)
        async with asking(clock, budget=Budget(tokens=INPUT_TOKENS)) as (far, calls):
            calls.restore(state)
            assert await clock.explained(calls) == []
            assert not far.asked


async def test_the_same_question_at_the_same_time_is_asked_once(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        subject = next(clock.stage.wanted(clock.now)).look()
        first, second = await asyncio.gather(calls._explainer.explain(subject), calls._explainer.explain(subject))
        assert first
        assert second
        assert len(far.asked) == 1
        assert (first.cached, second.cached) == (False, True)
        assert (first.cause, first.cost is None, second.cost) == (second.cause, False, None)


async def test_an_answer_is_found_again_after_everything_else_was_lost(clock: Told, tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    async with asking(clock, cache=file) as (far, calls):
        await clock.explained(calls)
        again = Told()
        again.say("Pod shop/a", broken("oom", message="killed at 10.2.3.4 by admin@example.com"))
        again.wait(5)
        calls._explainer.cache = Answers(file, lambda: again.now)
        assert await again.explained(calls) == ["explained Pod shop/a"]
        assert len(far.asked) == 1
    assert again.last.explanation
    assert again.last.explanation.cached
    assert file.stat().st_mode & 0o777 == 0o600


async def test_names_come_back_to_people_and_stay_masked_in_the_cache(clock: Told, tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    async with asking(clock, cache=file) as (far, calls):

        def repeat(asked: Asked) -> Reply:
            root = next(line for line in asked.json["messages"][-1]["content"].splitlines() if line.startswith("root"))
            return far.vendor.answer(asked, json.dumps({**ANSWER, "cause": root, "verify": []}))

        clock.say("Pod bigshop/cart", broken("oom"))
        clock.wait(5)
        far.answering = repeat
        await clock.explained(calls)
    found = [each.explanation.cause for each in clock.findings if each.explanation]
    assert sorted(found) == ["root: Pod bigshop/cart", "root: Pod shop/a"]
    kept = file.read_bytes()
    assert b"root: Pod" in kept
    assert b"bigshop" not in kept


async def test_the_cache_forgets_what_is_old_and_what_is_too_much(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    answers = Answers(tmp_path / "a", lambda: now[0], age=timedelta(days=2), limit=100)
    for number in range(4):
        now[0] += timedelta(seconds=1)
        await answers.put("b", "m", "English", f"{number}", Completion("x" * 40, "m", 1, 1))
    assert [each.text for each in answers.entries()] == ["x" * 40] * 2
    assert await answers.get("b", "m", "English", "3") == Completion("x" * 40, "m", 1, 1)
    assert await answers.get("b", "m", "German", "3") is None
    now[0] += timedelta(days=2)
    assert await answers.get("b", "m", "English", "3") is None


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
async def test_a_cache_of_no_use_is_said_once(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a"
    if content:
        file.write_bytes(content)
    else:
        file.mkdir()
    answers = Answers(file, lambda: START)
    for _ in range(3):
        await answers.put("b", "m", "English", "1", Completion("x", "m", 1, 1))
        assert await answers.get("b", "m", "English", "1") is None
    assert answers.entries() == []
    assert caplog.text.count("no cache of answers") == 1


async def test_a_model_that_says_nothing_holds_up_nothing(clock: Told) -> None:
    async with asking(clock) as (far, calls):
        far.then(silent)
        calls.start(clock.stage.wanted(clock.now))
        assert clock.say("Pod shop/b", broken()) == ["opened Pod shop/b"]
        assert clock.feed(Tick()) == []
        assert calls.running


async def test_run_explains_the_broken_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    async with serving(Far(OpenAI("vllm"), json.dumps(ANSWER))) as far:
        config = tmp_path / "kubewhy.yaml"
        config.write_text(f"explain: {{backends: [{{type: vllm, model: model-7, url: '{far.url}/v1'}}]}}")
        first = await kubewhy("run", "--from", EXAMPLE, "--config", config)
        calls = len(far.asked)
        second = await kubewhy("run", "--from", EXAMPLE, "--config", config)
    assert (first.status, first.err, second.status) == (0, "", 0)
    last = {each["incident"]["id"]: each for each in first.findings}.values()
    still = [each for each in last if each["incident"]["state"] == "open"]
    assert still
    assert all(each["transition"] == "explained" and each["explanation"]["cause"] for each in still)
    assert calls == len(far.asked) == len(still), "the second time, all is found in the cache"
    assert all(each["explanation"]["cached"] for each in second.findings if each["transition"] == "explained")
    told = b"".join(each.body for each in far.asked)
    for private in (b"checkout", b"payment-gateway", b"edge-1", b"registry.example.com"):
        assert private not in told


async def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = tmp_path / "kubewhy.yaml"
    config.write_text("explain: {backends: [{type: vllm, model: m, url: 'http://127.0.0.1:9/v1'}]}")
    told = await kubewhy("run", "--from", EXAMPLE, "--config", config)
    assert told.status == 0
    assert {each["transition"] for each in told.findings} >= {"opened", "resolved"}
    (line,) = told.err.splitlines()
    assert "backend vllm" in line
    assert "Traceback" not in line


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("{backends: [{type: openia, model: m}]}", "explain.backends[0]"),
        ("{backends: [{type: openai}]}", "explain.backends[0].model: is missing"),
        ("{backends: [{type: ollama, model: m}, {type: ollama, model: n}]}", "there is another backend ollama"),
        ("{prices: {openai: {input: 1, output: 2}}}", "there is no backend openai"),
        ("{daily_tokens: -1}", "explain.daily_tokens"),
    ],
)
async def test_wrong_settings_get_one_line(tmp_path: Path, settings: str, fault: str) -> None:
    config = tmp_path / "kubewhy.yaml"
    config.write_text(f"explain: {settings}")
    told = await kubewhy("run", "--from", EXAMPLE, "--config", config)
    assert told.status == 1
    (line,) = told.err.splitlines()
    assert fault in line, line


async def test_a_missing_key_is_told_once_and_findings_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = tmp_path / "kubewhy.yaml"
    config.write_text("explain: {backends: [{type: openai, model: m}]}")
    told = await kubewhy("run", "--from", EXAMPLE, "--config", config)
    assert told.status == 0
    assert {each["transition"] for each in told.findings} >= {"opened", "resolved"}
    (line,) = told.err.splitlines()
    assert "backend openai" in line
    assert "OPENAI_API_KEY" in line
