"""managedFields as bytes come out as apply.py's arithmetic over the decoded list has them, to the byte."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jota.meta import apply, fieldset, owners
from jota.meta.owners import Writer

NOW = "2026-01-01T00:00:05Z"
TIMES = ("2026-01-01T00:00:00Z", NOW, "2026-01-01T00:00:09Z", "")
WRITERS = [Writer(name, "v1", part) for name in ("kubelet", 'the "set"') for part in ("", "status")]


def tree(random: Random, depth: int = 3) -> dict[str, Any]:
    """A set that is not empty."""
    out: dict[str, Any] = {}
    for _ in range(random.randrange(1, 4)):
        key = random.choice(["f:a", "f:b", 'k:{"ip":"10.0.0.1"}', "v:1", "."])
        below = depth and key != "." and random.random() < 0.6
        out[key] = tree(random, depth - 1) if below else {}
    return out


def entry(random: Random) -> dict[str, Any]:
    writer = random.choice(WRITERS)
    fields = {k: tree(random) for k in random.sample(["f:metadata", "f:spec", "f:status"], random.randrange(1, 4))}
    out: dict[str, Any] = {"manager": writer.manager, "operation": random.choice(["Update", "Apply"])}
    out["apiVersion"] = random.choice(["v1", "v1", "v2"])
    if time := random.choice(TIMES):
        out["time"] = time
    out |= {"fieldsType": "FieldsV1", "fieldsV1": fieldset.ordered(fields)}  # as all that is written
    if writer.subresource:
        out["subresource"] = writer.subresource
    return out


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_bytes_come_out_as_the_decoded_list_would(seed: int) -> None:
    random = Random(seed)
    entries = [entry(random) for _ in range(random.choice([1, 1, 2, 3, 4, 12]))]
    changed, removed = ({"f:status": tree(random)} if random.random() < 0.7 else {} for _ in range(2))
    removed = fieldset.subtract(removed, changed)  # nothing is both
    writer = random.choice(WRITERS)
    before = orjson.dumps(entries)
    after = owners.updated(before, "status", changed, removed, writer, NOW)
    if not changed and not removed:
        assert after is before
        return
    expected = apply.note_update(entries, changed, removed, **writer._asdict(), time=NOW)
    assert after == orjson.dumps(expected)


def test_what_others_own_of_other_fields_is_not_even_encoded_anew() -> None:
    other = b'{"manager":"kcm","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:spec":{}}}'
    made = owners.updated(b"[" + other + b"]", "status", {"f:status": {"f:phase": {}}}, None, WRITERS[1], NOW)
    assert made.startswith(b"[" + other + b",")
    assert orjson.loads(made)[1] == {
        "manager": "kubelet",
        "operation": "Update",
        "apiVersion": "v1",
        "time": NOW,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:status": {"f:phase": {}}},
        "subresource": "status",
    }


def test_a_list_that_is_not_one_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        owners.updated(b'[{"manager":"x"}]', "status", {"f:status": {}}, None, WRITERS[0], NOW)


def test_sets_are_written_in_upstreams_order() -> None:
    """Clients in Go keep the bytes of a set, and compare them with those that another client of theirs has encoded."""
    shuffled = {"f:b": {"k:{}": {}, "f:x": {}, ".": {}}, "f:a": {}}
    wanted = b'{"f:a":{},"f:b":{".":{},"f:x":{},"k:{}":{}}}'
    assert orjson.dumps(fieldset.ordered(shuffled)) == wanted
    again = orjson.loads(wanted)
    assert fieldset.ordered(again) is again
    made = owners.updated(b"[]", "status", {"f:status": shuffled}, None, WRITERS[0], NOW)
    assert b'"fieldsV1":{"f:status":' + wanted + b"}" in made
