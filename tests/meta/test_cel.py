"""CEL through its one door: what Kubernetes' rules use, told right at compile time and at run time."""

from __future__ import annotations

from typing import Any

import pytest

from jota.meta import cel
from jota.meta.structural import adapt, patterns, rules

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "name": {"type": "string"},
        "if": {"type": "boolean"},
        "my-key": {"type": "string"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
        "limits": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "ratio": {"type": "number"},
    },
}
VALUE = {
    "size": 3,
    "name": "web",
    "if": True,
    "my-key": "x",
    "items": [{"port": 80}, {"port": 443}],
    "limits": {"cpu": "500m"},
    "free": {"a": {"b": 1}},
    "ratio": 1,
}


def evaluate(expression: str, *, returns: str = "") -> Any:
    program = cel.compile(expression, {"self": SCHEMA}, returns=returns)
    return program.evaluate({"self": adapt.adapt(SCHEMA, VALUE)})


@pytest.mark.parametrize(
    "expression",
    [
        "self.size > 2 && self.name.startsWith('w')",
        "self.__if__ && self.my__dash__key == 'x'",
        "self.items.all(i, i.port > 0) && self.items.exists_one(i, i.port == 80)",
        "self.items.map(i, i.port) == [80, 443]",
        "'cpu' in self.limits && quantity(self.limits['cpu']).isLessThan(quantity('1'))",
        "quantity('1000m') == quantity('1') && quantity('1Gi').compareTo(quantity('1G')) == 1",
        "quantity('2').add(quantity('500m')).sub(1) == quantity('1500m') && isQuantity('1Ki') && !isQuantity('x')",
        "self.limits.cpu == '500m' && self.limits[?'zz'].orValue('7') == '7' && !has(self.limits.q)",
        "self.ratio == 1.0 && self.ratio / 2.0 == 0.5",
        "isIP('10.0.0.1') && !isIP('10.0.0.01') && ip('::1').isLoopback() && ip('::1').family() == 6",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
        "url('https://u@h.io:8443/p?q=1').getHost() == 'h.io:8443' && url('https://[::1]/').getHostname() == '::1'",
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [1, 2].isSorted() && ['a', 'b'].indexOf('b') == 1",
        "'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]').size() == 2 && 'abc'.indexOf('c') == 2",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').compareTo(semver('1.0.0')) < 0",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
        "'%s-%d'.format(['a', 1]) == 'a-1' && 'a,b'.split(',').size() == 2",
        "cel.bind(x, self.size, x * x) == 9",
        "duration('1h') > duration('30m') && timestamp('2020-01-01T00:00:00Z').getFullYear() == 2020",
    ],
)
def test_what_rules_use(expression: str) -> None:
    assert evaluate(expression, returns="bool") is True


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("self.sise > 1", "ERROR: <input>:1:5: undefined field 'sise'\n | self.sise > 1\n | ....^"),
        ("self.items.all(i, i.prot > 1)", "undefined field 'prot'"),
        ("self.size + 'a' == ''", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("self.name == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("self.free.a == 1", "undefined field 'a'"),
        ("self.name.first == 1", "type 'string' does not support field selection"),
        ("other > 1", "undeclared reference to 'other'"),
        ("nothing(1)", "undeclared reference to 'nothing'"),
        ("self.size >", "Syntax error"),
        ("self.size", "must evaluate to bool"),
        ("", "compilation failed"),
        ("1" * 30_000, "compilation failed"),
    ],
)
def test_what_does_not_compile(expression: str, text: str) -> None:
    with pytest.raises(cel.CelCompileError) as caught:
        evaluate(expression, returns="bool")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("self.limits.zz == '1'", "no such key: zz"),
        ("1 / (self.size - 3) == 1", "division by zero"),
        ("self.size + 9223372036854775807 > 0", "integer overflow"),
        ("quantity(self.name) == quantity('1')", "quantities must match"),
        ("dyn(self.name) + dyn(1) == ''", "no such overload"),
        ("self.items[5].port == 1", "index out of bounds: 5"),
    ],
)
def test_what_fails_at_run_time(expression: str, text: str) -> None:
    with pytest.raises(cel.CelError, match=text):
        evaluate(expression)


def test_time_is_bounded() -> None:
    ten = "[0,1,2,3,4,5,6,7,8,9]"
    expression = "true"
    for name in "abcdefg":
        expression = f"{ten}.all({name}, {expression})"
    with pytest.raises(cel.CelError) as caught:
        cel.compile(expression, {}).evaluate({})
    assert caught.value.over_budget


def test_patterns_that_backtrack_for_ever_do_not() -> None:
    assert not patterns.matches("^(a+)+$", "a" * 60 + "b")
    assert patterns.matches("^[a-z]+$", "abc")
    assert not patterns.matches("^[a-z]+$", "abc\n")
    assert not patterns.matches("(", "x")


def test_an_old_value_may_be_missing() -> None:
    schema = {
        "type": "integer",
        "x-kubernetes-validations": [
            {"rule": "oldSelf.hasValue() ? self >= oldSelf.value() : self > 0", "optionalOldSelf": True}
        ],
    }
    node = rules.compile_schema({"type": "object", "properties": {"n": schema}})
    assert not node.check({"n": 1}, None)
    assert node.check({"n": 0}, None)
    assert node.check({"n": 1}, {"n": 2})[0].field == "n"


NUMBERS = {
    "int": "9" * 5000,
    "uint": "9" * 5000 + "u",
    "hex": "0x" + "f" * 5000,
    "next": str(2**63),
    "unext": f"{2**64}u",
}


@pytest.mark.parametrize("literal", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_any_length_are_errors_of_the_expression(literal: str) -> None:
    with pytest.raises(cel.CelCompileError, match=r"invalid u?int literal"):
        cel.compile(literal, {}, returns="")
    assert cel.compile("0x" + "0" * 5000 + "7", {}, returns="").evaluate({}) == 7
