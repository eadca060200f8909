"""JSON patches: a patched document or 4xx; the original stays, and the result's size is bounded."""

from __future__ import annotations

import orjson

from jota.meta.decode import parse_json
from jota.meta.patch import json as jsonpatch
from targets import kit

LIVE = {
    "metadata": {"name": "a", "labels": {"a": "b", "c/d": "e~f"}},
    "spec": {"list": [1, {"k": [None, True]}, "x"], "n": 1.5},
}
_BEFORE = orjson.dumps(LIVE)
SEEDS = [
    b'[{"op":"add","path":"/metadata/labels/x","value":"y"},{"op":"remove","path":"/spec/list/0"}]',
    b'[{"op":"test","path":"/spec/n","value":1.5},{"op":"replace","path":"/spec/list/1/k/-","value":null}]',
    b'[{"op":"copy","from":"/spec","path":"/spec/list/-"},{"op":"move","from":"/spec/list","path":"/spec/n"}]',
    b'[{"op":"add","path":"","value":[]},{"op":"add","path":"/-","value":{}},{"op":"add","path":"/0/~0~1","value":[]}]',
    b'[{"op":"replace","path":"/metadata/labels/c~1d","value":{}},{"op":"move","from":"/a","path":"/a/b"}]',
]
SEEDS += [
    b'[{"op":"copy","from":"/spec","path":"/x"},{"op":"add","path":"/x/list/1/k/0","value":7},{"op":"remove","path":"/spec/n"}]'
]
WORDS = [
    b'"op":',
    b'"add"',
    b'"copy"',
    b'"move"',
    b'"from":',
    b'"path":',
    b'"/spec/list/-"',
    b'"/',
    b"~1",
    b"/-1",
    b"/01",
]


def check(data: bytes) -> None:
    result = kit.taken_or_refused(lambda: jsonpatch.apply(LIVE, parse_json(data)))
    assert orjson.dumps(LIVE) == _BEFORE, "the original was changed"
    if result is not None:
        assert len(orjson.dumps(result)) < 64 << 20
