"""Hostile text: nothing of it steers a terminal, a chat, a reader's browser, a shell, or the frame of a prompt."""

import itertools
import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from explainer.hostile import COMMAND, LINK, boundary, clean, cut, defuse, enclose
from explainer.masking import Masker, Name
from explainer.readonly import allowed
from tests.attacks import ATTACKS, Attack

attacks = pytest.mark.parametrize("attack", ATTACKS, ids=str)


def invisible(text: str) -> list[str]:
    return [
        each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Co", "Cn"} and each not in "\n\t"
    ]


def steering(text: str) -> list[str]:
    """What a chat, a page or a shell would act on."""
    patterns = (
        r"<[!@#/a-zA-Z][^>]*",
        r"!?\[[^\]]*\]\(",
        r"^\s*\[[^\]]+\]:",
        r"(?<!\w)@\w+",
        r"[a-z]+://\S*",
        r"javascript:|data:text",
        r"(?<![\w\[])www\.",
        r"[\w-]+\.(?:example|com)\b",
        r"kubectl[ -](?!get pods?\b|logs web\b)\S+",
        r"\$\(|\|\s*(?:sudo|bash|sh)\b|\brm -|\bsudo\b|curl -",
    )
    return [found[0] for each in patterns for found in re.finditer(each, text, re.IGNORECASE | re.MULTILINE)]


def test_the_corpus_is_as_large_and_as_varied_as_it_must_be() -> None:
    assert len(ATTACKS) >= 60
    assert {attack.place for attack in ATTACKS} == {"log", "event", "name", "label", "annotation", "image", "container"}
    assert {attack.at for attack in ATTACKS} == {"prompt", "terminal", "slack", "markdown", "shell"}
    assert len({attack.text for attack in ATTACKS}) == len(ATTACKS)


@attacks
def test_nothing_that_does_not_show_is_left(attack: Attack) -> None:
    assert not invisible(clean(attack.text))


@attacks
def test_what_was_cleaned_stays_as_it_is(attack: Attack) -> None:
    assert clean(clean(attack.text)) == clean(attack.text)


@pytest.mark.parametrize("attack", [each for each in ATTACKS if each.at == "terminal"], ids=str)
def test_of_a_control_sequence_not_even_its_letters_are_left(attack: Attack) -> None:
    assert not re.search(r"\[\d*[;m]|\[2?[JHKcn]|\]\d+;|52;c|q544e|38;5|0;evil", clean(attack.text))


@attacks
def test_no_text_leaves_its_frame(attack: Attack) -> None:
    drawn = (f"{number:08d}" for number in itertools.count())
    text = clean(attack.text)
    mark = boundary([text], lambda: next(drawn))
    framed = enclose("log", text, mark)
    assert framed.count(mark) == 2
    assert re.fullmatch(rf"<log {mark}>\n(.*)\n</log {mark}>", framed, re.DOTALL)


@attacks
def test_a_model_that_repeats_it_steers_nobody(attack: Attack) -> None:
    assert not steering(defuse(attack.text)), defuse(attack.text)


@attacks
@pytest.mark.parametrize(
    "around", ["The cause: {}", "{} is the cause.", "* `{}`", "**{}**", "(see {})", '"{}"', "[a]{}", "x.{}/"]
)
def test_nor_one_that_repeats_it_within_a_sentence(attack: Attack, around: str) -> None:
    assert not steering(defuse(around.format(attack.text)))


@attacks
def test_what_was_disarmed_stays_as_it_is(attack: Attack) -> None:
    assert defuse(defuse(attack.text)) == defuse(attack.text)


@attacks
def test_a_model_that_proposes_it_as_a_command_is_not_heard(attack: Attack) -> None:
    assert not allowed(attack.text)
    assert not allowed(f"kubectl get pod {attack.text}") or re.fullmatch(r"[\w./:-]+", attack.text)


@attacks
def test_a_name_or_text_like_it_is_masked_and_put_back(attack: Attack) -> None:
    masker = Masker(b"key", [Name(attack.place, attack.text), Name("pod", "web")])
    told = f"pod web said: {attack.text}."
    assert masker.restore(masker.mask(told)) == told
    if attack.place in {"name", "label", "image", "container"}:
        assert attack.text not in masker.mask(told)


def test_a_frame_is_drawn_anew_while_the_text_holds_it() -> None:
    drawn = iter(["AAAAAAAA", "bbbbbbbb", "cccccccc"])
    assert boundary(["x aaaaaaaa", "BBBBBBBB"], lambda: next(drawn)) == "cccccccc"


@pytest.mark.parametrize("drawn", ["", "short", "has space", "<tag>123"])
def test_a_frame_that_could_be_guessed_or_misread_is_refused(drawn: str) -> None:
    with pytest.raises(ValueError, match="at least eight letters and digits"):
        boundary([], lambda: drawn)


@given(st.text(max_size=400), st.integers(min_value=0, max_value=300))
def test_what_is_too_long_loses_its_middle(text: str, limit: int) -> None:
    shorter = cut(text, limit)
    assert len(shorter) <= limit or shorter == text
    if len(text) <= limit:
        assert shorter == text
    elif limit > 60:
        assert text.startswith(shorter.partition(" [... ")[0])
        assert text.endswith(shorter.rpartition(" ...] ")[2])


def test_the_cut_says_how_much_is_missing() -> None:
    assert cut("a" * 500 + "b" * 500, 100) == "a" * 33 + " [... 900 characters left out ...] " + "b" * 32


@given(st.text())
def test_only_what_shows_is_left_of_any_text(text: str) -> None:
    cleaned = clean(text)
    assert not invisible(cleaned)
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: connection refused\n\tat main.go:42",
        "Größe überschritten: 漢字 ничего",
        "0/3 nodes are available: 1 Insufficient cpu.",
        "a ≤ b, 5 µs".replace("µ", "μ"),
        "café 👍",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert clean(text) == text


OURS = "kubectl get events -n shop --field-selector 'involvedObject.name=web'"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("See [the docs](https://kubernetes.io/docs/x).", "See the docs (https://kubernetes.io/docs/x)."),
        ("See https://kubernetes.io/docs/x, then wait.", "See https://kubernetes.io/docs/x, then wait."),
        ("See https://kubernetes.io/docs/y.", f"See {LINK}."),
        ("The registry registry.acme.com refused it.", "The registry registry.acme.com refused it."),
        ("The registry other.acme.com refused it.", "The registry other[.]acme[.]com refused it."),
        ("Add the label app.kubernetes.io/name to it.", "Add the label app.kubernetes.io/name to it."),
        ("Set spec.template.spec.containers to two.", "Set spec.template.spec.containers to two."),
        ("main.go:12 and config.yaml are wrong", "main.go:12 and config.yaml are wrong"),
        ("The node is <none> or <unknown>.", "The node is <none> or <unknown>."),
        ("Memory < 2 Gi and > 1 Gi, a & b", "Memory < 2 Gi and > 1 Gi, a & b"),
        ("Ask admin@other.acme.com for it.", "Ask admin@other[.]acme[.]com for it."),
        ("web@sha256:abc cannot be pulled", "web@sha256:abc cannot be pulled"),
        ("Run kubectl describe pod web -n shop.", "Run kubectl describe pod web -n shop."),
        ("Look with `kubectl logs web -p` first.", "Look with `kubectl logs web -p` first."),
        ("Run kubectl delete pod web. Then wait.", f"Run {COMMAND}. Then wait."),
        ("Use kubectl to look at it.", "Use kubectl to look at it."),
        (f"Run {OURS} first", f"Run {OURS} first"),
        (f"Run {OURS}; reboot", f"Run {COMMAND}"),
        ("The curl probe fails, and sh is missing", "The curl probe fails, and sh is missing"),
        ("exec /bin/app: no such file or directory", "exec /bin/app: no such file or directory"),
    ],
)
def test_what_is_ours_or_harmless_is_told(answer: str, told: str) -> None:
    assert defuse(answer, ["https://kubernetes.io/docs/x"], ["registry.acme.com"], [OURS]) == told


@given(st.text(alphabet="<>!@[]()`|$&;:/.a1 k\n" + "\u200b\uff1c", max_size=40))
@example("a\uff20@://]&lt;data:")
@example("<" * 40 + "!channel>")
def test_no_mixture_of_signs_calls_anybody(text: str) -> None:
    assert not re.search(r"<[!@#a-z]|\]\([a-z/]|(?<![A-Za-z0-9])@\w|[a-z]://", defuse(text))


def looking() -> Iterator[str]:
    yield "kubectl get pods -n shop -o wide"
    yield "kubectl get pod web -n shop -o yaml"
    yield "kubectl describe deployment/web --namespace=shop"
    yield "kubectl logs web -n shop -c app --previous --tail=50"
    yield "kubectl logs -f web --since=10m"
    yield "kubectl top pod web -n shop --containers"
    yield "kubectl explain pod.spec.containers"
    yield "kubectl events -n shop --for pod/web"
    yield "kubectl rollout status deployment/web -n shop"
    yield "kubectl rollout history deployment/web -n shop --revision=3"
    yield "kubectl auth can-i list secrets -n shop"
    yield "kubectl api-resources --namespaced"
    yield "kubectl version --client"
    yield "kubectl get events -A --sort-by=.lastTimestamp"
    yield "kubectl get pods -l app=web,tier=front"
    yield "kubectl get secret db -n shop"
    yield "kubectl describe secret db"


@pytest.mark.parametrize("command", list(looking()))
def test_a_command_that_only_looks_may_be_told(command: str) -> None:
    assert allowed(command)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "kubectl",
        "get pods",
        "kubectl delete pod web",
        "kubectl rollout restart deployment/web",
        "kubectl rollout undo deployment/web",
        "kubectl auth reconcile",
        "kubectl config view",
        "kubectl cluster-info dump",
        "kubectl exec web",
        "kubectl cp web:/x y",
        "kubectl port-forward web 80",
        "kubectl get pods -f pods.yaml",
        "kubectl get -k .",
        "kubectl get pods --context other",
        "kubectl get pods --server=https://x",
        "kubectl get pods --as=admin",
        "kubectl get pods --kubeconfig x",
        "kubectl get pods -o jsonpath=x",
        "kubectl get pods -o",
        "kubectl get pods -n",
        "kubectl get pods -n -A",
        "kubectl get pods -n=",
        "kubectl get secret db -o yaml",
        "kubectl get pods,secrets -o json",
        "kubectl get secret/db --output=yaml",
        "kubectl get secrets.v1. -o json",
        "kubectl get Secret db -oyaml",
        "kubectl get pods | tee x",
        "kubectl get pods;ls",
        "kubectl get pods `id`",
        "kubectl get pods $HOME",
        "kubectl get pods > x",
        "kubectl get pods 'x'",
        "kubectl get pods \\x",
        "kubectl get pods\n",
        "kubectl get pods *",
        "kubectl get pods ~/x",
        "kubectl get ../x",
        "kubectl get /x",
        "kubectl  get pods",
        "kubectl get pods kubectl delete pods",
        "Kubectl get pods",
        "kubectl-evil get pods",
        "kubectl get pods ü",
        "kubectl get " + "x" * 300,
    ],
)
def test_a_command_that_may_do_more_is_not_told(command: str) -> None:
    assert not allowed(command)
