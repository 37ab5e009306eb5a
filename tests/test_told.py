"""What a person sees of findings as they come."""

import io

import pytest
from rich.console import Console

from kubewhy.cli.told import lines, renderer
from kubewhy.plain import clean
from kubewhy.records import Answer, Explanation, Ref, Severity
from tests.golden import golden
from tests.test_incidents import Clock, broken
from tests.test_text import ATTACKS


def shop() -> Clock:
    """Crashes of one workload, a node that is lost and takes a pod along, and how all of it ends."""
    clock = Clock()
    for name in ("web-1", "web-2", "web-3", "web-4", "web-5"):
        clock.say(f"Pod shop/{name}", broken("crash", message="exited with 1"), root="Deployment shop/web")
    clock.say("Pod shop/db-0", broken("unready", severity=Severity.INFO))
    clock.wait(100)
    clock.say("Node n1", broken("lost", severity=Severity.WARNING))
    lost = broken("unready", severity=Severity.INFO, cause=Ref("Node", "n1"))
    clock.say("Pod shop/db-0", lost)
    clock.say("Pod shop/db-0", gone=True)
    clock.wait(300)
    clock.say("Node n1", gone=True)
    for name in ("web-1", "web-2", "web-3", "web-4", "web-5"):
        clock.say(f"Pod shop/{name}", root="Deployment shop/web")
    return clock


def shown(clock: Clock, *, terminal: bool = False, plain: bool = False, encoding: str = "utf-8") -> bytes:
    environ = {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if plain else {})
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=out, width=40, force_terminal=terminal, _environ=environ)
    return b"".join(map(renderer(console), clock.findings))


def test_a_shop_breaks_and_recovers() -> None:
    golden("told.txt", shown(shop()).decode())


def test_colours_are_for_terminals_and_no_color_is_honoured() -> None:
    assert b"\x1b[1;31m" in shown(shop(), terminal=True)
    assert b"31m" not in shown(shop(), terminal=True, plain=True)
    assert b"\x1b" not in shown(shop())


def test_a_long_message_stays_on_its_line() -> None:
    clock = Clock()
    clock.say("Pod shop/a", broken(message="word " * 100))
    assert shown(clock, terminal=True, plain=True).count(b"\n") == 3


def test_replicas_that_fail_alike_share_a_line_and_no_more_than_three_lines_are_shown() -> None:
    clock = Clock()
    for number, message in enumerate(["exit 1", "exit 1", "exit 2", "exit 3", "exit 4", "exit 5"]):
        clock.say(f"Pod shop/web-{number}", broken("crash", message=message), root="Deployment shop/web")
    clock.wait(10)
    head, *members, rest = [line.plain.strip() for line in lines(clock.findings[-1])]
    assert "UPDATED" in head
    assert members == ["Pod shop/web-0 and 1 more: exit 1", "Pod shop/web-2: exit 2", "Pod shop/web-3: exit 3"]
    assert rest == "and 2 more"


def test_what_to_look_at_is_said_when_it_opens_and_not_again() -> None:
    clock = Clock()
    clock.say("Pod shop/web-1", broken("crash", look="Read its log.", container="app"), root="Deployment shop/web")
    opened = [line.plain.strip() for line in lines(clock.findings[-1])]
    assert opened[-2:] == ["Read its log.", "kubectl logs web-1 -n shop -c app --previous"]
    clock.say("Pod shop/web-2", broken("crash", look="Read its log.", container="app"), root="Deployment shop/web")
    clock.wait(10)
    assert clock.findings[-1].transition == "updated"
    assert "Read its log." not in str([line.plain for line in lines(clock.findings[-1])])


def test_what_is_blamed_is_what_to_look_at() -> None:
    clock = Clock()
    clock.say("Pod shop/web-1", broken("lost", cause=Ref("Node", "n1"), container="app"))
    assert lines(clock.findings[-1])[-1].plain.strip() == "kubectl describe node n1"


def test_what_a_model_says_is_shown_with_its_name() -> None:
    clock = Clock(explain=True)
    clock.say("Pod shop/a", broken("oom"))
    clock.wait(5)
    (wanted,) = clock.stage.wanted(clock.now)
    said = Explanation(
        cause="it needs \x1b[31mmore memory",
        why="the shop is closed",
        fix=("raise its limit", "look for a leak"),
        verify=("kubectl get pod a -n shop",),
        confidence="high",
        language="English",
        backend="bedrock",
        model="some-model",
        input_tokens=1,
        output_tokens=1,
        cost=None,
        cached=False,
    )
    answer = Answer(cluster=wanted.cluster, incident=wanted.incident, asked=wanted.asked, explanation=said)
    clock.told(clock.stage.feed(answer, clock.now))
    head, *rest = [line.plain.strip() for line in lines(clock.findings[-1])]
    assert "EXPLAINED" in head
    assert rest == [
        "it needs more memory",
        "1. raise its limit",
        "2. look for a leak",
        "kubectl get pod a -n shop",
        "(some-model by bedrock, confidence high)",
    ]


def test_what_is_over_gets_one_line() -> None:
    clock = shop()
    assert [len(lines(each)) for each in clock.findings if each.transition == "resolved"] == [1, 1, 1]


@pytest.mark.parametrize(("attack", "harmless"), [each for each in ATTACKS if "\ud800" not in each[0]])
def test_no_text_of_the_cluster_reaches_a_terminal_unclean(attack: str, harmless: str) -> None:
    clock = Clock()
    evil = Ref("Secret" + attack, attack, attack)
    clock.say("Pod shop/a", broken(title=attack, message=attack, cause=evil), ref=Ref("Pod", attack, attack))
    clock.say("Pod shop/a", ref=Ref("Pod", attack, attack))
    told = shown(clock).decode()
    assert told == "\n".join(clean(line) for line in told.split("\n"))
    assert told.count("\n") == sum(len(lines(each)) for each in clock.findings)
    assert harmless in told


def test_what_an_encoding_lacks_is_no_error() -> None:
    clock = Clock()
    clock.say("Pod shop/a", broken(message="größe 数据"))
    assert b"gr??e ??" in shown(clock, encoding="ascii")
