"""Sets of fields, as FieldsV1 spells them, and the value walks that yield them. Pure; next: apply.py.

A set is the FieldsV1 tree itself: nested dicts whose keys are path elements (`f:<field>`, `k:<keys as JSON>`,
`v:<value as JSON>`, `i:<index>`). An empty dict is a member; a node with children is a member itself when it has ".".

    {"f:spec": {"f:replicas": {}, "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}}

Sets are shared and memoised: never change one in place.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import orjson

from jota.meta.schema import ANY, Type

FieldSet = dict[str, Any]
LEAF: FieldSet = {}
_SELF = "."
_DEDUCED = Type("any")
"""Values below x-kubernetes-preserve-unknown-fields: maps are granular, all else is one value."""
_DEDUCED.open = True


class BadList(ValueError):
    """A list of type map with an item that lacks a key, or with two items of one key."""


# --- algebra ---------------------------------------------------------------------------------------------------------


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    if a is b or not b:
        return a if not a or b is a or _SELF in a else {_SELF: LEAF, **a}
    if not a:
        return b if _SELF in b else {_SELF: LEAF, **b}
    out = dict(a)
    for key, child in b.items():
        have = a.get(key)
        out[key] = child if have is None else (LEAF if key == _SELF else union(have, child))
    return out if len(out) == len(a) else dict(sorted(out.items()))


def union_roots(a: FieldSet, b: FieldSet) -> FieldSet:
    """Union of two whole sets, where {} is the empty set and not a member."""
    if not a or not b:
        return a or b
    return union(a, b)


def ordered(tree: FieldSet) -> FieldSet:
    """The set with its keys in the order in which upstream writes them: clients in Go keep the bytes of a set, and compare them
    with those that they encode themselves. `tree` itself when it is in order. Union and subtraction keep the order."""
    out: FieldSet = {}
    last, moved = "", False
    for key, child in tree.items():
        sorted_ = ordered(child) if child else child
        moved = moved or key < last or sorted_ is not child
        out[key] = sorted_
        last = key
    return dict(sorted(out.items())) if moved else tree


def subtract(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in `a` and not in `b`; a leaf of `b` takes everything below it away. {} when nothing is left, `a` itself
    when nothing is taken."""
    out: FieldSet | None = None
    for key in a.keys() & b.keys():
        child, other = a[key], b[key]
        rest = subtract(child, other) if child and other else LEAF
        untouched = rest is child if child else bool(other) and _SELF not in other
        if untouched:
            continue
        out = dict(a) if out is None else out
        if rest:
            out[key] = LEAF if rest.keys() == {_SELF} else rest
        else:
            del out[key]
    return a if out is None else out


def intersect(a: FieldSet, b: FieldSet, at: str = "") -> list[str]:
    """Paths, as upstream prints them, of the fields in both sets; whole subtrees count once."""
    found: list[str] = []
    for key, child in a.items():
        other = b.get(key)
        if other is None or key == _SELF:
            continue
        path = at + show(key)
        if child and other:
            found += intersect(child, other, path)
        else:
            found.append(path)
    return found


def show(element: str) -> str:
    """A path element as messages spell it: .replicas, [name="web"], [="x"], [0]."""
    kind, _, text = element.partition(":")
    match kind:
        case "f":
            return "." + text
        case "k":
            pairs = (f"{key}={_json(value)}" for key, value in json.loads(text).items())
            return f"[{','.join(pairs)}]"
        case "v":
            return f"[={text}]"
    return f"[{text}]"


def is_valid(tree: Any, depth: int = 0) -> bool:
    """Whether a client's FieldsV1 has the form of one."""
    if not isinstance(tree, dict) or depth > 100:
        return False
    return all(
        (key == _SELF or key[:2] in ("f:", "k:", "v:", "i:")) and is_valid(v, depth + 1) for key, v in tree.items()
    )


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- how a value divides ---------------------------------------------------------------------------------------------

_MAP, _LIST, _SET = 1, 2, 3


def _shape(type: Type, value: Any) -> int:
    """_MAP, _LIST (by keys) or _SET for values with parts of their own; 0 for those with one owner."""
    if isinstance(value, dict):
        granular = type.kind in ("struct", "map") or (type.kind == "any" and type.open)
        return _MAP if granular and not type.atomic else 0
    if isinstance(value, list) and type.kind == "list":
        return _LIST if type.list_type == "map" else _SET if type.list_type == "set" else 0
    return 0


def child_type(type: Type, key: str) -> Type:
    """The type of a member of a struct or map."""
    if type.kind == "struct":
        found = type.fields.get(key)
        return found if found is not None else (_DEDUCED if type.open else ANY)
    if type.kind == "any":
        return type
    return type.item or ANY


def element(type: Type, item: Any) -> str:
    """The path element of a list item. Raises BadList."""
    if type.list_type == "set":
        return "v:" + _json(item)
    if len(type.keys) == 1 and isinstance(item, dict) and isinstance(value := item.get(type.keys[0]), str):
        return _keyed(type.keys[0], value)
    keys: dict[str, Any] = {}
    defaults = type.item.defaults if type.item is not None else {}
    for key in sorted(type.keys):
        value = item.get(key) if isinstance(item, dict) else None
        if value is None:
            value = defaults.get(key)
        if value is not None:
            keys[key] = value
        elif not isinstance(item, dict) or (type.item is not None and key in type.item.required) or len(type.keys) == 1:
            raise BadList(
                f'associative list with keys has an element that omits key field "{key}" (and doesn\'t have default value)'
            )
    return "k:" + _json(keys)


@lru_cache(maxsize=4096)
def _keyed(key: str, value: str) -> str:
    """The element of a list with one key: types of conditions, names of containers, the same again and again."""
    return "k:" + _json({key: value})


def index(type: Type, items: list[Any]) -> dict[str, Any]:
    """Path element -> item. Raises BadList."""
    found: dict[str, Any] = {}
    unique = type.list_type == "map"
    only = type.keys[0] if unique and len(type.keys) == 1 else ""
    for item in items:
        # as in `element`, without a call for each of the conditions and containers of the world
        value = item.get(only) if only and isinstance(item, dict) else None
        key = _keyed(only, value) if isinstance(value, str) else element(type, item)
        if key in found and unique:
            raise BadList(f"duplicate entries for key {show(key)}")
        found[key] = item
    return found


# --- sets of values --------------------------------------------------------------------------------------------------


def extract(value: Any, type: Type) -> FieldSet:
    """The set that applying `value` owns: its leaves, and each list item and map value as itself. Raises BadList."""
    shape = _shape(type, value)
    if not shape or not value:
        return LEAF
    out: FieldSet = {}
    if shape == _MAP:
        for key, child in value.items():
            below = extract(child, child_type(type, key))
            out["f:" + key] = {_SELF: LEAF, **below} if below and type.kind == "map" else below
        return out
    item, members = type.item or ANY, index(type, value)
    if len(members) != len(value):
        # in a live object a value may stand twice, in what is applied it is a mistake
        keys = [element(type, one) for one in value]
        raise BadList(f"duplicate entries for key {show(next(key for key in keys if keys.count(key) > 1))}")
    for key, child in members.items():
        below = extract(child, item) if shape == _LIST else LEAF
        out[key] = {_SELF: LEAF, **below} if below else LEAF
    return out


def created(value: Any, type: Type, required: bool = False) -> FieldSet:
    """The set that an ordinary write owns where nothing was before: as `extract`, and each new map or list as itself,
    except what Go's zero value already has: structs and lists that are `required`."""
    shape = _shape(type, value)
    if not shape or not value:
        return LEAF
    if shape == _MAP:
        if not _nested(value):
            return _flat(tuple(value), type.kind == "struct")
        out: FieldSet = {} if type.kind == "struct" else {_SELF: LEAF}
        for key, child in value.items():
            if child and isinstance(child, _CONTAINERS):
                out["f:" + key] = created(child, child_type(type, key), key in type.required)
            else:
                out["f:" + key] = LEAF
        return out
    try:
        items = index(type, value)
    except BadList:
        return LEAF
    out = {} if required else {_SELF: LEAF}
    item = type.item or ANY
    for key, child in items.items():
        below = _created_item(child, item) if shape == _LIST else LEAF
        out[key] = below if len(below) > 1 else LEAF  # of an item that is owned as one, nothing is below
    return out


def _created_item(value: Any, type: Type) -> FieldSet:
    """The set of a new item of a keyed list: itself, and what is in it."""
    if type.kind == "struct" and not type.atomic and isinstance(value, dict) and value and not _nested(value):
        return _flat(tuple(value), False)
    return {_SELF: LEAF, **created(value, type)}


_CONTAINERS = (dict, list)


def _nested(value: dict[str, Any]) -> bool:
    # it is asked of each condition of each pod, and `any` takes twice as long
    for child in value.values():  # noqa: SIM110
        if isinstance(child, _CONTAINERS):
            return True
    return False


@lru_cache(maxsize=1024)
def _flat(keys: tuple[str, ...], struct: bool) -> FieldSet:
    """The set of a map of scalars, which its keys alone decide: conditions, labels, addresses."""
    out: FieldSet = {} if struct else {_SELF: LEAF}
    for key in sorted(keys):
        out["f:" + key] = LEAF
    return out


_MEMO_LIMIT = 32 * 1024


def created_segment(value: Any, type: Type) -> FieldSet:
    """`created`, memoised by the value's bytes: the pods of one template share their set."""
    if not isinstance(value, dict) or not _nested(value):
        return created(value, type)  # its keys are all that counts
    data = orjson.dumps(value)
    return ordered(created(value, type)) if len(data) > _MEMO_LIMIT else _memo(data, type)


@lru_cache(maxsize=256)
def _memo(data: bytes, type: Type) -> FieldSet:
    return ordered(created(orjson.loads(data), type))


def compare(old: Any, new: Any, type: Type) -> tuple[FieldSet | None, FieldSet | None]:
    """(added or modified, removed) between two values; None for an empty set. Equal parts are not looked into."""
    if old is new or (old == new and _same_kind(old, new)):
        return None, None
    if type.kind == "struct" and isinstance(new, dict) and isinstance(old, dict) and not type.atomic:
        return _compare_members(old, new, type, "f:")
    shape = _shape(type, new)
    if not shape or shape != _shape(type, old) or (not old and not new):
        return LEAF, None
    if shape == _MAP:
        return _compare_members(old, new, type, "f:")
    try:
        before, after = index(type, old), index(type, new)
    except BadList:
        return LEAF, None
    return _compare_members(before, after, type, "")


def _same_kind(old: Any, new: Any) -> bool:
    """Python's 1 == True and 1 == 1.0 are no equality for JSON; inside containers this is not worth a walk."""
    return isinstance(old, bool) is isinstance(new, bool)


_ABSENT = object()


def _compare_members(
    old: dict[str, Any], new: dict[str, Any], type: Type, prefix: str
) -> tuple[FieldSet | None, FieldSet | None]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    for key, value in new.items():
        if not isinstance(value, _CONTAINERS):  # most values: these have one owner, whatever their type
            was = old.get(key, _ABSENT)
            if was != value or (was.__class__ is not value.__class__ and not _same_kind(was, value)):
                changed[prefix + key] = LEAF
            continue
        kind = child_type(type, key) if prefix else (type.item or ANY)
        if key not in old:
            if prefix:
                changed[prefix + key] = created(value, kind, key in type.required)
            else:
                below = _created_item(value, kind)
                changed[key] = below if len(below) > 1 else LEAF
            continue
        more, less = compare(old[key], value, kind)
        if more is not None:
            changed[prefix + key] = more
        if less is not None:
            removed[prefix + key] = less
    for key in old:
        if key not in new:
            removed[prefix + key] = LEAF
    return changed or None, removed or None


# --- merging and pruning ---------------------------------------------------------------------------------------------


def merge(live: Any, applied: Any, type: Type) -> Any:
    """`live` with `applied` laid over it: granular maps and keyed lists merge, all else is replaced. Raises BadList."""
    shape = _shape(type, applied)
    if not shape or shape != _shape(type, live):
        return applied
    if shape == _MAP:
        out = dict(live)
        for key, value in applied.items():
            out[key] = merge(live[key], value, child_type(type, key)) if key in live else value
        return out
    before, after = index(type, live), index(type, applied)
    item = type.item or ANY
    merged = {k: merge(before[k], v, item) if k in before and shape == _LIST else v for k, v in after.items()}
    return [merged[key] if key in merged else before[key] for key in _order(list(before), list(after))]


def _order(live: list[str], applied: list[str]) -> list[str]:
    """Applied items in their order; items that only live has stay behind the neighbour they stood behind."""
    wanted, rest = set(applied), iter(applied)
    out: dict[str, None] = {}
    for key in live:
        if key not in wanted:
            out[key] = None
            continue
        if key in out:
            continue
        for following in rest:
            out[following] = None
            if following == key:
                break
    return [*out, *(key for key in rest if key not in out)]


def prune(value: Any, last: FieldSet, now: FieldSet, others: FieldSet, type: Type) -> Any:
    """`value` without the fields that only this manager had (`last`) and no longer applies (`now`)."""
    shape = _shape(type, value)
    if not shape or last.keys() <= {_SELF}:
        return value
    if shape == _MAP:
        members = {"f:" + key: child for key, child in value.items()}
    else:
        try:
            members = index(type, value)
        except BadList:
            return value
    kept = {}
    for key, child in members.items():
        keep, child = _prune_member(key, child, last, now, others, type)
        if keep:
            kept[key] = child
    if shape == _MAP:
        return {key[2:]: child for key, child in kept.items()}
    return list(kept.values())


def _prune_member(
    key: str, child: Any, last: FieldSet, now: FieldSet, others: FieldSet, type: Type
) -> tuple[bool, Any]:
    had = last.get(key)
    if had is None:
        return True, child
    if key not in now and key not in others:
        return False, None
    kind = child_type(type, key[2:]) if key.startswith("f:") else (type.item or ANY)
    return True, prune(child, had, now.get(key, LEAF), others.get(key, LEAF), kind)
