"""What is said of a patch that leaves an object whose fields are of wrong types, or unknown ones: 422, as upstream.

In: the patch's bytes, and what the decoder found wrong (`errors.Undecodable`). Out: the error. Upstream takes the result of a
strategic merge patch through its converter, whose words differ from those of the JSON decoder; clients know both.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from jota.meta.errors import ApiError, Undecodable, invalid, invalid_object

_UNMARSHAL = re.compile(r"json: cannot unmarshal (\w+)(?: \S+)? into Go (?:struct field \S+|value) of type (\S+)")
_PLAIN = re.compile(r"u?int\d*|float\d*|bool|string")


def refused(patch: bytes, problem: Undecodable, *, strategic: bool) -> ApiError:
    """`problem` as that of a patch."""
    shown = go_value(orjson.loads(patch)) if strategic else patch.decode()
    text = converted(problem.detail) if strategic else problem.detail
    error = invalid_object("", "", [invalid("patch", shown, text)])
    error.warnings = problem.warnings
    return error


def converted(detail: str) -> str:
    """The JSON decoder's words -> those of apimachinery's converter (runtime/converter.go)."""
    match = _UNMARSHAL.match(detail)
    if match is None:
        return detail
    got = {"object": "map", "array": "slice", "number": "int64"}.get(match[1], match[1])
    wanted = match[2]
    if wanted.startswith("map["):
        return f"cannot restore map from {got}"
    if wanted.startswith("[]"):
        return f"cannot restore slice from {got}"
    if not _PLAIN.fullmatch(wanted):
        return f"cannot restore struct from: {got}"
    return f"cannot convert {got} to string" if (got, wanted) == ("int64", "string") else f"unrecognized type: {wanted}"


def go_value(value: Any) -> str:
    """A JSON value as Go's %+v prints it: map[a:1 b:[x y]]."""
    match value:
        case dict():
            return f"map[{' '.join(f'{key}:{go_value(value[key])}' for key in sorted(value))}]"
        case list():
            return f"[{' '.join(map(go_value, value))}]"
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
    return str(value)
