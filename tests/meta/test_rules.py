"""CEL rules of structural schemas: typed values, transitions, messages, paths, and costs before and while they run."""

from __future__ import annotations

from typing import Any

import pytest

from jota.meta import cel
from jota.meta.structural import rules

Schema = dict[str, Any]


def schema_of(spec: Schema, *validations: dict[str, Any]) -> Schema:
    return {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": spec, "x-kubernetes-validations": list(validations)}},
    }


def problems(spec: Schema, rule: str, value: Any, old: Any = None, **more: Any) -> list[str]:
    node = rules.compile_schema(schema_of(spec, {"rule": rule, **more}))
    found = node.check({"spec": value}, None if old is None else {"spec": old})
    return [f"{e.field}: {e.message}" for e in found]


TIMES: Schema = {
    "from": {"type": "string", "format": "date-time"},
    "day": {"type": "string", "format": "date"},
    "ttl": {"type": "string", "format": "duration"},
    "key": {"type": "string", "format": "byte"},
}


def test_formats_are_types() -> None:
    value = {"from": "2024-01-01T00:00:00Z", "day": "2024-01-02", "ttl": "24h", "key": "aGk="}
    for rule in (
        "self.from + self.ttl == self.day",
        "self.from.getFullYear() == 2024",
        "self.key == b'hi' && self.ttl > duration('1h')",
    ):
        assert problems(TIMES, rule, value) == []
    assert problems(TIMES, "self.from > self.day", value) == [
        'spec: Invalid value: "object": failed rule: self.from > self.day'
    ]
    errors = rules.validate(schema_of(TIMES, {"rule": "self.from == 'x'"}), "s")
    assert "found no matching overload for '_==_' applied to '(timestamp, string)'" in errors[0].message


def test_lists_that_are_sets_or_maps_compare_as_such() -> None:
    spec: Schema = {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
        },
    }
    value = {"set": ["a", "b"], "map": [{"k": "x", "v": 1}, {"k": "y", "v": 2}]}
    old = {"set": ["b", "a"], "map": [{"k": "y", "v": 2}, {"k": "x", "v": 1}]}
    assert problems(spec, "self.set == oldSelf.set && self.map == oldSelf.map", value, old) == []
    assert problems(spec, "(self.set + ['b', 'c']).size() == 3 && (self.map + self.map).size() == 2", value) == []


def test_transitions_messages_reasons_and_paths() -> None:
    spec = {"n": {"type": "integer"}, "my-list": {"type": "object", "properties": {"x": {"type": "integer"}}}}
    rule = {"rule": "self.n >= oldSelf.n", "messageExpression": "'not below ' + string(oldSelf.n)"}
    assert problems(spec, value={"n": 1}, **rule) == []
    assert problems(spec, value={"n": 1}, old={"n": 2}, **rule) == ['spec: Invalid value: "object": not below 2']
    found = problems(spec, "self.n > 0", {"n": 0}, fieldPath=".my-list.x", reason="FieldValueForbidden", message="no")
    assert found == ["spec.my-list.x: Forbidden: no"]
    optional = {"rule": "self.n > oldSelf.n.orValue(0)", "optionalOldSelf": True}
    assert problems(spec, value={"n": 0}, **optional)
    assert not problems(spec, value={"n": 3}, old={"n": 2}, **optional)


def test_no_transitions_where_old_items_cannot_be_found() -> None:
    items = {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}
    schema = {"type": "object", "properties": {"l": {"type": "array", "maxItems": 3, "items": items}}}
    words = "Forbidden: oldSelf cannot be used on the uncorrelatable portion of the schema"
    assert [e.message for e in rules.validate(schema, "s")] == [words]


def test_errors_while_running_name_the_rule() -> None:
    spec = {
        "either": {"x-kubernetes-int-or-string": True},
        "m": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    (found,) = problems(spec, "self.either > 3", {"either": "x"})
    words = (
        "'no such overload': call arguments did not match a supported operator, function or macro signature for rule"
    )
    assert found == f'spec: Invalid value: "object": {words}: self.either > 3'
    (found,) = problems(spec, "self.m.a == 'x'", {"m": {}})
    assert found == "spec: Invalid value: \"object\": no such key: a evaluating rule: self.m.a == 'x'"


NUMBERS = {"l": {"type": "array", "items": {"type": "integer"}}, "m": {"type": "array", "items": {"type": "integer"}}}


def test_a_rule_that_costs_too_much_ends_the_check() -> None:
    value = {"l": list(range(600)), "m": list(range(600))}
    found = problems(NUMBERS, "self.l.all(a, self.m.all(b, a + b >= 0))", value)
    assert len(found) == 1
    assert "'operation cancelled: actual cost limit exceeded': no further validation rules will be run" in found[0]
    small = {"l": list(range(400)), "m": list(range(300))}
    rule = {"rule": "self.l.all(a, self.m.all(b, a + b >= 0))"}
    node = rules.compile_schema(schema_of(NUMBERS, *[rule] * 20, {"rule": "false"}))
    assert [e.message for e in node.check({"spec": small}, None)] == [
        'Invalid value: "object": validation failed due to running out of cost budget, no further validation rules will be run'
    ]


@pytest.mark.parametrize(
    ("rule", "spec", "words"),
    [
        ("self.l.all(a, self.m.all(b, a != b))", NUMBERS, "more than 100x"),
        ("self.s.contains(self.s)", {"s": {"type": "string"}}, "more than 100x"),
        ("self.s.contains('x')", {"s": {"type": "string", "maxLength": 100}}, ""),
        ("self.l.all(a, a > 0)", {"l": {"type": "array", "maxItems": 10, "items": {"type": "integer"}}}, ""),
        ("self.s.startsWith('x')", {"s": {"type": "string"}}, ""),
    ],
)
def test_estimates_refuse_what_could_cost_too_much(rule: str, spec: Schema, words: str) -> None:
    errors = rules.validate(schema_of(spec, {"rule": rule}), "s")
    if not words:
        assert errors == []
        return
    assert errors[0].message == (
        f"Forbidden: estimated rule cost exceeds budget by factor of {words} (try simplifying the rule, or adding "
        "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
    assert errors[0].field.endswith(".x-kubernetes-validations[0].rule")
    assert "estimated rule cost total for entire OpenAPIv3 schema exceeds budget" in errors[1].message


def test_the_estimate_counts_how_often_a_rule_runs() -> None:
    inner = {"type": "string", "maxLength": 5000, "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]*$')"}]}
    bounded = {"type": "object", "properties": {"l": {"type": "array", "maxItems": 100, "items": inner}}}
    assert rules.validate(bounded, "s") == []
    free = {"type": "object", "properties": {"l": {"type": "array", "items": inner}}}
    assert "exceeds budget" in rules.validate(free, "s")[0].message


PORTS = {"type": "object", "properties": {"port": {"type": "integer"}, "name": {"type": "string", "maxLength": 253}}}
LISTENERS: Schema = {"type": "array", "maxItems": 64, "items": PORTS}


@pytest.mark.parametrize(
    ("rule", "units"),
    [
        ("self.all(t1, self.exists_one(t2, t1.port == t2.port))", 24962),
        ("self.all(l1, self.exists_one(l2, l1.name == l2.name))", 442754),
        ("self.filter(l, l.port == 80).size() <= 1", 974),
        ("self.map(l, l.port).sum() > 0", 973),
        ("self.exists(l, l.port > 80 && l.name.startsWith('a'))", 642),
    ],
)
def test_estimates_are_those_of_upstream(rule: str, units: int) -> None:
    """The figures are what Kubernetes 1.37 computes for the same schema."""
    assert cel.compile(rule, {"self": LISTENERS}).most_cost == units
