"""A PUT that gives an object back as it was read, but for one field: of its bytes, the field's alone are decoded.

In: a Call. Out: the Part that apart.py writes; None for whatever is not plain (another order of keys, spaces, an older state,
anything wrong with the field), which update.py decodes in the usual way. Clients that keep the order of what they read send
such bodies: in Python, in JavaScript, our own controllers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jota.api import apart
from jota.api import object as at_rest
from jota.api.apart import Part
from jota.api.call import Call
from jota.api.served import Served
from jota.meta import decode
from jota.meta.errors import ApiError
from jota.store.protocol import Entry

if TYPE_CHECKING:
    from jota.api.resource import Engine


def part_of(engine: Engine, call: Call) -> Part | None:
    """Changes nothing, raises nothing."""
    served, target, request = call.served, call.target, call.request
    if request.headers.get("content-type", "") != decode.JSON:
        return None
    field = target.subresource or next((name for name in served.kind.apart if name != "status"), "")
    if field not in served.kind.apart:
        return None
    entry = engine.store.get(served.key(target.namespace, target.name))
    if entry is None or entry.value is None:
        return None
    sent = value_of(served, entry, request.body, field)
    if not sent:
        return None
    alone = b'{"%b":%b}' % (field.encode(), sent)
    try:
        value, problems = decode.decode_body(decode.JSON, alone, served.kind.definition, strict=call.field_validation)
    except ApiError:
        return None
    if problems or not isinstance(value, dict) or len(value) != 1:  # there was more behind it
        return None
    part = Part(field, {}, False, lambda _: value.get(field))
    return part if apart.applies(engine, call, field) else None


def value_of(served: Served, entry: Entry, body: bytes, field: str) -> bytes:
    """The bytes of a field in a body that, but for it, is the object as readers see it; b"" when it is not."""
    value = entry.value or b"{}\n"
    before, after = _around(at_rest.render(value, entry.revision, served.head), value, field)
    body = body.rstrip(b"\n")
    if not before or not body.startswith(before) or not body.endswith(after):
        return b""
    return body[len(before) : -len(after)]


def _around(shown: bytes, value: bytes, field: str) -> tuple[bytes, bytes]:
    """What stands before the value of a field, and behind it, in an object as readers see it (`shown`) and as it is kept
    (`value`); (b"", b"") when that cannot be told."""
    segments = at_rest.split(at_rest.parts(value)[1])
    if field not in segments:
        return shown[:-1] + b',"%b":' % field.encode(), b"}"
    behind = len(shown) - 1
    for name in reversed(segments):
        begin = behind - len(bytes(segments[name]))
        if name == field:
            return shown[:begin], shown[behind:]
        behind = begin - len(name) - 4
    return b"", b""
