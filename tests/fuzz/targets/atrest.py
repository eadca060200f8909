"""Objects as they are kept (api/object.py): whatever a client put into one, its bytes are split, shown, abridged and put together
again as decoding, changing and encoding all of it would have it."""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec
import orjson

from jota.api import object as at_rest
from jota.api.openapi.definitions import OBJECT_META
from jota.meta.decode import JSON, decode_body, parse_json
from jota.meta.errors import ApiError
from targets import kit

SEEDS = [
    b'{"metadata":{"name":"a","labels":{"a":"b"},"managedFields":[{"manager":"m"}]},"spec":{"nodeName":"n"},"status":{}}',
    b'{"metadata":{"name":"a","annotations":{"a":"\\"managedFields\\":[]\\n"},"managedFields":[]},"data":{"k":"\\n,\\"x\\":"}}',
    b'{"kind":"K","apiVersion":"v1","metadata":{"resourceVersion":"9","name":"\\u2028"},"a":[1.5,null,1e300]}',
    b'{"metadata":{"labels":{"managedFields":"x"},"managedFields":[{"fieldsV1":{"f:a":{}}}]},"spec":1,"status":"x"}',
    b'{"metadata":{"annotations":{"managedFields":"["},"managedFields":[{"manager":""}]}}',
]
WORDS = [
    b'"managedFields":',
    b'[{"manager":""}]',
    b'"metadata":',
    b'"spec":',
    b'"labels":',
    b"\\n",
    b'\\"',
    b"resourceVersion",
    b'"status":{}',
]
HEAD = at_rest.head("v1", "K")


class Seen(TypedDict, total=False):
    spec: dict[str, Any]


def check(data: bytes) -> None:
    try:
        given = parse_json(data)
        if not isinstance(given, dict) or not isinstance(given.get("metadata"), dict) or at_rest.FORM in given:
            return
        given["metadata"], _ = decode_body(JSON, orjson.dumps(given["metadata"]), OBJECT_META)
        value = at_rest.encode(given)
    except ApiError as error:
        kit.refused(error)
        return
    metadata = {key: each for key, each in given["metadata"].items() if key != "resourceVersion"}
    rest = {key: each for key, each in given.items() if key not in ("kind", "apiVersion", "metadata")}
    if metadata:  # what is stored has a name
        whole = {"kind": "K", "apiVersion": "v1", "metadata": {**metadata, "resourceVersion": "7"}, **rest}
        assert at_rest.decode(value, 7, HEAD) == whole
        shown = orjson.loads(at_rest.render_metadata(value, 7, HEAD))
        assert shown == {key: whole[key] for key in ("kind", "apiVersion", "metadata")}
    line, others = at_rest.parts(value)
    assert (orjson.loads(line), orjson.loads(others)) == (metadata, rest)
    assert at_rest.decode_metadata(value) == metadata
    segments = at_rest.split(others)
    assert {key: orjson.loads(bytes(each)) for key, each in segments.items()} == rest
    if all(orjson.dumps(key) == b'"%b"' % key.encode() for key in rest):  # fields of built-in kinds are
        assert at_rest.with_segments(line, segments) == value
    held, kept = at_rest.hold(line)
    assert at_rest.release(held, kept) == line
    assert orjson.loads(held) == {
        **metadata,
        **({"managedFields": at_rest.HELD} if "managedFields" in metadata else {}),
    }
    part = at_rest.excerpt(value, 7, Seen)
    try:
        msgspec.convert(rest, Seen)
    except msgspec.ValidationError:
        assert part is None
    else:
        assert part is not None
        assert part.get("spec") == rest.get("spec")
        part["metadata"]["more"] = "x"
        assert at_rest.with_metadata(part["metadata"], value) == at_rest.encode(
            {**given, "metadata": {**metadata, "more": "x"}}
        )
