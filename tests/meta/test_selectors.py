"""Label and field selectors: grammar, semantics and upstream's error texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jota.meta.errors import ApiError
from jota.meta.selectors import from_map, from_node_terms, from_object, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "empty": "", "n": "7"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db", True),
        ("missing!=x", True),
        ("app in (web,db)", True),
        ("app in ( db )", False),
        ("app notin (db)", True),
        ("missing notin (x)", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("empty=", True),
        ("empty in (,x)", True),
        ("n>6,n<8", True),
        ("n>7", False),
        ("app>1", False),
        ("app=web , tier in (front,back),!old", True),
        ("app=web,tier=back", False),
    ],
)
def test_a_label_selector_selects(text: str, expected: bool) -> None:
    assert parse_labels(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (b !", "unable to parse requirement: found '!', expected: ',' or ')'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
    ],
)
def test_a_bad_label_selector_is_400_in_upstream_words(text: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(text)
    assert (caught.value.code, caught.value.message) == (400, message)


@pytest.mark.parametrize("text", ["a=b/c", "a/b/c=d", "-a=b", "a in (b*)", "a>x", "a=" + "x" * 64])
def test_keys_and_values_are_validated(text: str) -> None:
    with pytest.raises(ApiError, match="Invalid value"):
        parse_labels(text)


@given(st.text(alphabet="ab=!,()<> in\\x/", max_size=24))
def test_any_text_parses_or_is_400_and_prints_what_it_means(text: str) -> None:
    try:
        selector = parse_labels(text)
    except ApiError as e:
        assert e.code == 400
        return
    assert parse_labels(str(selector)) == selector


def test_selector_objects() -> None:
    assert not from_object(None).matches(LABELS)
    assert not from_object(None).empty
    assert from_object({}).matches(None)
    assert from_object({}).empty
    selector = from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches(LABELS)
    assert not selector.matches({**LABELS, "old": "1"})
    assert str(selector) == "app in (web),!old,tier in (back,front)"


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "Like", "values": ["x"]},
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"key": "a b", "operator": "Exists"},
    ],
)
def test_bad_expressions_are_400(expression: dict[str, object]) -> None:
    with pytest.raises(ApiError) as caught:
        from_object({"matchExpressions": [expression]})
    assert caught.value.code == 400


def test_map_and_node_selectors() -> None:
    assert from_map({"app": "web"}).matches(LABELS)
    assert not from_map({}).matches(LABELS)
    assert from_node_terms([{"key": "n", "operator": "Gt", "values": ["3"]}]).matches(LABELS)


def test_field_selectors() -> None:
    selector = parse_fields("metadata.name=a,status.phase!=Running,x==1\\,2")
    assert selector.requirements == [("metadata.name", "=", "a"), ("status.phase", "!=", "Running"), ("x", "=", "1,2")]
    values = {"metadata.name": "a", "status.phase": "Pending", "x": "1,2"}
    assert selector.matches(lambda field: values.get(field, ""))
    assert not selector.matches(lambda field: "Running")
    assert selector.exact("metadata.name") == "a"
    assert selector.exact("status.phase") is None
    assert parse_fields("").empty


@pytest.mark.parametrize("text", ["a", "a,b=c", "a=b\\z", "a=b=c"])
def test_bad_field_selectors_are_400(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_fields(text)
    assert caught.value.code == 400


@given(
    st.lists(st.tuples(st.sampled_from(["a.b", "c"]), st.sampled_from(["=", "!="]), st.text(max_size=6)), max_size=3)
)
def test_field_selectors_print_what_they_mean(terms: list[tuple[str, str, str]]) -> None:
    escaped = [f + op + v.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=") for f, op, v in terms]
    selector = parse_fields(",".join(escaped))
    assert selector.requirements == sorted(terms)
    assert parse_fields(str(selector)).requirements == selector.requirements
