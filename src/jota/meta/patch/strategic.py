"""Strategic merge patch: a merge patch whose lists merge by key, with directives. Pure; driven by the schema's facts.

Directives: `$patch: delete|replace|merge` in an object or list item, `$deleteFromPrimitiveList/<field>`,
`$setElementOrder/<field>`, `$retainKeys`. Semantics are apimachinery's `strategicpatch`; bad directives are 400.
Types come from schema.py (`merge_key`, `strategies`).
"""

from __future__ import annotations

from typing import Any

from jota.meta.depth import MAX_DEPTH, too_deep
from jota.meta.errors import ApiError, bad_request
from jota.meta.schema import ANY, Type, definition

_PATCH, _RETAIN = "$patch", "$retainKeys"
_DELETE, _ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"


def is_plain(body: bytes) -> bool:
    """Whether a patch, as JSON text, surely has no directives and removes nothing: what is new in it is taken as it is."""
    return b"null" not in body and b'"$' not in body and b"\\" not in body


def apply(obj: dict[str, Any], patch: Any, schema: str | Type, *, plain: bool = False) -> dict[str, Any]:
    """The patched object; neither argument is changed, unchanged parts of both are shared.

    `schema` is a definition's name or a Type. `plain`: see `is_plain`; the patch is known not to be nested too deep.
    Raises ApiError 400."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}")
    if not plain and too_deep(patch):
        raise bad_request(f"error decoding patch: exceeded max depth {MAX_DEPTH}")
    root = schema if isinstance(schema, Type) else definition(schema)
    return (_lay_over if plain else _merge_map)(obj, patch, root or ANY)


def _lay_over(original: dict[str, Any], patch: dict[str, Any], type: Type) -> dict[str, Any]:
    """`_merge_map` for a patch without directives and nulls: what the original lacks is taken as it is."""
    out = {**original, **patch}
    for key, value in patch.items():
        if not isinstance(value, _CONTAINERS):
            continue
        have = original.get(key)
        if isinstance(value, list):
            below = _child(type, key)
            if "merge" in below.strategies:
                have = have if isinstance(have, list) else []
                items = bool(value) and isinstance(value[0], dict)
                out[key] = _lay_items(have, value, below) if items else _merge_list(have, value, below, plain=True)
        elif isinstance(have, dict):
            below = _child(type, key)
            if "replace" not in below.strategies:
                out[key] = _lay_over(have, value, below)
    return out


_CONTAINERS = (dict, list)


def _child(type: Type, key: str) -> Type:
    if type.kind == "struct":
        return type.fields.get(key, ANY)
    return (type.item or ANY) if type.kind == "map" else ANY


def _merge_map(original: dict[str, Any], patch: dict[str, Any], type: Type) -> dict[str, Any]:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return _merge_map({}, {k: v for k, v in patch.items() if k != _PATCH}, type)
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type found: {directive}")
    out = _retained(original, patch)
    orders: list[tuple[str, Any]] = []
    for key, value in patch.items():
        if key in (_PATCH, _RETAIN):
            continue
        if key.startswith(_ORDER):
            orders.append((key[len(_ORDER) :], value))
        elif key.startswith(_DELETE):
            _delete_primitives(out, key[len(_DELETE) :], value)
        elif value is None:
            out.pop(key, None)
        else:
            out[key] = _merge_value(out.get(key), value, _child(type, key))
    for key, order in orders:
        _reorder(out, original, patch, key, order, _child(type, key))
    return out


def _retained(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    keep = patch.get(_RETAIN)
    if keep is None:
        return dict(original)
    names = {key for key in keep if isinstance(key, str)} if isinstance(keep, list) else set()
    if not isinstance(keep, list) or any(
        k not in names for k, v in patch.items() if v is not None and not k.startswith("$")
    ):
        raise bad_request("invalid patch format of retainKeys list")
    return {key: value for key, value in original.items() if key in names}


def _merge_value(original: Any, patch: Any, type: Type) -> Any:
    if isinstance(patch, dict):
        replace = "replace" in type.strategies or not isinstance(original, dict)
        return _merge_map({} if replace else original, patch, type)
    if isinstance(patch, list):
        if "merge" not in type.strategies:
            return _without_directives(patch, type)
        return _merge_list(original if isinstance(original, list) else [], patch, type)
    return patch


def _without_directives(patch: list[Any], type: Type) -> list[Any]:
    """A list that replaces: its items still go through the map rules, so that no directive gets stored. What bears one itself
    is no item."""
    item = type.item or ANY
    kept = [p for p in patch if not (isinstance(p, dict) and _PATCH in p)]
    return [_merge_map({}, p, item) if isinstance(p, dict) else p for p in kept]


def _merge_list(original: list[Any], patch: list[Any], type: Type, plain: bool = False) -> list[Any]:
    if not patch:
        return original  # nothing to merge: a list is emptied by directives alone
    if not isinstance(patch[0], dict) and not any(isinstance(p, dict) for p in patch):
        return _arranged(_unique([*original, *patch]), original, _unique(patch), "")
    if not plain and any(isinstance(p, dict) and p.get(_PATCH) == "replace" for p in patch):
        return _without_directives(patch, type)
    return _lay_items(original, patch, type) if plain else _merge_items(original, patch, type)


_GONE = object()


def _merge_items(original: list[Any], patch: list[Any], type: Type) -> list[Any]:
    """The items of a patch, merged into those of the original by the merge key. One pass: lists come from strangers."""
    key, below, out = type.merge_key, type.item or ANY, list(original)
    where: dict[Any, list[int]] = {}
    for index, have in enumerate(out):
        if isinstance(have, dict):
            where.setdefault(_hashable(have.get(key)), []).append(index)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise _keyless(item, key)
        identity = _hashable(item[key])
        found = where.get(identity)
        if item.get(_PATCH) == "delete":
            for index in where.pop(identity, ()):
                out[index] = _GONE
        elif found:
            out[found[0]] = _merge_map(out[found[0]], item, below)
        else:
            where[identity] = [len(out)]
            out.append(_merge_map({}, item, below))
    kept = [item for item in patch if item.get(_PATCH) != "delete"]
    return _arranged([have for have in out if have is not _GONE], original, kept, key)


def _lay_items(original: list[Any], patch: list[Any], type: Type) -> list[Any]:
    """`_merge_items` for a patch without directives and nulls."""
    key, below = type.merge_key, type.item or ANY
    out, last, in_order, fresh = list(original), -1, True, True
    count = len(out)
    where: dict[Any, int] = {}
    for index, have in enumerate(out):
        if isinstance(have, dict):
            where.setdefault(_hashable(have.get(key)), index)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise _keyless(item, key)
        identity = item[key] if isinstance(item[key], str) else _hashable(item[key])
        index = where.setdefault(identity, len(out))
        in_order, last = in_order and last < index < count, index
        if index == len(out):
            out.append(item)
        else:
            fresh = fresh and index >= count
            out[index] = _lay_over(out[index], item, below)
    if in_order:
        return out
    return out[count:] + out[:count] if fresh else _arranged(out, original, patch, key)


def _keyless(item: Any, key: str) -> ApiError:
    return bad_request(f"map: {item} does not contain declared merge key: {key}")


def _delete_primitives(out: dict[str, Any], key: str, values: Any) -> None:
    if not isinstance(values, list) or any(isinstance(v, dict | list) for v in values):
        raise bad_request("invalid patch format of primitive list")
    have = out.get(key)
    if isinstance(have, list):
        gone = {_hashable(value) for value in values}
        out[key] = [value for value in have if _hashable(value) not in gone]


def _unique(values: list[Any]) -> list[Any]:
    out: dict[Any, Any] = {}
    for value in values:
        out.setdefault(_hashable(value), value)
    return list(out.values())


# --- order -----------------------------------------------------------------------------------------------------------


def _reorder(
    out: dict[str, Any], original: dict[str, Any], patch: dict[str, Any], key: str, order: Any, type: Type
) -> None:
    """Arrange out[key]: named items as `order` says; items that only the server has keep their place among them."""
    merged = out.get(key)
    if not isinstance(merged, list):
        return
    if not isinstance(order, list):
        raise bad_request("invalid patch format of setElementOrder list")
    named: dict[Any, int] = {}
    for value in order:
        named.setdefault(_identity(value, type.merge_key), len(named))
    _check_order(patch.get(key), named, type.merge_key)
    before = original.get(key)
    server = [_identity(v, type.merge_key) for v in before] if isinstance(before, list) else []
    ours = sorted(
        (v for v in merged if _identity(v, type.merge_key) in named), key=lambda v: named[_identity(v, type.merge_key)]
    )
    theirs = [v for v in merged if _identity(v, type.merge_key) not in named]
    out[key] = _interleave(theirs, ours, server, type.merge_key)


def _arranged(merged: list[Any], original: list[Any], patch: list[Any], merge_key: str) -> list[Any]:
    """The order that upstream gives without a $setElementOrder: what the patch names as the patch has it, and before the first
    of it what the original had there; new items are not behind anything."""
    named: dict[Any, int] = {}
    for value in patch:
        named.setdefault(_identity(value, merge_key), len(named))
    ours: list[Any] = []
    theirs: list[Any] = []
    for value in merged:
        (ours if _identity(value, merge_key) in named else theirs).append(value)
    ours.sort(key=lambda value: named[_identity(value, merge_key)])
    return _interleave(theirs, ours, [_identity(value, merge_key) for value in original], merge_key)


def _check_order(patch: Any, named: dict[Any, int], merge_key: str) -> None:
    for value in patch if isinstance(patch, list) else ():
        directive = value.get(_PATCH) if isinstance(value, dict) else None
        if directive is None and _identity(value, merge_key) not in named:
            raise bad_request("invalid patch format of setElementOrder list")


def _identity(value: Any, merge_key: str) -> Any:
    return _hashable(value.get(merge_key) if isinstance(value, dict) and merge_key else value)


def _interleave(theirs: list[Any], ours: list[Any], server: list[Any], merge_key: str) -> list[Any]:
    """Merge two ordered lists: an item of `theirs` goes first only where the server had it before the next of `ours`."""
    where = {identity: index for index, identity in reversed(list(enumerate(server)))}
    out: list[Any] = []
    i = j = 0
    while i < len(theirs) and j < len(ours):
        left = where.get(_identity(theirs[i], merge_key))
        right = where.get(_identity(ours[j], merge_key))
        if left is not None and right is not None and left < right:
            out.append(theirs[i])
            i += 1
        else:
            out.append(ours[j])
            j += 1
    return out + theirs[i:] + ours[j:]


def _hashable(value: Any) -> Any:
    """Equal for equal JSON values of one type: 1, 1.0 and true are three."""
    if isinstance(value, str):
        return value
    return (type(value), repr(value) if isinstance(value, dict | list) else value)
