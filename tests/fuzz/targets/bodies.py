"""Bodies and statuses that are the same but for names: what comparison reads of them (api/bodies.py, api/gaps.py) is what decoding
and cutting gives."""

from __future__ import annotations

import orjson

from jota.api import alikepatches
from jota.api.bodies import Bodies, cut_body
from jota.api.ownnames import OwnNames
from jota.kinds.table import KINDS
from targets import kit

OWN = [OwnNames(kind.own_names) for kind in KINDS if kind.own_names is not None]
_STATUS = b'{"podIP":"10.0.0.7","podIPs":[{"ip":"10.0.0.7"}],"hostIP":"192.0.2.1","containerStatuses":[{"containerID":"crun://a"}]}'
SEEDS = [
    b'\0{"metadata":{"name":"a"},"spec":{"volumes":[{"persistentVolumeClaim":{"claimName":"b"}}],"hostname":"a"}}'
    + kit.edit(21, 1, b"c"),
    b'\1{"metadata":{"labels":{"name":"a"},"name":"a"},"spec":{"volumeName":"v"}}'
    + kit.edit(52, 1, b"b")
    + kit.edit(31, 1, b"b"),
    b'\2{"spec":{"claimRef":{"name":"x","uid":"u"},"csi":{"volumeHandle":"h"}},"metadata":{"name": "v1","uid":"x"}}'
    + kit.edit(30, 1, b'"'),
    b'\2{"metadata":{"generateName":"a-"},"spec":{"claimRef":{"name":"x\\u0061"}},"spec":{}}' + kit.edit(54, 7, b"y"),
    b'\3{"metadata":{"name":"a"},"spec":{"nodeName":"n","source":{"persistentVolumeName":"v"}}}'
    + kit.edit(45, 1, b"\x1f"),
    b"\xff" + _STATUS + kit.edit(12, 8, b"10.0.0.8") + kit.edit(12, 8, b"10.0.0.256"),
]
WORDS = [
    kit.MARK,
    kit.edit(21, 1, b"b"),
    b'"name":"',
    b'"name": "',
    b'"uid":"',
    b'"spec":',
    b'"metadata":',
    b'"ip":"',
    b"\\u0061",
    b"\x1f",
    b"\x00",
]
WORDS += [b'"%b":"' % name.encode() for kind in KINDS for name in (kind.own_names or {})]


def check(data: bytes) -> None:
    texts = kit.edited(data[1:])
    if data[:1] == b"\xff":
        _cut(alikepatches._OWN, texts)
        return
    own = OWN[data[0] % len(OWN) if data else 0]
    _cut(own, texts)
    bodies = Bodies(own)
    for text in texts * 6:  # some are needed to learn from
        found, expected = bodies.cut(text), cut_body(text, own)
        assert (found is None) == (expected is None), text
        if found is None or expected is None:
            continue
        assert found[1:] == expected[1:], (text, found, expected)
        # decoding cuts out the first of two that are the same, which may be a label
        assert found.body == expected.body or text.count(b'"%b"' % found.name.encode()) > 1, (text, found, expected)


def _cut(own: OwnNames, texts: list[bytes]) -> None:
    """Of JSON, where the bytes that mark gaps are never."""
    plain = [text for text in texts if _is_json(text) and not any(byte < 0x20 for byte in text)]
    for text in plain:
        cut, names = own.cut(text)
        assert own.fill(cut, names) == text
        order = own.order(cut)
        in_place = [names[place] for place in _places(order)]
        pattern, form = own.pattern(cut), own.form(cut, range(len(names)))
        assert pattern.names(text) == in_place
        assert form.filled(in_place) == text
        for other in plain:
            found = pattern.names(other)
            if found is not None:
                assert form.filled(found) == other
            same, others = own.cut(other)
            if same == cut:
                assert found == [others[place] for place in _places(order)], (text, other)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _places(order: list[int]) -> list[int]:
    """Of each gap, where its name is in what `OwnNames.cut` gives: those of the first key first."""
    by_key = sorted(range(len(order)), key=order.__getitem__)
    return [by_key.index(gap) for gap in range(len(order))]
