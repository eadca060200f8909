"""CEL: an expression is refused when compiled, or gives a value or CelError within its budget."""

from __future__ import annotations

from typing import Any

from jota.meta import cel
from jota.meta.structural import adapt
from targets import kit

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "name": {"type": "string"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
        "limits": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
VALUE = {
    "size": 3,
    "name": "web",
    "items": [{"port": 80}, {"port": 443}],
    "limits": {"cpu": "500m"},
    "free": {"a": [1]},
}
VARIABLES = {"self": SCHEMA, "object": None, "request": None}
SEEDS = [
    b"self.size > 1 && self.items.all(i, i.port < 1000 || has(i.port))",
    b"object.metadata.?labels['a'].orValue('b').startsWith(\"x\") ? 1u : 2u",
    b"self.items.map(i, i.port).filter(p, p % 2 == 0).sort() == [80] || self.limits.exists_one(k, k == 'cpu')",
    b"quantity('1Gi').isGreaterThan(quantity(self.limits['cpu'])) && duration('1h') > duration('1m')",
    b"timestamp('2026-01-01T00:00:00Z').getDayOfWeek() + size(b'\\x00\\377') - (-9223372036854775807 - 1)",
    b"cel.bind(x, self.name + 'a', x.matches('^w.*') || url('http://a').getHost() == ip('1.2.3.4').family())",
    b"{'a': [1, 2.0, null], 1: true}.a[0] in [r'\\', '''x\n''', \"\\u00e9\"].map(s, s.size()) ",
    b"'%s %d %.3f'.format([self.name, 1, 2.5]) + 'a,b'.split(',').join('-').replace('a', 'b').substring(1, 2)",
    b"type(dyn(1)) == int && [[1,2],[3]].flatten() != [] && sets.contains([1], [1]) && 1.0 / 0.0 > 1e300",
    b"Object{metadata: Object.metadata{annotations: {'a': 'b'}}}",
    b"[JSONPatch{op: 'add', path: '/a', value: 1}]",
    b"string(int(double(uint('1')))) == self.free.a[0].b || semver('1.2.3').major() == 1 || base64.encode(b'a') == ''",
]
WORDS = [b".all(", b".map(", b".filter(", b"cel.bind(", b"has(", b"matches(", b"duration(", b"timestamp(", b"format(["]
WORDS += [
    b"optional.of(",
    b".?",
    b"dyn(",
    b"quantity(",
    b"lists.range(",
    b"b'",
    b"1u",
    b"0x",
    b"e308",
    b"-9223372036854775808",
]


def check(data: bytes) -> None:
    text = kit.text(data)
    for objects, returns in ((False, "bool"), (True, "")):
        try:
            program = cel.compile(text, VARIABLES, returns=returns, objects=objects)
        except cel.CelCompileError:
            continue
        for value in (VALUE, {}):
            try:
                program.evaluate({"self": adapt.adapt(SCHEMA, value), "object": value, "request": None}, 20_000)
            except cel.CelError:
                continue
