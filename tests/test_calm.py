"""Days of failures, and hours of models that fail: each failure is told in time, and each costs one call."""

import json
from pathlib import Path

import pytest

from kubewhy.records import Finding
from tests.models.far import Reply, Script, Trouble, half, silent, whole
from tests.models.openai import OpenAI
from tests.test_explaining import ANSWER, ASKED, Told, asking
from tests.test_incidents import broken

FAILURES = 164
RESTATED = 1800  # seconds after which everything is stated again


def state_again(clock: Told) -> None:
    """Failures that nothing joins, none like another, as a collector states them again."""
    for number in range(FAILURES):
        sort = broken(f"rule{number % 13}", message=f"it has failed {number} times", reason=f"why{number % 5}")
        clock.say(f"Pod ns{number}/pod{number}", sort)


async def live(clock: Told, calls: object, hours: int) -> None:
    for _ in range(hours * 3600 // RESTATED):
        for _ in range(RESTATED // 60):
            clock.wait(60)
            while await clock.explained(calls):  # type: ignore[arg-type]
                pass
        state_again(clock)


async def test_three_days_of_164_failures_cost_164_calls_and_a_restart_none(tmp_path: Path) -> None:
    clock = Told()
    state_again(clock)
    async with asking(clock, cache=tmp_path / "answers") as (far, calls):
        await live(clock, calls, 72)
        assert len(far.asked) == FAILURES
    assert [each.transition for each in clock.findings] == ["opened"] * FAILURES + ["explained"] * FAILURES
    clock.restart()
    async with asking(clock) as (far, calls):
        await live(clock, calls, 3)
        assert not far.asked
    lost = Told()
    state_again(lost)
    async with asking(lost, cache=tmp_path / "answers") as (far, calls):
        await live(lost, calls, 1)
        assert not far.asked
    assert sum(each.transition == "explained" for each in lost.findings) == FAILURES


VENDOR = OpenAI()
THROTTLED = VENDOR.refusal(Trouble.THROTTLED)
assert THROTTLED
GOOD = VENDOR.answer(ASKED, json.dumps(ANSWER))
TROUBLES: dict[str, Script] = {
    "429": whole(THROTTLED),
    "500": whole(Reply.of({"error": {"message": "it broke", "type": "server_error"}}, 500)),
    "garbage": whole(Reply(200, b"\x00\xff not JSON", {"content-type": "application/json"})),
    "another schema": whole(VENDOR.answer(ASKED, '{"cause": 7}')),
    "half a body": half(GOOD),
    "nothing": silent,
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_an_hour_of_trouble_delays_no_message_and_doubles_none(trouble: str) -> None:
    clock = Told()
    async with asking(clock, seconds=0.05) as (far, calls):
        for minute in range(60):
            if minute % 6 == 0:
                assert clock.say(f"Pod ns{minute}/pod", broken("crash")) == [f"opened Pod ns{minute}/pod"]
            for _ in range(6):
                far.scripts[:] = [TROUBLES[trouble]] * 8
                clock.wait(10)
                assert await clock.explained(calls) == []
        assert 10 < len(far.asked) < 600
        far.scripts.clear()
        for _ in range(16):
            clock.wait(60)
            while await clock.explained(calls):
                pass
    assert [each.transition for each in clock.findings] == ["opened"] * 10 + ["explained"] * 10
    assert _incidents(clock.findings[:10]) == _incidents(clock.findings[10:])


def _incidents(findings: list[Finding]) -> set[str]:
    return {each.incident.id for each in findings}
