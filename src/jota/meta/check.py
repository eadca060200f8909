"""Walk a JSON value along its type: unknown fields, wrong types, pruning. In: Type and value; out: Problems.

The paths are those of upstream's strict decoder; the texts are those of Go's JSON decoder, which clients show. This is
the slow, complete walk: decode.py asks `structs.py` first whether there is anything to find.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jota.meta import quantity

if TYPE_CHECKING:
    from jota.meta.schema import Type

TIME = r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]+)?(Z|[+-][0-2][0-9]:[0-5][0-9])"
_TIME_RE = re.compile(TIME)
BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_BASE64_RE = re.compile(BASE64)
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


class Problem(NamedTuple):
    """`kind`: "unknown" (message: `unknown field "spec.replicaz"`) or "type" (message as Go's decoder has it)."""

    kind: str
    path: str
    """Full JSON path with indices, e.g. spec.template.spec.containers[0].imagee."""
    message: str


def check_type(root: Type, obj: Any) -> list[Problem]:
    """Every problem of `obj`, in document order."""
    found: list[Problem] = []
    _Check(found).value(root, obj, "", "", "")
    return found


class _Check:
    """`path` has list indices; `go` is the same without them, and `owner` the innermost struct: Go's errors want these."""

    def __init__(self, found: list[Problem]) -> None:
        self.found = found

    def value(self, type: Type, value: Any, path: str, go: str, owner: str) -> None:
        if value is None:
            return
        match type.kind:
            case "any":
                return
            case "struct":
                self.struct(type, value, path, go, owner)
            case "list":
                self.list(type, value, path, go, owner)
            case "map":
                self.map(type, value, path, go, owner)
            case "props-or-list" | "props-or-bool" | "props-or-strings":
                self.props(type, value, path, go, owner)
            case _:
                detail = _scalar(type, value)
                if detail:
                    self.wrong(detail, path, go, owner)

    def struct(self, type: Type, value: Any, path: str, go: str, owner: str) -> None:
        if not isinstance(value, dict):
            self.mismatch(type, value, path, go, owner)
            return
        fields = type.fields
        name = type.name.rpartition(".")[2]
        for key, child in value.items():
            where = f"{path}.{key}" if path else key
            field = fields.get(key)
            if field is not None:
                self.value(field, child, where, f"{go}.{key}" if go else key, name)
            elif not type.open:
                self.found.append(Problem("unknown", where, f'unknown field "{where}"'))

    def list(self, type: Type, value: Any, path: str, go: str, owner: str) -> None:
        if not isinstance(value, list):
            self.mismatch(type, value, path, go, owner)
            return
        if type.item is not None and type.item.kind != "any":
            for index, child in enumerate(value):
                self.value(type.item, child, f"{path}[{index}]", go, owner)

    def map(self, type: Type, value: Any, path: str, go: str, owner: str) -> None:
        if not isinstance(value, dict):
            self.mismatch(type, value, path, go, owner)
            return
        if type.item is not None and type.item.kind != "any":
            for key, child in value.items():
                self.value(type.item, child, f"{path}.{key}", go, owner)

    def props(self, type: Type, value: Any, path: str, go: str, owner: str) -> None:
        assert type.item is not None
        if isinstance(value, dict):
            self.struct(type.item, value, path, go, owner)
        elif isinstance(value, list) and type.kind == "props-or-list":
            for index, child in enumerate(value):
                self.value(type.item, child, f"{path}[{index}]", go, owner)
        elif isinstance(value, list) and type.kind == "props-or-strings":
            return
        elif not (isinstance(value, bool) and type.kind == "props-or-bool"):
            self.mismatch(type.item, value, path, go, owner)

    def mismatch(self, type: Type, value: Any, path: str, go: str, owner: str) -> None:
        self.wrong(_Mismatch(_word(value), type.go), path, go, owner)

    def wrong(self, detail: str | _Mismatch, path: str, go: str, owner: str) -> None:
        if isinstance(detail, _Mismatch):
            target = f"struct field {owner}.{go} of type" if owner else "value of type"
            detail = f"json: cannot unmarshal {detail.found} into Go {target} {detail.wanted}"
        self.found.append(Problem("type", path, detail))


class _Mismatch(NamedTuple):
    found: str
    wanted: str


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _scalar(type: Type, value: Any) -> str | _Mismatch | None:
    """What is wrong with a scalar: a text that stands alone, a mismatch of types, or None."""
    match type.kind:
        case "string":
            return None if isinstance(value, str) else _Mismatch(_word(value), "string")
        case "boolean":
            return None if isinstance(value, bool) else _Mismatch(_word(value), "bool")
        case "integer":
            return _integer(type, value)
        case "number":
            return (
                None
                if isinstance(value, int | float) and not isinstance(value, bool)
                else _Mismatch(_word(value), "float64")
            )
        case "quantity":
            return _quantity(value)
        case "int-or-string":
            fine = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
            return None if fine else f"json: cannot unmarshal {_word(value)} into Go value of type int32"
        case "time" | "micro-time":
            return _time(type, value)
        case "bytes":
            return _bytes(value)
    return None


def _integer(type: Type, value: Any) -> _Mismatch | None:
    wanted = type.format if type.format in _RANGES else "int64"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _Mismatch(_word(value), wanted)
    low, high = _RANGES[wanted]
    if isinstance(value, float):
        # 1.0 is a number with a fraction for Go's decoder, whatever its value
        return _Mismatch(f"number {value}", wanted)
    return None if low <= value <= high else _Mismatch(f"number {value}", wanted)


def _quantity(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return quantity.FORMAT_ERROR
    try:
        quantity.parse(value)
    except ValueError as e:
        return str(e)
    return None


def _time(type: Type, value: Any) -> str | _Mismatch | None:
    if not isinstance(value, str):
        return _Mismatch(_word(value), "string")
    if not _TIME_RE.fullmatch(value):
        layout = "2006-01-02T15:04:05.000000Z07:00" if type.kind == "micro-time" else "2006-01-02T15:04:05Z07:00"
        return f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"'
    return None


def _bytes(value: Any) -> str | _Mismatch | None:
    if not isinstance(value, str):
        return _Mismatch(_word(value), "[]uint8")
    text = value.replace("\n", "").replace("\r", "")
    if _BASE64_RE.fullmatch(text):
        return None
    good = re.match(r"([A-Za-z0-9+/]{4})*[A-Za-z0-9+/]{0,3}", text)
    return f"illegal base64 data at input byte {good.end() if good else 0}"


# --- pruning ---------------------------------------------------------------------------------------------------------

_ZERO: dict[str, Any] = {
    "string": "",
    "bytes": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "quantity": "0",
    "int-or-string": 0,
}


def prune_type(type: Type, value: Any) -> None:
    """Drop unknown fields and nulls in place. A null list item or map value becomes its zero value, as in Go."""
    match type.kind:
        case "struct" if isinstance(value, dict):
            _prune_struct(type, value)
        case "list" if isinstance(value, list) and type.item is not None and type.item.kind != "any":
            for index, child in enumerate(value):
                if child is None:
                    value[index] = _zero(type.item)
                else:
                    prune_type(type.item, child)
        case "map" if isinstance(value, dict) and type.item is not None and type.item.kind != "any":
            for key, child in value.items():
                if child is None:
                    value[key] = _zero(type.item)
                else:
                    prune_type(type.item, child)
        case "props-or-list" | "props-or-bool" | "props-or-strings" if type.item is not None:
            for child in value if isinstance(value, list) else (value,):
                prune_type(type.item, child)


def _prune_struct(type: Type, value: dict[str, Any]) -> None:
    fields, typed = type.fields, bool(type.name)  # an anonymous struct is a custom resource's: it may hold nulls
    gone = [key for key, child in value.items() if (typed and child is None) or (key not in fields and not type.open)]
    for key in gone:
        # JSON values (CRD defaults and the like) may be null and mean it
        if not (value[key] is None and type.name.endswith(".JSONSchemaProps") and key in ("default", "example")):
            del value[key]
    for key, child in value.items():
        field = fields.get(key)
        if field is not None:
            prune_type(field, child)


def _zero(type: Type) -> Any:
    if type.kind in ("struct", "map"):
        return {}
    return [] if type.kind == "list" else _ZERO.get(type.kind)


# --- suggestions -----------------------------------------------------------------------------------------------------


_LONGEST_PATH = 200
"""Longer ones are no typing errors, and comparing spellings takes time."""


def suggest(root: Type, path: str) -> str:
    """The field that was probably meant by an unknown field's path, as a full path; "" when nothing is near.

    Looks among the neighbours by spelling first, then for the same name one level deeper or higher."""
    import difflib

    trail, parts = [root], re.findall(r"[^.\[\]]+|\[[0-9]+\]", path)
    if not parts or len(path) > _LONGEST_PATH:
        return ""
    for part in parts[:-1]:
        at = trail[-1]
        following = at.fields.get(part) if at.kind == "struct" else at.item
        if following is None:
            return ""
        trail.append(following)
    parent, name = path[: len(path) - len(parts[-1])], str(parts[-1])
    near = difflib.get_close_matches(name, trail[-1].fields, n=1, cutoff=0.7)
    if near:
        return f"{parent}{near[0]}"
    for key, field in trail[-1].fields.items():
        if name in field.fields:
            return f"{parent}{key}.{name}"
    for depth in range(len(trail) - 2, -1, -1):
        if name in trail[depth].fields:
            return _joined([*parts[:depth], name])
    return ""


def _joined(parts: list[str]) -> str:
    return "".join(part if part.startswith("[") or not index else "." + part for index, part in enumerate(parts))
