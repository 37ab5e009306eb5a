"""What people read, and that nothing in a cluster can play tricks on their terminal."""

import io
import shlex
import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from explainer.correlation import correlate
from kubewhy.cli.text import Scope, age, commands, show
from kubewhy.plain import clean
from kubewhy.records import Failure, Ref
from kubewhy.runtime.oneshot import Analysis
from tests.golden import golden
from tests.test_correlation import NOW
from tests.test_report import CRASH, MISSING, SHOP, analysis, failing, failure

SCOPE = Scope("admin@shop")

ATTACKS = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;owned\x07title", "title"),
    ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9b2Jgone", "gone"),
    ("\x1b]52;c;unended", "52;c;unended"),
    ("\x1bc reset", " reset"),
    ("\x1b\x1b[31mtwice", "twice"),
    ("a\nb\tc\rd", "a b c d"),
    ("user\u202egnp.exe", "usergnp.exe"),
    ("\u2066x\u2069\u200e\u200f", "x"),
    ("zero\u200bwid\u200dth\ufeff\u00ad", "zerowidth"),
    ("tag\U000e0041", "tag"),
    ("fill\u3164\u2800er", "filler"),
    ("back\x08\x7fspace\x00", "backspace"),
    ("lone\ud800", "lone"),
    ("line\u2028s", "line s"),
    ("[bold]markup[/bold] :smile:", "[bold]markup[/bold] :smile:"),
    ("größe 数据 é", "größe 数据 é"),
]


def shown(
    what: Analysis, scope: Scope = SCOPE, *, width: int = 100, terminal: bool = False, plain: bool = False, **more: Any
) -> str:
    out = io.StringIO()
    environ = {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if plain else {})
    show(what, Console(file=out, width=width, force_terminal=terminal, _environ=environ), scope, **more)
    return out.getvalue()


def test_a_broken_shop() -> None:
    golden("report.txt", shown(SHOP))


def test_a_narrow_terminal_wraps_but_leaves_commands_whole() -> None:
    golden("report-terminal.txt", shown(SHOP, width=50, terminal=True, plain=True))


def test_a_healthy_cluster_gets_one_line() -> None:
    told = shown(analysis(failing("Pod shop/fine")))
    assert told == "Nothing is broken among 42 objects (cluster shop-production, context admin@shop, all namespaces).\n"


def test_what_is_piped_has_neither_colour_nor_line_breaks() -> None:
    message = "word " * 200 + "end"
    told = shown(analysis(failing("Pod x/a", failure("r", message))), width=40)
    assert message in told
    assert "\x1b" not in told


def test_colours_are_for_terminals_and_no_color_is_honoured() -> None:
    assert "\x1b[1;31m" in shown(SHOP, terminal=True)
    assert "31m" not in shown(SHOP, terminal=True, plain=True)


@pytest.mark.parametrize(("attack", "harmless"), ATTACKS)
def test_what_could_fool_a_terminal_is_taken_out(attack: str, harmless: str) -> None:
    assert clean(attack) == harmless


# A record holds no lone surrogate: no JSON that has one is decoded.
@pytest.mark.parametrize(("attack", "harmless"), [each for each in ATTACKS if "\ud800" not in each[0]])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_text_of_the_cluster_reaches_a_terminal_unclean(attack: str, harmless: str, terminal: bool) -> None:
    cause = Ref("Secret" + attack, attack, attack)
    bad: dict[str, Any] = {"title": attack, "container": attack, "docs": attack, "reason": attack}
    reports = [
        failing("Pod x/a", failure("r", attack, cause=cause, **bad)),
        failing("Pod x/b", failure("r", attack, **bad), ref=Ref("Pod", attack, attack)),
        failing("Pod x/c", failure("r", attack, since=NOW, hold=9.0, **bad)),
    ]
    what = Analysis(attack, attack, NOW, 3, reports, [(attack, attack)])
    told = shown(what, Scope(attack, attack, pinned=True), terminal=terminal, width=500, plain=True)
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[0m"):  # our own bold and dim, which need no colour
        told = told.replace(code, "") if terminal else told
    assert told == "\n".join(clean(line) for line in told.split("\n"))
    assert harmless in told


@given(st.text())
def test_clean_text_is_visible_and_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not {unicodedata.category(letter) for letter in cleaned} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def told_commands(subject: str, told: Failure, scope: Scope = SCOPE, **more: Any) -> list[str]:
    report = failing(subject, told, **more)
    (group,) = correlate("c", [(report, told)])
    return commands(group, scope)


def test_commands_look_at_the_root_and_then_at_a_pod() -> None:
    assert told_commands("Pod shop/web-1", MISSING, root="Deployment shop/web") == [
        "kubectl get secret db-password -n shop",
        "kubectl describe pod web-1 -n shop",
    ]
    assert told_commands("Pod shop/w-1", CRASH, root="StatefulSet shop/w") == [
        "kubectl describe statefulset w -n shop",
        "kubectl describe pod w-1 -n shop",
        "kubectl logs w-1 -n shop -c worker --previous",
    ]
    probe = failure("pod-not-ready", "the readiness probe fails", container="app")
    assert told_commands("Pod shop/w-1", probe)[-1] == "kubectl logs w-1 -n shop -c app"
    assert told_commands("Node n1", failure("r", "m")) == ["kubectl describe node n1"]


def test_a_webhook_is_looked_for_among_the_configurations() -> None:
    hook = Ref("AdmissionWebhook", "policy.example.com", group="admissionregistration.k8s.io")
    assert told_commands("Deployment shop/web", failure("r", "m", cause=hook))[0] == (
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
    )


def test_commands_name_the_context_where_it_is_not_the_current_one() -> None:
    pinned = Scope("two words", pinned=True)
    assert told_commands("Node n1", failure("r", "m"), pinned) == ["kubectl describe node n1 --context 'two words'"]


def test_a_custom_kind_is_named_with_its_group() -> None:
    rollout = Ref("Rollout", "web", "shop", "argoproj.io")
    told = failing("Pod shop/a", failure("r", "m"), ref=rollout)
    (group,) = correlate("c", [(told, told.failures[0])])
    assert commands(group, SCOPE)[-1] == "kubectl describe rollout.argoproj.io web -n shop"


@pytest.mark.parametrize("name", ["a;rm -rf ~", "$(reboot)", "`id`", "a'b", "a b", "a|b>c"])
def test_names_are_quoted_for_the_shell(name: str) -> None:
    (command,) = told_commands("Pod x/a", failure("r", "m"), ref=Ref("Pod", name, "x"), root=None)[1:] or [""]
    assert shlex.split(command) == ["kubectl", "describe", "pod", name, "-n", "x"]


@pytest.mark.parametrize("name", ["--all", "-h", "", "a\x1b[0m", "a\nb"])
def test_a_name_that_is_no_name_gets_no_command(name: str) -> None:
    told = failing("Pod x/a", failure("r", "m"), ref=Ref("Pod", name, "x"), root=None)
    (group,) = correlate("c", [(told, told.failures[0])])
    assert not any(name and name in command for command in commands(group, SCOPE))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7260, "2h1m"), (36000, "10h"), (172800, "2d")],
)
def test_ages_read_as_kubectl_says_them(seconds: int, words: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == words
