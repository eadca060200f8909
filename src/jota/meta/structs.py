"""msgspec Structs built from the schema: decode a body and know in microseconds that nothing is wrong with it.

In: a definition's name and JSON bytes (or a decoded value); out: True when the walk of check.py would find no problem
and no null to prune. Structs are built on first use, per definition, and hold no data afterwards. Next: decode.py.
"""

from __future__ import annotations

import sys
import types
from functools import cache
from typing import Annotated, Any, ForwardRef, Union

import msgspec

from jota.meta import check, schema
from jota.meta.schema import Type

_QUANTITY = r"^[+-]?([0-9]{1,19}(\.[0-9]{0,19})?|\.[0-9]{1,19})([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,9})?$"
_SCALARS: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "number": float | int,
    "any": Any,
    "quantity": Annotated[str, msgspec.Meta(pattern=_QUANTITY)] | int | float,
    "int-or-string": int | str,
    "time": Annotated[str, msgspec.Meta(pattern=f"^{check.TIME}$")],
    "micro-time": Annotated[str, msgspec.Meta(pattern=f"^{check.TIME}$")],
    "bytes": Annotated[str, msgspec.Meta(pattern=f"^{check.BASE64}$")],
}
_INT32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_module = types.ModuleType("jota.meta._structs")
"""Forward references of recursive definitions are resolved here."""
sys.modules[_module.__name__] = _module
_built: dict[str, Any] = {}


def clean(name: str, body: bytes) -> bool:
    """True when the JSON text is fine in every respect; False means "look closer", not "wrong"."""
    decoder = _decoder(name)
    if decoder is None or b"null" in body:
        return False
    try:
        decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def clean_value(name: str, obj: Any) -> bool:
    """The same for a decoded value (after a patch)."""
    struct = _struct(name)
    if struct is None:
        return False
    try:
        msgspec.convert(obj, struct)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


@cache
def _decoder(name: str) -> msgspec.json.Decoder[Any] | None:
    struct = _struct(name)
    return None if struct is None else msgspec.json.Decoder(struct)


def _struct(name: str) -> Any:
    root = schema.definition(name)
    if root is None or root.kind != "struct":
        return None
    return _build(root)


def _build(type: Type) -> Any:
    """The Struct of a definition; a forward reference while it is being built (recursion)."""
    name = type.name
    built = _built.get(name)
    if built is not None:
        return built
    python = name.replace(".", "_").replace("-", "_")
    _built[name] = ForwardRef(python, module=_module.__name__)
    fields, rename = [], {}
    for index, (key, field) in enumerate(type.fields.items()):
        attribute = f"f{index}"
        rename[attribute] = key
        # a null is refused although it is allowed: it needs pruning, hence the closer look
        fields.append(
            (attribute, _annotation(field) | msgspec.UnsetType if field.kind != "any" else Any, msgspec.UNSET)
        )
    struct = msgspec.defstruct(
        python, fields, rename=rename, module=_module.__name__, forbid_unknown_fields=True, kw_only=True, gc=False
    )
    setattr(_module, python, struct)
    _built[name] = struct
    return struct


def _annotation(type: Type) -> Any:
    match type.kind:
        case "struct":
            return _build(type)
        case "list":
            return list[_item(type)]  # type: ignore[misc]
        case "map":
            return dict[str, _item(type)]  # type: ignore[misc]
        case "integer":
            return _INT32 if type.format == "int32" else _INT64
        case "props-or-list":
            return Union[_item(type), list[_item(type)]]  # type: ignore[misc]  # noqa: UP007
        case "props-or-bool":
            return Union[_item(type), bool]  # noqa: UP007
        case "props-or-strings":
            return Union[_item(type), list[str]]  # noqa: UP007
    return _SCALARS[type.kind]


def _item(type: Type) -> Any:
    return _annotation(type.item) if type.item is not None else Any
