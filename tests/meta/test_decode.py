"""Request bodies: JSON and YAML, strictness, hostile input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jota.meta import schema, yamlbody
from jota.meta.decode import decode_body
from jota.meta.errors import ApiError

POD, DEPLOYMENT = "io.k8s.api.core.v1.Pod", "io.k8s.api.apps.v1.Deployment"
JSON, YAML = "application/json", "application/yaml"
BAD = (
    b'{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"unknown1":1,"dupe":1,"dupe":2,'
    b'"paused":true,"paused":false,"template":{"spec":{"containers":[{"name":"a","imagePullPolicy":"a","nope":1,'
    b'"imagePullPolicy":"b"}]}}}}'
)
FOUND = [
    'unknown field "spec.unknown1"',
    'unknown field "spec.dupe"',
    'duplicate field "spec.paused"',
    'unknown field "spec.template.spec.containers[0].nope"',
    'duplicate field "spec.template.spec.containers[0].imagePullPolicy"',
]


def _refused(content_type: str, body: bytes, definition: str | None = POD, strict: str = "Strict") -> ApiError:
    with pytest.raises(ApiError) as caught:
        decode_body(content_type, body, definition, strict=strict)
    return caught.value


def test_strict_errors_come_in_document_order() -> None:
    value, warnings = decode_body(JSON, BAD, DEPLOYMENT, strict="Warn")
    assert warnings == FOUND
    assert value["spec"] == {
        "paused": False,
        "template": {"spec": {"containers": [{"name": "a", "imagePullPolicy": "b"}]}},
    }
    assert decode_body(JSON, BAD, DEPLOYMENT, strict="Ignore") == (value, [])
    error = _refused(JSON, BAD, DEPLOYMENT)
    assert (error.code, error.reason) == (400, "BadRequest")
    assert error.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: ' + ", ".join(FOUND)
    )


def test_a_clean_body_has_no_warnings_with_any_spacing_or_escapes() -> None:
    for body in (b'{"kind":"Pod","metadata":{"name":"a"}}', b'{ "kind": "Pod",\n "metadata": {"name": "\\u0061"} }\n'):
        value, warnings = decode_body("application/json; charset=utf-8", body, POD, strict="Strict")
        assert value == {"kind": "Pod", "metadata": {"name": "a"}}
        assert warnings == []


def test_nulls_count_as_absent() -> None:
    body = b'{"metadata":{"name":"a","creationTimestamp":null},"spec":{"containers":null}}'
    assert decode_body(JSON, body, POD, strict="Strict") == ({"metadata": {"name": "a"}, "spec": {}}, [])


def test_wrong_types_are_400_whatever_the_strictness() -> None:
    error = _refused(JSON, b'{"kind":"Pod","apiVersion":"v1","spec":{"hostNetwork":"yes"}}', strict="Ignore")
    assert error.message == (
        'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field '
        "PodSpec.spec.hostNetwork of type bool"
    )


def test_a_custom_resources_own_types_are_not_the_decoders_business() -> None:
    root = schema.from_structural({"type": "object", "properties": {"spec": {"type": "string"}}})
    value, warnings = decode_body(JSON, b'{"spec":1,"typo":2,"metadata":{}}', root, strict="Warn")
    assert (value, warnings) == ({"spec": 1, "metadata": {}}, ['unknown field "typo"'])
    with pytest.raises(ApiError, match="of type v1"):
        decode_body(JSON, b'{"metadata":1}', root, strict="Warn")


@pytest.mark.parametrize("body", [b"", b"  ", b"{", b"{]", b'{"a":}', b"\xff", b"[" * 5000 + b"]" * 5000, b"nul"])
def test_what_is_no_json_is_400(body: bytes) -> None:
    assert _refused(JSON, body).code == 400


def test_the_position_of_an_error_is_told() -> None:
    assert "line 2 column" in _refused(JSON, b'{"a": 1,\n "b" 2}').message


def test_depth_is_bounded() -> None:
    deep = b'{"a":' * 201 + b"1" + b"}" * 201
    assert "max depth" in _refused(JSON, deep, None).message
    assert decode_body(JSON, b'{"a":' * 150 + b"1" + b"}" * 150, None)[1] == []


def test_unknown_media_types_are_415() -> None:
    error = _refused("text/html", b"{}")
    assert error.code == 415
    assert "accepted media types include: application/json" in error.message


# --- YAML ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: '1'", {"a": "1"}),
        ("a: yes", {"a": True}),
        ("a: off", {"a": False}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: 0x10", {"a": 16}),
        ("a: 0b11", {"a": 3}),
        ("a: 0777", {"a": 511}),
        ("a: 0o17", {"a": 15}),
        ("a: 1_000", {"a": 1000}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 1Gi", {"a": "1Gi"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: !!str 1", {"a": "1"}),
        ("1: a", {"1": "a"}),
        ("true: a", {"true": "a"}),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, d: 2}\nc:\n  <<: *x\n  d: 3", {"a": {"b": 1, "d": 2}, "c": {"b": 1, "d": 3}}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ('{"a": "b\\n"}', {"a": "b\n"}),
        ("---\na: 1\n---\nb: 2", {"a": 1}),
    ],
)
def test_yaml_values(text: str, value: Any) -> None:
    assert yamlbody.load(text.encode(), 50) == (value, [])


def test_duplicate_keys_in_yaml_are_told_with_their_lines() -> None:
    text = b"kind: Pod\napiVersion: v1\nspec:\n  hostNetwork: true\n  hostNetwork: false\n  typo: 1\n"
    _, warnings = decode_body(YAML, text, POD, strict="Warn")
    assert warnings == [
        'yaml: unmarshal errors:\n  line 5: key "hostNetwork" already set in map',
        'unknown field "spec.typo"',
    ]


def test_aliased_values_do_not_share() -> None:
    value, _ = yamlbody.load(b"a: &x [1]\nb: *x", 50)
    value["a"].append(2)
    assert value["b"] == [1]


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [" % (c, c) + b",".join([b"*%c" % (c - 1)] * 9) + b"]\n" for c in range(ord("b"), ord("j"))
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "excessive aliasing"),
        (b"a: &a [*a]", "unknown anchor"),
        (b"a: *b", "unknown anchor"),
        (b"a: [", "did not find"),
        (b"a: !!python/object:os.system x", "unknown tag"),
        (b"a: !!int x", "cannot decode"),
        (b"{[a]: b}", "key"),
        (b"[" * 5000, "depth"),
        (b"\tx", "line 1"),
        (b"a: b: c", "line 1"),
        (b"\x00", "yaml"),
        (b"<<: 1", "map merge"),
    ],
)
def test_bad_yaml_is_400(text: bytes, message: str) -> None:
    error = _refused(YAML, text, None)
    assert error.code == 400
    assert message in error.message


@given(st.text(alphabet="ab:&*-[]{}!<|>\n \"'#,1", max_size=40))
def test_any_text_is_a_value_or_400(text: str) -> None:
    try:
        decode_body(YAML, text.encode(), None, strict="Strict")
    except ApiError as e:
        assert e.code == 400


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_400(body: bytes) -> None:
    for media in (JSON, YAML, "application/vnd.kubernetes.protobuf"):
        try:
            decode_body(media, body, POD, strict="Strict")
        except ApiError as e:
            assert e.code == 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.sampled_from([None, 2]), st.booleans())
@example({"a": "\x7f\x85\ud7ff\ue000\u2028\ufeff", "b": "~", "=": "<<", "y": "1e3"}, None, False)
def test_json_that_is_said_to_be_yaml_is_the_same_value(value: Any, indent: int | None, ascii_: bool) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_).encode()
    assert decode_body("application/apply-patch+yaml", body, None, strict="Strict") == (value, [])


@pytest.mark.parametrize("body", ['{"a":1,"a":2}', '{"a": 1, "a": 2}', '{"b":{"a":1,"a":2}}'])
def test_what_is_to_be_said_of_json_as_yaml_is_said(body: str) -> None:
    _, warnings = decode_body("application/apply-patch+yaml", body.encode(), None, strict="Warn")
    assert [w for w in warnings if 'key "a" already set in map' in w]


@pytest.mark.parametrize("body", ["{a: 1}", '{"a": b}', "{'a': 1}", '{"a": 1} # yes', '{"a": 01}'])
def test_yaml_that_looks_like_json_is_yaml(body: str) -> None:
    value, _ = decode_body("application/apply-patch+yaml", body.encode(), None)
    assert list(value) == ["a"]


class _Twice(list[tuple[str, Any]]):
    """An object as it is written: pairs, whose keys may repeat."""


_KEYS = st.sampled_from(["a", "b", 'q":', "x :", "c\\", "\u00e9", "<"])
_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(["", '":', '" :', "a:b", "<&>", "\\", "\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_KEYS, inner), max_size=3).map(_Twice),
    max_leaves=12,
)


def _written(value: Any, space: str, text: Any) -> str:
    if isinstance(value, _Twice):
        inner = [f"{text(key)}{space}:{space}{_written(child, space, text)}" for key, child in value]
        return "{" + f"{space},{space}".join(inner) + "}"
    if isinstance(value, list):
        return f"[{f',{space}'.join(_written(child, space, text) for child in value)}]"
    return str(text(value)) if isinstance(value, str) else json.dumps(value)


def _repeats(value: Any) -> bool:
    if isinstance(value, _Twice):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(_repeats(child) for _, child in value)
    return isinstance(value, list) and any(map(_repeats, value))


def _as_numbers(text: str) -> str:
    return '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"'


@given(
    st.lists(st.tuples(_KEYS, _VALUES), max_size=4).map(_Twice),
    st.sampled_from(["", " ", "\n\t"]),
    st.sampled_from([json.dumps, lambda text: json.dumps(text, ensure_ascii=False), _as_numbers]),
)
def test_a_key_that_is_there_twice_is_told_however_the_body_is_written(value: _Twice, space: str, text: Any) -> None:
    _, warnings = decode_body(JSON, _written(value, space, text).encode(), None, strict="Warn")
    assert bool(warnings) == _repeats(value)
