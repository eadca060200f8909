"""Quantities and JSONPath: a value with one canonical form, or ValueError."""

from __future__ import annotations

import contextlib

from jota.meta import jsonpath, quantity
from targets import kit

SEEDS = [b"100m", b"1.5Gi", b"-0.001k", b"1e3", b"+12E-9", b".5", b"1e99999999999", b"9" * 40, b"{.a['b'][0:2].c}"]
# `[ ]` was a ValueError when the path was followed
SEEDS += [b"$..x[\n]", b".a[-]"]
SEEDS += [b".status.conditions[?(@.type=='Ready')].status", b"$..x[*]", b".a[?(@.b>=1)]"]
WORDS = [b"Ki", b"Ei", b"e-", b"[?(@.", b"..", b"['"]
VALUE = {"a": {"b": [{"c": 1}, {"c": None}]}, "x": [1, "2", [3]], "status": {"conditions": [{"type": "Ready"}]}}


def check(data: bytes) -> None:
    text = kit.text(data)
    try:
        parsed = quantity.parse(text)
    except ValueError:
        parsed = None
    if parsed is not None:
        canonical = quantity.canonical(text)
        assert quantity.canonical(canonical) == canonical, (text, canonical)
        assert len(canonical) <= 64, (text, canonical)
        if quantity.compare(text, canonical):
            # only what is finer than a nanounit, or beyond the largest value, may change
            raise AssertionError((text, canonical))
        assert quantity.compare(quantity.add(text, "1"), text) >= 0
    with contextlib.suppress(jsonpath.JsonPathError):
        jsonpath.compile(text)(VALUE)
