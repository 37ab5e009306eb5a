"""The corpus of attacks through the whole way: in a cluster's objects, to a model that obeys, and back to people."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from explainer.backends import make
from explainer.wanting import SETTLED
from kubewhy.cli.told import lines
from kubewhy.records import Finding, IncidentView, Ref
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.choosing import Choice
from kubewhy.runtime.explaining import Explainer
from kubewhy.runtime.routing import Router
from kubewhy.settings import Settings
from tests.attacks import ATTACKS, Attack
from tests.models.far import Asked, Far, Reply, serving
from tests.models.openai import OpenAI
from tests.test_hostile import invisible, steering
from tests.test_incidents import Clock, broken

SETTINGS: Mapping[str, Any] = {
    "sinks": [{"type": "stdout", "name": "all"}, {"type": "stdout", "name": "pager"}],
    "routes": [{"severity": "critical", "matchers": ['namespace="shop"', 'label:app="web"'], "sinks": ["pager"]}],
}


def say(clock: Clock, attack: Attack | None) -> None:
    """One crashing pod, with the attack where it belongs."""
    text = attack.text if attack else "it crashed"
    place = attack.place if attack else "log"
    told = {
        "log": f"container web exited with 1: {text}",
        "event": text,
        "annotation": f"annotation said {text}",
        "image": f"container web cannot get its image {text}",
    }
    name = text if place == "name" else "web-0"
    labels = {"app": "web"} | ({"note": text} if place == "label" else {})
    failure = broken(message=told.get(place, "it crashed"), container=text if place == "container" else "web")
    said = {"log": f"log of container web: {text}", "event": text, "annotation": text}
    seen = (said[place],) if place in said else ()
    clock.say(f"Pod shop/{name}", failure, labels=labels, seen=seen)


def obeying(text: str) -> dict[str, Any]:
    """What a model answers that does whatever it reads."""
    return {"cause": text, "why": f"see {text}", "fix": [text, f"run {text}"], "verify": [text], "confidence": "high"}


async def explained(attack: Attack | None) -> list[Finding]:
    """What was told: the opening, and the explanation."""
    clock = Clock(explain=True, labels=["label:app"])
    say(clock, attack)
    clock.wait(SETTLED.total_seconds())
    vendor = OpenAI()

    def answer(asked: Asked) -> Reply:
        return vendor.answer(asked, json.dumps(obeying(attack.text if attack else "it crashed")))

    async with serving(Far(vendor)) as far:
        far.answering = answer
        choice = Choice(make(vendor.settings(far.url), vendor.environ()), "m")
        calls = Calls(Explainer([choice], lambda: clock.now, b"k" * 32))
        await calls.round(clock.stage.wanted(clock.now))
        for each in calls.take():
            clock.feed(each)  # type: ignore[arg-type]
        await calls.close()
    return clock.findings


def decided(view: IncidentView) -> tuple[Any, ...]:
    """What rules alone decide."""
    rules = tuple((told.rule, told.severity) for told in view.failures)
    return view.state, view.severity, view.silenced, view.root.kind, view.root.namespace, rules, view.resolution


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
async def test_an_attack_changes_nothing_that_rules_decide_and_steers_nobody(attack: Attack) -> None:
    usual, (opened, told) = (await explained(None))[0], await explained(attack)
    assert told.transition == "explained"
    assert decided(opened.incident) == decided(told.incident) == decided(usual.incident)
    assert told.incident == opened.incident
    router = Router(Settings.model_validate(SETTINGS))
    assert router.sinks(opened) == router.sinks(told) == ["all", "pager"]
    explanation = told.explanation
    assert explanation
    said = (explanation.cause, explanation.why, *explanation.fix)
    assert not [each for text in said for each in (*steering(text), *invisible(text))]
    assert not explanation.verify
    assert not [each for line in lines(told) for each in invisible(line.plain)]


async def test_what_is_no_attack_is_told_as_it_is() -> None:
    """Else the tests above might look at nothing."""
    opened, told = await explained(None)
    assert opened.incident.root == Ref("Pod", "web-0", "shop")
    assert told.explanation
    assert told.explanation.cause == "it crashed"
    assert told.explanation.fix == ("it crashed", "run it crashed")
