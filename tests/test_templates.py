"""Templates of people: what they see, what is wrong with them, and that all of them end."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from kubewhy.errors import ConfigError
from kubewhy.records import Finding
from sinks.samples import OPENED
from sinks.templates import LONGEST, Template
from tests.views import DEPLOYMENT, told, view


def render(source: str, finding: Finding = OPENED) -> str:
    return Template("templates.text", source).render(finding, "OTHERWISE")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ incident.severity|upper }} {{ incident.title }}", "CRITICAL Secret shop/password is missing"),
        ("{{ transition }} {{ revision + 1 }} {{ digest }}", "explained 3"),
        ("{{ incident.failures|map(attribute='rule')|join(', ') }}", "pod-config-missing"),
        ("{% for each in incident.failures %}{{ loop.index }}. {{ each.message }}{% endfor %}", "1. Secret shop/passw"),
        ("{% if explanation %}{{ explanation.cause }}{% endif %}", "The Secret was removed."),
        ("{{ incident.opened_at|time }} {{ incident.opened_at|age(at) }}", "2026-01-01 11:59 UTC 30s"),
        ("{{ incident.words[0].docs if incident.words else 'none' }}", "https://kubernetes.io/"),
        ("{{ 'many' if incident.failures|length > 1 else 'one' }}", "one"),
        ("{{ incident.title[:6] ~ '!' }}", "Secret!"),
        ("{{ at }}", "2026-01-01T12:00:00+00:00"),
    ],
)
def test_a_template_sees_the_fields_of_the_finding(source: str, text: str) -> None:
    assert render(source).startswith(text)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a\n{{ incident.titel }}", "line 2: 'dict object' has no attribute 'titel'"),
        ("{{ nothing }}", "line 1: 'nothing' is undefined"),
        ("a\n\n{% if %}", "line 3: Expected an expression"),
        ("{{ incident.title", "line 1: unexpected end of template"),
        ("a\n{{ transition|nosuch }}", "line 2: No filter named 'nosuch'"),
        ("{{ explanation.cause }}", "line 1: 'None' has no attribute 'cause'"),
        ("{{ incident.failures[0].message }}", "line 1: "),
        ("{{ revision / 0 }}", "line 1: div is not to be had here"),
        ("\n{{ ''.__class__ }}", "line 2: access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ incident.title.upper() }}", "line 1: nothing can be called here"),
        ("{{ range(9) }}", "line 1: nothing can be called here"),
        ("{{ 'a' * 999999999 }}", "line 1: mul is not to be had here"),
        ("{{ 'a' ** 9 }}", "line 1: pow is not to be had here"),
        ("{{ '%99999999d' % 1 }}", "line 1: mod is not to be had here"),
        ("{% set a = 1 %}", "line 1: assign is not to be had here"),
        ("{% macro a() %}{% endmacro %}", "line 1: macro is not to be had here"),
        ("{% include 'a' %}", "line 1: include is not to be had here"),
        ("{% for a in [] recursive %}{% endfor %}", "line 1: for is not to be had here"),
        ("{{ 'a'|center(99999999) }}", "line 1: No filter named 'center'"),
        ("{{ transition + 1 }}", "line 1: can only concatenate str"),
        ("a" * (LONGEST + 1), f"longer than {LONGEST} characters: shorten it"),
    ],
)
def test_what_is_wrong_is_told_at_the_start_in_one_line(source: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Template("templates.text", source)
    assert str(error.value).startswith(f"templates.text: {words}")
    assert str(error.value).isprintable()


def test_text_of_others_is_made_harmless_and_that_of_the_template_is_not() -> None:
    template = Template("text", "<b>{{ incident.title }}</b>", lambda text: text.replace("<", "&lt;"))
    finding = replace(OPENED, incident=replace(OPENED.incident, title="<script>\x1b[31m\u202ered\n{{ transition }}"))
    assert template.render(finding, "") == "<b>&lt;script>red {{ transition }}</b>"


def test_a_long_text_is_cut_and_says_so() -> None:
    many = view(*[told(DEPLOYMENT, message="it crashes " * 100)] * 100)
    text = Template("text", "{% for each in incident.failures %}{{ each.message }}\n{% endfor %}", limit=500).render(
        replace(OPENED, incident=many), "OTHERWISE"
    )
    assert len(text) == 500
    assert text.endswith("…")


LOOPS = "{% for a in incident.title %}{% for b in incident.title %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [LOOPS, "{{ incident.title" + "|tojson" * 12 + " }}", "{{ incident.title" + "|join(incident.title)" * 2 + " }}"],
    ids=["loops", "quotes", "joins"],
)
def test_what_grows_without_end_gives_way_to_our_own_words(source: str) -> None:
    long = replace(OPENED, incident=replace(OPENED.incident, title='"' * 2000))
    assert Template("text", source).render(long, "OTHERWISE") == "OTHERWISE"


def test_what_no_sample_shows_gives_way_to_our_own_words() -> None:
    template = Template("text", "{% for each in incident.commands %}{{ incident.failures[0].rule }}{% endfor %}")
    assert template.render(OPENED, "OTHERWISE") == "pod-config-missing"
    none = replace(OPENED, incident=replace(OPENED.incident, failures=()))
    assert template.render(none, "OTHERWISE") == "OTHERWISE"


def test_what_is_nested_too_deeply_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="line 1: nested too deeply"):
        Template("text", "{{ id" + "|upper" * 1600 + " }}")


def test_a_finding_is_not_changed_by_what_is_made_of_it() -> None:
    before = repr(OPENED)
    Template("text", "{{ incident.failures|sort(attribute='rule')|list|length }}").render(OPENED, "")
    assert repr(OPENED) == before
    assert OPENED.at - OPENED.incident.opened_at == timedelta(seconds=30)
