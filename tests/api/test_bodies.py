"""Bodies that are recognised by what stands around their names: what is read of them is what decoding them gives."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.api.bodies import Bodies, Cut, Spelling, cut_body
from jota.api.ownnames import OwnNames
from jota.kinds.core.persistentvolume import KIND

Object = dict[str, Any]
OWN = OwnNames(KIND.own_names or {})
NAMES = ("a", "b", "vol-1", "x.y", "1", "-a", "A", "é", 'q"', "a" * 64, "", "name")


def body(random: Random, keys: list[str], labels: bool) -> bytes:
    """Of a few kinds of objects, under a name."""
    name = random.choice(NAMES)
    meta: Object = {"name": name}
    if labels:
        meta = {"labels": {"name": random.choice(NAMES)}, **meta}
    if random.random() < 0.1:
        meta["uid"] = "u"
    spec = {key: random.choice(NAMES) for key in keys}
    whole = {"metadata": meta, "spec": {"claimRef": spec, "capacity": {"storage": "1Gi"}}, "status": {"name": "a"}}
    text = orjson.dumps(whole)
    if random.random() < 0.1:
        text = text.replace(b'"name":', b'"name": ', 1)
    if random.random() < 0.05:
        text = re.sub(b":", b":\n", text, count=1)
    return text


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_recognised_is_what_is_decoded(seed: int) -> None:
    random, bodies = Random(seed), Bodies(OWN)
    keys, labels = random.sample(list(KIND.own_names or {}), 3), random.random() < 0.5
    for _ in range(60):
        sent = body(random, keys, labels)
        found, expected = bodies.cut(sent), cut_body(sent, OWN)
        assert (found is None) == (expected is None), sent
        if found is None or expected is None:
            continue
        assert found[1:] == expected[1:], sent
        # decoding cuts out the first of two that are the same, which may be a label
        assert found.body == expected.body or sent.count(b'"name":"%b"' % found.name.encode()) > 1, sent


def test_those_of_one_spelling_are_decoded_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counting(sent: bytes, own: OwnNames) -> Cut | None:
        decoded.append(sent)
        return cut_body(sent, own)

    monkeypatch.setattr("jota.api.bodies.cut_body", counting)
    bodies = Bodies(OWN)
    for n in range(20):
        for form in ("csi", "nfs"):
            sent = {"metadata": {"name": f"v{n}"}, "spec": {form: {"volumeHandle": f"h{n}"}, "claimRef": {"name": "c"}}}
            found = bodies.cut(orjson.dumps(sent))
            assert found is not None
            assert (found.name, sorted(found.names)) == (f"v{n}", sorted([b"c", b"h%d" % n]))
    assert len(decoded) == 8


def test_a_name_that_stands_in_a_label_too_teaches_nothing() -> None:
    """Which of the two is cut out says who has the first: with another name it may be the other one."""
    twice = b'{"metadata":{"labels":{"name":"a"},"name":"a"},"spec":{}}'
    first = cut_body(twice, OWN)
    assert first is not None
    assert Spelling.of(first, OWN) is None
    other = b'{"metadata":{"labels":{"name":"b"},"name":"a"},"spec":{}}'
    bodies = Bodies(OWN)
    for _ in range(9):
        bodies.cut(twice)
    assert bodies.cut(other) == cut_body(other, OWN)


def test_what_is_no_object_has_no_name() -> None:
    bodies = Bodies(OWN)
    for sent in (b"", b"[]", b'{"metadata":{}}', b'{"metadata":{"name":1}}', b'{"metadata":{"name":"\\u0061"}}'):
        assert bodies.cut(sent) is None
