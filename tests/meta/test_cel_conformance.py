"""The language and Kubernetes' libraries, one expression per behaviour: results, errors in cel-go's words, costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.meta import cel
from jota.meta.cel.values import AuthorizerValue, duration, timestamp

VARIABLES = {"x": None, "l": None, "m": None, "t": None, "d": None, "a": None, "n": None}
VALUES: dict[str, Any] = {
    "x": 5,
    "l": [1, 2, 3],
    "m": {"a": 1, "b": {"c": [10, 20]}, "none": None},
    "t": timestamp("2024-02-29T12:30:45.123Z"),
    "d": duration("1h30m"),
    "n": None,
    "a": AuthorizerValue("ann", lambda user, asked: (user == "ann" and asked.get("verb") == "get", "so it is")),
}


def run(expression: str) -> Any:
    return cel.compile(expression, VARIABLES, returns="").evaluate(VALUES)


LANGUAGE = [
    # literals
    r"'\x41\u00e9\101\n' == 'Aé' + 'A\n' && r'\n'.size() == 2 && '''a'b''' == 'a\'b' && b'\xff' == b'\377'",
    "0x1F == 31 && 1e3 == 1000.0 && .5 == 0.5 && 7u == uint(7) && -9223372036854775808 < 0",
    # arithmetic keeps the sign of Go's
    "-7 / 2 == -3 && -7 % 2 == -1 && 7 / -2 == -3 && 1.0 / 0.0 > 1e308 && 2u * 3u == 6u",
    # comparison across number types, equality only for dyn
    "1 < 2.5 && 2u > 1 && dyn(1) == 1.0 && dyn(1) != 'a' && [1] == [1] && {'a': 1} == {'a': 1} && null == null",
    "[dyn(1), 2.0] == [dyn(1.0), dyn(2)] && 'a' < 'b' && b'a' < b'b' && false < true",
    # errors are absorbed
    "true || 1 / 0 == 1",
    "1 / 0 == 1 || true",
    "!(false && 1 / 0 == 1) && !(1 / 0 == 1 && false)",
    "[1, 0].exists(i, 2 / i == 2) && !([0, 1].all(i, 2 / i == 1))",
    # membership, index, presence
    "2 in l && !(9 in l) && 'a' in m && l[0] == 1 && m['a'] == 1 && has(m.a) && !has(m.z) && has(m.none)",
    # optional values
    "m.?a.orValue(0) == 1 && m.?z.?y.orValue(7) == 7 && m[?'z'].hasValue() == false && l[?9].orValue(4) == 4",
    "optional.of(3).optMap(v, v * 2).value() == 6 && optional.none().or(optional.of(1)).value() == 1",
    "optional.ofNonZeroValue('').hasValue() == false && m.?b.c[?1].orValue(0) == 20",
    "optional.of(3).optFlatMap(v, v > 2 ? optional.of(v) : optional.none()).hasValue()",
    "[?m.?z, ?m.?a] == [1] && {?'k': m.?z, 'j': 2} == {'j': 2}",
    # macros
    "l.map(i, i * i) == [1, 4, 9] && l.map(i, i > 1, i * 10) == [20, 30] && l.filter(i, i > 1) == [2, 3]",
    "l.exists_one(i, i == 2) && !l.exists_one(i, i > 1) && {'p': 1, 'q': 2}.all(k, k in ['p', 'q'])",
    "l.all(i, v, i + 1 == v) && {'p': 1}.exists(k, v, k == 'p' && v == 1) && l.existsOne(i, v, v == 3)",
    "l.transformList(i, v, i * v) == [0, 2, 6] && l.transformList(i, v, i > 0, v) == [2, 3]",
    "{'p': 1, 'q': 2}.transformMap(k, v, v + 1) == {'p': 2, 'q': 3}",
    "{'p': 1, 'q': 2}.transformMap(k, v, k != 'p', v) == {'q': 2}",
    "{'p': 'x', 'q': 'y'}.transformMapEntry(k, v, {v: k}) == {'x': 'p', 'y': 'q'}",
    "l.all(i, l.exists(j, j == i)) && cel.bind(y, x + 1, y * y) == 36 && l.map(x, x)[0] + x == 6",
    # conversions and types
    "int('12') == 12 && int(3.9) == 3 && uint(3) == 3u && double('1.5') == 1.5 && bool('true') && string(1.0) == '1'",
    "string(1e6) == '1e+06' && string(0.1) == '0.1' && string(123456.5) == '123456.5' && string(b'abc') == 'abc'",
    "bytes('é').size() == 2 && 'é'.size() == 1 && type(1) == int && type('a') == string && type(l) == list",
    "type(t) == google.protobuf.Timestamp && type(null) == null_type && type(optional.of(1)) == optional_type",
    # time
    "t.getFullYear() == 2024 && t.getMonth() == 1 && t.getDate() == 29 && t.getDayOfMonth() == 28",
    "t.getDayOfWeek() == 4 && t.getDayOfYear() == 59 && t.getHours('+02:00') == 14 && t.getMilliseconds() == 123",
    "t.getHours('Asia/Seoul') == 21",
    "d.getMinutes() == 90 && d + duration('30m') == duration('2h') && t - d < t && duration('1.5s').getMilliseconds() == 1500",
    "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T01:00:00+01:00')",
    "string(d) == '5400s' && string(t) == '2024-02-29T12:30:45.123Z' && timestamp(0) == timestamp('1970-01-01T00:00:00Z')",
]
LIBRARIES = [
    "'tacocat'.charAt(3) == 'o' && 'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'aB'.lowerAscii() == 'ab'",
    "'a-b-c'.split('-', 2) == ['a', 'b-c'] && ['a', 'b'].join('+') == 'a+b' && 'abc'.substring(1, 2) == 'b'",
    "'hello'.replace('l', 'L', 1) == 'heLlo' && '  x '.trim() == 'x' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
    "'%s %d %.2f %x %X %b %o %e'.format(['a', 5, 1.5, 255, 'k', 5, 8, 1.0]) == 'a 5 1.50 ff 6B 101 10 1.000000×10⁰⁰'",
    "'%s %s %s'.format([[1, 2], {'k': true}, null]) == '[1, 2] {\"k\":true} null'",
    "'abc 123'.matches('[0-9]+$') && matches('a', '^a$') && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'x'.find('y') == ''",
    "[1.5, 2.0].sum() == 3.5 && [duration('1s')].sum() == duration('1s') && ['b', 'a'].min() == 'a' && [].isSorted()",
    "[1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(4) == -1",
    "[1, 2, 3].slice(1, 3) == [2, 3] && [1, 2].reverse() == [2, 1] && lists.range(3) == [0, 1, 2]",
    "[[dyn(1)], [dyn(2), [3]]].flatten() == [dyn(1), dyn(2), [3]] && [1, 2, 1].distinct() == [1, 2]",
    "['b', 'a'].sort() == ['a', 'b'] && [{'n': 2}, {'n': 1}].sortBy(i, i.n) == [{'n': 1}, {'n': 2}]",
    "sets.contains([1, 2, 3], [3, 1]) && sets.equivalent([1], ['1'].map(i, int(i))) && !sets.intersects([1], [])",
    "math.greatest(1, 5, 3) == 5 && math.least([2, 1]) == 1 && math.abs(-3) == 3 && math.ceil(1.2) == 2.0",
    "math.bitAnd(6, 3) == 2 && math.bitShiftLeft(1, 3) == 8 && math.isNaN(0.0 / 0.0) && math.round(-1.5) == -2.0",
    "base64.encode(b'hi') == 'aGk=' && base64.decode('aGk') == b'hi'",
    "url('https://u@h.io:8443/p/q?a=1&a=2').getQuery() == {'a': ['1', '2']} && url('/x').getScheme() == ''",
    "quantity('50M').isInteger() && quantity('1.5').asApproximateFloat() == 1.5 && quantity('-1').sign() == -1",
    "quantity('1Ki').asInteger() == 1024 && quantity('1') == quantity('1000m') && !isQuantity('1 Gi')",
    "ip('2001:db8::abcd').isGlobalUnicast() && ip.isCanonical('127.0.0.1') && string(ip('::1')) == '::1'",
    "cidr('192.168.1.7/24').masked() == cidr('192.168.1.0/24') && cidr('10.0.0.0/8').prefixLength() == 8",
    "cidr('10.0.0.0/8').containsIP(ip('10.1.1.1')) && cidr('10.0.0.5/8').ip() == ip('10.0.0.5') && !isCIDR('10.0.0.0')",
    "semver('v1.0', true) == semver('1.0.0') && semver('1.2.3-rc.1').minor() == 2 && !isSemver('1.2')",
    "!format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('My_Name').value().size() == 1",
    "format.named('uuid').value().validate('x').value() == ['does not match the UUID format']",
    "!format.named('nothing').hasValue() && !format.dns1035LabelPrefix().validate('my-prefix-').hasValue()",
    "format.labelValue().validate('a b').hasValue() && !format.date().validate('2024-01-01').hasValue()",
    "format.qualifiedName().validate('a/b/c').hasValue() && format.byte().validate('~').value() == ['invalid base64']",
    "a.group('').resource('pods').namespace('x').name('p').check('get').allowed()",
    "!a.group('').resource('pods').check('delete').allowed() && a.path('/healthz').check('get').reason() == 'so it is'",
    "!a.serviceAccount('ns', 'sa').group('').resource('pods').subresource('log').check('get').allowed()",
    "a.group('').resource('pods').fieldSelector('a=b').labelSelector('c=d').check('get').errored() == false",
    "jsonpatch.escapeKey('k8s.io/my~label') == 'k8s.io~1my~0label'",
]


@pytest.mark.parametrize("expression", LANGUAGE + LIBRARIES)
def test_holds(expression: str) -> None:
    assert run(expression) is True


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("m.z", "no such key: z"),
        ("l[7]", "index out of bounds: 7"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("-(-9223372036854775807 - 1)", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("x + 'a'", "no such overload"),
        ("x.y", "no such key: y"),
        ("n.startsWith('a')", "no such overload"),
        ("x ? 1 : 2", "no such overload"),
        ("[dyn(1)].all(i, i)", "no such overload"),
        ("optional.none().value()", "optional.none\\(\\) dereference"),
        ("[1].slice(0, 2)", "list is length 1"),
        ("[dyn(1), 'a'].sort()", "same type"),
        ("lists.range(100000000)", "exceeds maximum"),
        ("[].max()", "max called on empty list"),
        ("'abc'.substring(2, 1)", "invalid substring range"),
        ("quantity('x')", "quantities must match"),
        ("quantity('500m').asInteger()", "cannot convert value to integer"),
        ("ip('1.2.3')", "unable to parse IP"),
        ("ip('::ffff:1.2.3.4')", "IPv4-mapped"),
        ("semver('1')", "No Major.Minor.Patch elements found"),
        ("dyn('(').matches(dyn('('))", "error parsing regexp"),
        ("a.path(' ')", "path must not be empty"),
        ("a.group('').resource('')", "resource must not be empty"),
        ("timestamp(dyn('nonsense'))", "to 'google.protobuf.Timestamp'"),
        ("duration(dyn('1y'))", "to 'google.protobuf.Duration'"),
        ("{'p': 1, 'q': 1}.transformMapEntry(k, v, {v: k})", "already exists"),
    ],
)
def test_fails_when_it_runs(expression: str, text: str) -> None:
    with pytest.raises(cel.CelError, match=text):
        run(expression)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("y", "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y\n | ^"),
        ("x +\n  f(1)", "ERROR: <input>:2:4: undeclared reference to 'f' (in container '')\n |   f(1)\n | ...^"),
        ("1 + 'a'", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("'a'.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("[1].foo()", "undeclared reference to 'foo'"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("{'a': 1, 'b': 'x'}", "expected type 'int' but found 'string'"),
        ("1.exists(i, true)", "expression of type 'int' cannot be range of a comprehension"),
        ("'a'.all(i, true)", "expression of type 'string' cannot be range of a comprehension"),
        ("[1].all(i, i)", "expected type 'bool' but found 'int'"),
        ("[1].filter(i, 'a')", "found no matching overload for '_?_:_' applied to '(string, list(int), list(int))'"),
        ("ip('1.2.3.4').major()", "found no matching overload for 'major' applied to 'net.IP.()'"),
        ("has(x)", "invalid argument to has() macro"),
        ("[1].all(i + 1, true)", "argument must be a simple name"),
        ("[1].all(i, i, true)", "duplicate variable name"),
        ("duration('nonsense')", "invalid duration argument"),
        ("timestamp('nonsense')", "invalid timestamp argument"),
        ("'a'.matches('(')", "invalid matches argument"),
        ("1 +", "Syntax error: mismatched input '<EOF>' expecting"),
        ("(1", "Syntax error: missing ')' at '<EOF>'"),
        ("1 2", "extraneous input '2' expecting <EOF>"),
        ("'abc", "token recognition error"),
        ("if", "reserved identifier: if"),
        ("Object{}", "undeclared reference to 'Object'"),
        ("9223372036854775808", "invalid int literal"),
        ("(" * 200 + "1" + ")" * 200, "expression recursion limit exceeded"),
        ("1" + " + 1" * 500, "expression recursion limit exceeded"),
    ],
)
def test_does_not_compile(expression: str, text: str) -> None:
    with pytest.raises(cel.CelCompileError) as caught:
        run(expression)
    assert str(caught.value).startswith("compilation failed: ")
    assert text in str(caught.value)


def test_long_chains_of_conditions_are_fine() -> None:
    assert run(" && ".join(["x == 5"] * 1000)) is True


OBJECTS = "Object{metadata: Object.metadata{labels: {'a': 'b'}}, ?spec: optional.none()}"


def test_objects_are_made_where_they_may() -> None:
    made = cel.compile(OBJECTS, {}, returns="Object", objects=True).evaluate({})
    assert made == {"metadata": {"labels": {"a": "b"}}}
    patch = "[JSONPatch{op: 'add', path: '/a', value: Object.spec{b: 1}}]"
    assert cel.compile(patch, {}, returns="list(JSONPatch)", objects=True).evaluate({})[0]["value"] == {"b": 1}
    for wrong, text in (
        ("JSONPatch{zz: 1}", "undefined field 'zz'"),
        ("JSONPatch{op: 1}", "expected type of field 'op' is 'string' but provided type is 'int'"),
        ("Other{}", "undeclared reference to 'Other'"),
    ):
        with pytest.raises(cel.CelCompileError) as caught:
            cel.compile(wrong, {}, returns="", objects=True)
        assert text in str(caught.value)
    with pytest.raises(cel.CelCompileError, match="must evaluate to Object"):
        cel.compile("[1]", {}, returns="Object", objects=True)


@pytest.mark.parametrize(
    ("expression", "units"),
    [
        ("1 + 2 == 3", 2),
        ("m.b.c", 3),
        ("has(m.a)", 1),
        ("x > 2 && x < 9", 4),
        ("'abc'.contains('b')", 1),
        ("[1, 2, 3]", 0),
        ("[x, 2, 3]", 11),
        ("{'a': x}", 31),
        ("l.all(i, true)", 11),
        ("'a'.matches('^[a-z]+$')", 2),
        ("a.group('').resource('pods').check('get')", 350_003),
        ("l.map(i, i)", 41),
        ("l.filter(i, i > 1)", 34),
        ("l.exists_one(i, i == 3)", 11),
        ("l.all(i, l.exists(j, j == i))", 65),
        ("{'p': 1}.transformMap(k, v, v)", 5),
        ("{'p': 1}.transformMapEntry(k, v, {v: k})", 35),
        ("optional.of(1).optMap(v, v + 1)", 7),
        ("m[?'z'].orValue(1)", 1),
        ("format.dns1123Label().validate('a')", 9),
        ("[3, 1].sortBy(i, i)", 48),
        ("x in l", 3),
        ("'0123456789012345678901234567890123456789'.lowerAscii()", 4),
    ],
)
def test_costs(expression: str, units: int) -> None:
    _, spent = cel.compile(expression, VARIABLES, returns="").measure(VALUES)
    assert spent == units


def test_a_dear_expression_is_stopped() -> None:
    checks = " && ".join(["a.group('').resource('pods').check('get').allowed()"] * 3)
    with pytest.raises(cel.CelCostError, match="operation cancelled: actual cost limit exceeded"):
        run(checks)
    # nothing absorbs it
    with pytest.raises(cel.CelCostError):
        run(f"true && ({checks}) || true")


SHARED = "[[1]]" + ".map(v, [v, v])" * 40
"""40 levels of lists that hold the same list twice."""
DOUBLED = "".join(f"cel.bind(v{i + 1}, v{i} + v{i}, " for i in range(40))


@pytest.mark.parametrize(
    "expression",
    [
        f"{SHARED} == {SHARED}",
        f"'%s'.format([{SHARED}]) == ''",
        f"cel.bind(v0, [1], {DOUBLED}v40.size() > 0" + ")" * 41,
        f"cel.bind(v0, 'x', {DOUBLED}v40.size() > 0" + ")" * 41,
        "cel.bind(s, '0123456789'.split('').map(i, '0123456789').join('0123456789').replace('', '0123456789'),"
        " s.replace('', s).replace('', s).size() > 0)",
    ],
)
def test_no_time_and_memory_without_bounds(expression: str) -> None:
    with pytest.raises(cel.CelCostError):
        run(expression)


WORDS = [
    "x",
    "l",
    "m",
    ".",
    "?",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "1",
    "2u",
    "1.5",
    "'a'",
    "b'c'",
    "in",
    "has",
    "all",
]
WORDS += [
    "exists",
    "map",
    "i",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "<",
    "&&",
    "||",
    "!",
    "true",
    "null",
    "size",
    "optional",
    "of",
]
WORDS += [
    "matches",
    "format",
    "dns1123Label",
    "validate",
    "quantity",
    "orValue",
    "cel",
    "bind",
    "`",
    "\\",
    '"',
    "#",
    "\n",
    "é",
]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_text_compiles_or_is_refused_and_runs_or_fails(words: list[str]) -> None:
    try:
        program = cel.compile(" ".join(words), VARIABLES, returns="", objects=True)
    except cel.CelCompileError:
        return
    try:
        program.evaluate(VALUES)
    except cel.CelError:
        return


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_characters(text: str) -> None:
    try:
        cel.compile(text, VARIABLES, returns="")
    except cel.CelCompileError:
        return
