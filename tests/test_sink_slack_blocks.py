"""Slack messages: they fit, call nobody, and say what there is to say."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewhy.errors import ConfigError
from kubewhy.records import Change, Explanation, Finding, Ref, Seen, Severity, Sort, Words
from sinks.settings import SlackSettings
from sinks.slack.blocks import Message, compact, message
from sinks.slack.look import Look
from sinks.slack.text import lines, prose, size, unformatted, verbatim
from sinks.slack.thread import details, ended, repeated, worse
from tests.services.hostile import Hostile
from tests.services.slack_limits import Unfit, calls, check, marked
from tests.views import OPENED, told, view

LOOK = Look(buttons={"Runbook": "https://wiki.example/{rule}?of={cluster}/{name}", "Board": "https://board.example"})
CALLING = Look(mentions={Severity.CRITICAL: "<!subteam^S0123456789>"})
WORDS = Words(
    rule="pod-crash-looping", title="It crashes", why="Nobody can buy.", look="Read its log.", docs="https://d.x/r"
)
EXPLANATION = Explanation(
    cause="The password is wrong.",
    why="The shop is closed.",
    fix=("Write the right one.", "Restart it."),
    verify=("kubectl get secret db -n shop",),
    confidence="high",
    language="English",
    backend="bedrock",
    model="claude",
    input_tokens=500,
    output_tokens=100,
    cost=None,
    cached=False,
)


def finding(transition: str = "opened", **more: Any) -> Finding:
    subject = Ref("Pod", "web-1", "shop")
    fields: dict[str, Any] = {"title": "web crashes", "words": (WORDS,), "commands": ("kubectl logs web-1 -n shop",)}
    explanation = more.pop("explanation", None)
    failures = more.pop("failures", (told(subject, message="it exits with 1"),))
    if transition == "resolved":
        fields |= {"state": "resolved", "resolved_at": OPENED.replace(minute=12), "resolution": "recovered"}
    incident = view(*failures, **fields | more)
    return Finding(id="f1", transition=transition, at=OPENED, revision=1, incident=incident, explanation=explanation)


def everything(each: Finding) -> Iterator[Message]:
    yield message(each, LOOK)
    yield compact(each, LOOK)
    yield ended(each)
    yield repeated(each)
    yield worse(each, "")
    if found := details(each):
        yield found


def texts(part: Any) -> Iterator[str]:
    """All strings of a message but the names of its parts."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key not in ("type", "action_id", "color"):
                yield from texts(value)
    elif isinstance(part, list):
        for each in part:
            yield from texts(each)
    elif isinstance(part, str):
        yield part


def harmless(shown: Message) -> None:
    check(shown)
    assert calls(shown) == []
    for text in (text for text, heeds_markup in marked(shown) if heeds_markup):
        assert text.count("`") % 2 == 0
        assert text.count("```") in (0, 2)
        # Nothing is a link but what a rule names to read on.
        links = re.findall(r"<([a-z]+:[^|>]*)", text)
        assert all(each.startswith(("https://kubewhy.dev/", "https://docs.example/", "https://d.x/")) for each in links)
    for text in texts(shown):
        odd = {each for each in set(text) if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn")} - {"\n"}
        assert not odd, ascii(odd)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_others_write_fits_and_calls_nobody(seed: int) -> None:
    for at, each in enumerate(Hostile(seed).findings(1000)):
        for shown in everything(each) if at % 4 == 0 else [message(each, LOOK)]:
            harmless(shown)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.lists(st.text(), max_size=5), st.booleans())
def test_any_text_at_all_fits_and_calls_nobody(title: str, said: str, shown: list[str], over: bool) -> None:
    subject = Ref("Pod", title[:253], said[:63])
    each = finding(
        "resolved" if over else "opened",
        title=title,
        cluster=said,
        failures=tuple(told(subject, message=text) for text in (said, *shown)),
        evidence=(Seen(object=subject, lines=tuple(shown)),),
        commands=tuple(shown),
    )
    for part in everything(each):
        harmless(part)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"text": ""},
        {"text": "x" * 4001},
        {"text": "<!everyone"},
        {"text": "a & b"},
        {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]},
        {"blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]},
        {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "\U0001f525" * 1501}}]},
        {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": ""}}]},
        {"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}]},
        {"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}]},
        {"blocks": [{"type": "divider"}] * 51},
        {"blocks": [{"type": "divider"}] * 26, "attachments": [{"blocks": [{"type": "divider"}] * 25}]},
        {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 2999}}] * 5},
        {"attachments": [{"color": "blue", "blocks": []}]},
        {
            "blocks": [
                {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "x" * 76}}]}
            ]
        },
        {"metadata": {"event_type": "a b", "event_payload": {}}},
        {"metadata": {"event_type": "a", "event_payload": {"x": "y" * 8000}}},
    ],
)
def test_the_validator_refuses_what_slack_refuses(spoilt: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        check({"text": "x", **spoilt})


@pytest.mark.parametrize("text", ["<!channel>", "<@U0123>", "hey @here", "<!subteam^S012|ops>"])
def test_the_validator_sees_who_is_called(text: str) -> None:
    assert calls(
        {"text": "x", "attachments": [{"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]}]}
    )


def test_a_message_says_what_where_since_when_and_what_to_do() -> None:
    shown = message(finding(severity=Severity.CRITICAL, cluster_name="prod"), LOOK)
    told = "\n".join(texts(shown))
    assert shown["text"] == "Critical: web crashes (cluster prod)"
    assert shown["blocks"][0]["text"]["text"] == "\U0001f534 web crashes"
    for part in (
        "*Cluster*\nprod",
        "*Namespace*\nshop",
        "*Object*\nDeployment web",
        "*Count*\n1 object",
        "Open, critical",
    ):
        assert part in told
    assert "• Pod shop/web-1: it exits with 1" in told
    assert "*Why it matters*\nNobody can buy." in told
    assert "*What to do*\nRead its log." in told
    assert "```\nkubectl logs web-1 -n shop\n```" in told
    assert "<https://d.x/r|pod-crash-looping>" in told
    assert "https://wiki.example/pod-crash-looping?of=c/web".replace("of=c", "of=prod") in told


def test_a_model_s_words_come_before_the_rule_s_and_are_marked() -> None:
    shown = "\n".join(texts(message(finding("explained", explanation=EXPLANATION), LOOK)))
    assert "*Likely cause* (AI, by claude, confidence high)\nThe password is wrong." in shown
    assert "1. Write the right one.\n2. Restart it." in shown
    assert "kubectl get secret db -n shop" in shown
    assert "600 tokens" in shown
    assert "Nobody can buy." not in shown


def test_what_is_over_is_green_says_how_long_it_lasted_and_asks_for_nothing() -> None:
    before, after = (message(finding(each), CALLING) for each in ("opened", "resolved"))
    assert before["attachments"][0]["color"] != after["attachments"][0]["color"] == "#2eb67d"
    told = "\n".join(texts(after))
    assert "Resolved after 12m (recovered)" in told
    assert "kubectl" not in told
    assert "Read its log." not in told


def test_only_those_who_are_configured_are_called_and_only_while_it_lasts() -> None:
    assert calls(message(finding(severity=Severity.CRITICAL), CALLING)) == ["!subteam^S0123456789"] * 2
    assert calls(message(finding(severity=Severity.WARNING), CALLING)) == []
    assert calls(message(finding("resolved", severity=Severity.CRITICAL), CALLING)) == []


def test_what_fails_alike_is_one_line_and_the_thread_names_all() -> None:
    failures = tuple(told(Ref("Pod", f"web-{at}", "shop"), message="it exits with 1") for at in range(200))
    each = finding(failures=failures, member_count=200)
    assert "• Pod shop/web-0 and 199 more: it exits with 1" in "\n".join(texts(message(each, LOOK)))
    found = details(each)
    assert found
    assert "Pod shop/web-29 and 170 more" in "\n".join(texts(found))


def test_the_thread_has_evidence_changes_and_reasons() -> None:
    subject = Ref("Pod", "web-1", "shop")
    changes = tuple(
        Change(
            object=subject,
            at=OPENED.replace(year=2025, month=12, day=31, hour=23, minute=at),
            sort=Sort.IMAGES,
            what=f"tag {at}",
        )
        for at in (50, 55)
    )
    seen = Seen(object=subject, lines=("exit code 1", "```<!here>"))
    found = details(finding("explained", explanation=EXPLANATION, evidence=(seen,), changes=changes))
    assert found
    shown = "\n".join(texts(found))
    for part in (
        "*Pod shop/web-1*\n```\nexit code 1\n",
        "10m before: Pod shop/web-1: tag 50",
        "*Why it matters* (AI)\nThe shop is closed.",
    ):
        assert part in shown


def test_a_thread_has_nothing_to_add_to_a_message_that_says_all() -> None:
    assert details(finding()) is None


def test_half_a_command_is_never_shown() -> None:
    long = "kubectl get pods " + "-l a=b " * 300
    shown = "\n".join(texts(message(finding(commands=(long, "kubectl get nodes")), LOOK)))
    assert "kubectl get nodes" in shown
    assert "-l a=b" not in shown


@pytest.mark.parametrize("cut", [prose, verbatim, unformatted])
def test_what_is_cut_says_so_and_no_entity_is_cut(cut: Any) -> None:
    assert cut("fits", 4) == "fits"
    assert cut("fits not", 5) == "fits…"
    assert size(cut("\U0001f525" * 10, 7)) <= 7
    for limit in range(2, 20):
        shown = cut("<<<&&&>>>", limit)
        assert size(shown) <= limit
        assert not re.search(r"&(?!amp;|lt;|gt;)", shown)


def test_names_stay_as_they_are() -> None:
    for name in ("DATABASE_URL", "registry:5000/shop@sha256:0f", "a__b", "12:30:45", "x*y"):
        assert prose(name, 100) == name


def test_lines_that_do_not_fit_are_counted() -> None:
    assert lines(["one", "two"], 100) == "one\ntwo"
    assert lines(["one", "two", "three"], 18) == "one\nand 2 more"
    assert lines([], 10) == ""


FIRST = "{% for each in incident.failures[:1] %}{{ each.message }}{% endfor %}"


def templated(**told: str) -> Look:
    return Look.of(SlackSettings.model_validate({"type": "slack", "channel": "C0123456789", "templates": told}))


def test_words_of_one_s_own_stand_in_place_of_ours() -> None:
    look = templated(title="{{ incident.cluster }}: {{ incident.title }}", text="*Broken*: " + FIRST)
    shown = message(finding(failures=(told(Ref("Pod", "a"), message="<!here> & *x*"),)), look)
    check(shown)
    assert calls(shown) == []
    assert shown["text"] == "Warning: c: web crashes (cluster c)"
    assert shown["blocks"][0]["text"]["text"] == "\U0001f7e1 c: web crashes"
    first, *rest = shown["attachments"][0]["blocks"]
    assert first["text"]["text"] == "*Broken*: &lt;!here&gt; &amp; \u2217x\u2217"
    assert [each["type"] for each in rest] == ["context"]
    assert "*Broken*" in str(compact(finding(), look))


@pytest.mark.parametrize("text", ["{{ incident.title * 1 }}", "{{ nothing }}", "{% for each in incident.failures %}"])
def test_a_template_that_is_none_is_told_at_once(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^templates\.text: line 1"):
        templated(text=text)


def test_a_text_that_does_not_fit_gives_way_to_ours() -> None:
    each = finding(failures=tuple(told(Ref("Pod", f"a{at}"), message="&" * 900) for at in range(2)))
    shown = message(each, templated(text="{% for each in incident.failures %}{{ each.message }}{% endfor %}"))
    check(shown)
    assert "*Status*" in str(shown)


def test_whatever_others_write_stays_harmless_in_templates() -> None:
    look = templated(title="{{ incident.title }}", text=FIRST + "{{ incident.title }} `x`")
    for each in Hostile(11).findings(300):
        harmless(message(each, look))
        harmless(compact(each, look))


def test_a_message_is_the_same_each_time() -> None:
    each = next(Hostile(7).findings(1))
    again = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(finding(), id="f2")), type=Finding)
    assert json.dumps(message(each, LOOK)) == json.dumps(message(each, LOOK))
    assert message(again, LOOK) == message(finding(), LOOK)
