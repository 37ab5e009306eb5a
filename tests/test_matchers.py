"""Matchers as people write them, and as they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.matchers import BadMatcher, Matcher, fit, match_all, parse, parse_all

WEB = {"cluster": "c", "namespace": "shop", "kind": "Pod", "name": "web-0", "label:app": "web"}


@pytest.mark.parametrize(
    "text",
    [
        'namespace="shop",name=~"web-.*"',
        '{namespace="shop",name=~"web-.*"}',
        "namespace=shop,name=~web-.*",
        ' { namespace = "shop" , name =~ "web-.*" , } ',
        '"namespace"="shop","name"=~"web-.*",',
        r'namespace="\x73\150\u006f\U00000070",name=~"web-.*"',
    ],
)
def test_one_thing_can_be_written_in_many_ways(text: str) -> None:
    matchers = parse(text)
    assert [(each.name, each.operator, each.value) for each in matchers] == [
        ("namespace", "=", "shop"),
        ("name", "=~", "web-.*"),
    ]
    assert fit(matchers, WEB)
    assert not fit(matchers, WEB | {"namespace": "other"})


@pytest.mark.parametrize("text", ["", "  ", "{}", "{ }"])
def test_no_matcher_matches_everything(text: str) -> None:
    assert parse(text) == ()
    assert match_all(parse(text))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("kind=Pod", True),
        ("kind=pod", False),
        ("kind!=Pod", False),
        ("kind!=Node", True),
        ("name=~web", False),  # anchored at both ends
        ("name=~web-[0-9]+", True),
        ('name=~"web-0|db"', True),
        ("name!~web-.*", False),
        ("name!~db-.*", True),
        ("name=~(?i)WEB-0", True),
        ("label:app=web", True),
        ('label:team=""', True),  # absent is empty
        ("label:team!=a", True),
        ("label:team=~.*", True),
        ("label:team=~.+", False),
        ("namespace-label:team=a", False),
    ],
)
def test_a_matcher_fits(text: str, fits: bool) -> None:
    assert fit(parse(text), WEB) is fits


def test_keys_of_labels_may_have_all_that_kubernetes_allows() -> None:
    (matcher,) = parse('label:app.kubernetes.io/part-of_x="shop"')
    assert matcher.matches({"label:app.kubernetes.io/part-of_x": "shop"})


def test_a_value_may_have_any_characters_within_quotes() -> None:
    (matcher,) = parse(r'label:a="}, = ~ ! \"quoted\" \\ \t ü 😀"')
    assert matcher.value == '}, = ~ ! "quoted" \\ \t ü 😀'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("namespace", "'namespace': an operator is missing at the end; write = != =~ or !~ after 'namespace'"),
        ("namespace shop", "an operator is missing at character 11, 'shop'"),
        ("namespace=", "the value of namespace is missing or cannot stand so at the end; put it in double quotes"),
        ('namespace="shop', "cannot stand so at character 11, '\"shop'"),
        ("namespace='shop'", "cannot stand so at character 11"),
        ("namespace==shop", "cannot stand so at character 11, '=shop'"),
        ("namespace=shop kind=Pod", "a comma is missing at character 16, 'kind=Pod'; put one between two matchers"),
        ("namespace=shop,,kind=Pod", "a label name is missing at character 16"),
        (",namespace=shop", "a label name is missing at character 1"),
        ("{namespace=shop", "the brace is not closed at the end; end with }"),
        ("namespace=shop}", "no brace was opened at character 15"),
        ("{namespace=shop}}", "there is more after the brace at character 17"),
        ("nmespace=shop", "nothing is called 'nmespace' at character 1"),
        ("nmespace=shop", "did you mean namespace?"),
        ("alertname=x", "known are cluster, namespace, kind, name, rule, severity, label:KEY, namespace-label:KEY"),
        ("label:=x", "nothing is called 'label:'"),
        ('name=~"web-("', "no regular expression (missing ): web-() at character 7, '\"web-(\"'; mend it"),
        ('name=~"(?=a)"', "no regular expression (invalid perl operator: (?=)"),
        ('name="\\q"', "no such escape within double quotes at character 7, '\\q\"'; write a backslash as \\\\"),
        ('name="\\777"', "no such escape"),
        ('name="\\ud800"', "no such escape"),
        ('name="\\xff"', "the escapes make no UTF-8"),
        ('name="a\nb"', "a line ends within quotes at character 8, '\\u000ab\"'"),
        ("name=\udcff", "what is no UTF-8 at character 6"),
        ("name=" + "x" * 5000, "has 5005 characters; say it in 4096 at most"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_its_place_and_a_remedy(text: str, told: str) -> None:
    with pytest.raises(BadMatcher) as caught:
        parse(text)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_no_regular_expression_takes_for_ever() -> None:
    (nested,) = parse('name=~"(a+)+(b|a)*(a*)*x"')
    # Backtracking would take longer than the universe has lasted.
    assert not nested.matches({"name": "a" * 10_000})


@pytest.mark.parametrize(
    "text", ['name=~"a{1001}"', 'name=~"((a{100}){100}){100}"', 'name=~"(((\\\\pL{9}){9}){9}){9}"']
)
def test_no_regular_expression_takes_much_memory(text: str) -> None:
    with pytest.raises(BadMatcher, match="no regular expression"):
        parse(text)


OPERATORS = ["=", "!=", "=~", "!~"]
NAMES = st.sampled_from(["cluster", "name", "label:app", "namespace-label:a.b/c", "label:ü x"])


@given(st.lists(st.tuples(NAMES, st.sampled_from(OPERATORS[:2]), st.text()), max_size=5), st.booleans())
def test_what_is_written_out_is_read_again(told: list[tuple[str, str, str]], braces: bool) -> None:
    matchers = tuple(Matcher(*each) for each in told if len(each[2]) < 200)
    text = ",".join(map(str, matchers))
    assert parse(f"{{{text}}}" if braces else text) == matchers
    assert text.isprintable()


def read(text: str) -> tuple[Matcher, ...] | str:
    try:
        return parse(text)
    except BadMatcher as error:
        return str(error)


@given(st.text(alphabet='abcname=~!"{}, \\x41:\u00e9\n', max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    told = read(text)
    if isinstance(told, str):
        assert told.isprintable()
    else:
        assert parse_all(map(str, told)) == told


@given(st.sampled_from([*WEB, "label:team"]), st.sampled_from(["shop", "web-0", "", "web"]))
def test_a_negated_matcher_fits_just_what_the_other_does_not(name: str, value: str) -> None:
    for yes, no in (("=", "!="), ("=~", "!~")):
        assert fit(parse(f'{name}{yes}"{value}"'), WEB) is not fit(parse(f'{name}{no}"{value}"'), WEB)
