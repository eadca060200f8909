"""JSON patch (RFC 6902): a list of operations on JSON pointers. Pure: copies only the containers on a changed path.

An undecodable patch is 400; a failed `test` or a missing path is 422; more than 10,000 operations are 413 (upstream's
limits and codes).
"""

from __future__ import annotations

from typing import Any

from jota.meta.depth import MAX_DEPTH, too_deep
from jota.meta.errors import ApiError, bad_request

MAX_OPERATIONS = 10_000
_MAX_COPIED = 3 * 1024 * 1024
"""Values that `copy` may add in one patch, roughly in bytes: without it a small patch doubles an object 10,000 times."""


def apply(obj: Any, patch: Any) -> Any:
    """The patched value; `obj` is not changed. Raises ApiError 400, 413 or 422."""
    operations = _operations(patch)
    if too_deep(patch):
        raise bad_request(f"error decoding patch: exceeded max depth {MAX_DEPTH}")
    document, owned, copied = obj, set[int](), 0
    for operation in operations:
        if operation["op"] == "copy":
            copied += _measure(_get(document, _pointer(operation, "from")))
            if copied > _MAX_COPIED:
                raise ApiError(
                    413, "RequestEntityTooLarge", f"Unable to complete copy, copies exceed {_MAX_COPIED} bytes"
                )
        document = _step(document, operation, owned)
    if any(op["op"] in ("copy", "move") or op.get("path", "").count("/") > MAX_DEPTH // 2 for op in operations):
        _measure(document)
    return document


def _operations(patch: Any) -> list[dict[str, Any]]:
    if not isinstance(patch, list):
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type jsonpatch.Patch")
    if len(patch) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        raise ApiError(413, "RequestEntityTooLarge", text)
    for operation in patch:
        if not isinstance(operation, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type jsonpatch.Operation")
        if operation.get("op") not in ("add", "remove", "replace", "move", "copy", "test"):
            raise _failed(f"Unexpected kind: {operation.get('op')}")
    return patch


def _failed(detail: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {detail}")


def _step(document: Any, operation: dict[str, Any], owned: set[int]) -> Any:
    op, path = operation["op"], _pointer(operation, "path")
    if op == "test":
        _test(document, path, operation)
        return document
    if op == "remove":
        return _remove(document, path, owned)
    if op in ("move", "copy"):
        source = _pointer(operation, "from")
        value = _get(document, source)
        if op == "move":
            if path[: len(source)] == source and path != source:
                raise _failed(f"move operation: cannot move {_text(source)} into itself")
            document = _remove(document, source, owned)
        else:
            # or it would stand in two places; what copies may add in all is bounded
            value = _copied(value)
        return _add(document, path, value, owned)
    if "value" not in operation:
        raise _failed(f"{op} operation does not apply: missing value")
    if op == "replace":
        _get(document, path)
        if not path:
            return operation["value"]
        return _replace(document, path, operation["value"], owned)
    return _add(document, path, operation["value"], owned)


def _pointer(operation: dict[str, Any], key: str) -> list[str]:
    text = operation.get(key)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _failed(f'{operation["op"]} operation: invalid JSON pointer in "{key}": {text!r}')
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _text(path: list[str]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _missing(path: list[str]) -> ApiError:
    return _failed(f"operation does not apply: doc is missing path: {_text(path)}: missing value")


def _get(document: Any, path: list[str]) -> Any:
    at = document
    for part in path:
        if isinstance(at, dict) and part in at:
            at = at[part]
        elif isinstance(at, list):
            at = at[_index(part, len(at) - 1, path)]
        else:
            raise _missing(path)
    return at


def _index(part: str, last: int, path: list[str]) -> int:
    if not part.isdecimal() or not part.isascii() or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        raise _missing(path)
    if int(part) > last:
        raise _failed(f"operation does not apply: doc is missing path: {_text(path)}: invalid index referenced")
    return int(part)


def _test(document: Any, path: list[str], operation: dict[str, Any]) -> None:
    try:
        found = _get(document, path)
    except ApiError:
        found = None  # as upstream's library: a missing path equals null
        if operation.get("value") is not None:
            raise
    if not _same(found, operation.get("value")):
        raise _failed(f"testing value {_text(path)} failed: test failed")


def _same(a: Any, b: Any) -> bool:
    """JSON equality: true is not 1, but 1 is 1.0."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _parent(document: Any, path: list[str], owned: set[int]) -> tuple[Any, Any]:
    """(document, the container that holds path's last part), with every container on the way our own copy.

    `owned` are the ids of copies made by this patch: all of them stay reachable from the document or unused."""
    document = at = _own(document, owned, path)
    for part in path[:-1]:
        key: Any = part
        if isinstance(at, list):
            key = _index(part, len(at) - 1, path)
        elif part not in at:
            raise _missing(path)
        at[key] = at = _own(at[key], owned, path)
    return document, at


def _own(container: Any, owned: set[int], path: list[str]) -> Any:
    if not isinstance(container, dict | list):
        raise _missing(path)
    if id(container) in owned:
        return container
    copy = container.copy()
    owned.add(id(copy))
    return copy


def _add(document: Any, path: list[str], value: Any, owned: set[int]) -> Any:
    if not path:
        return value
    document, parent = _parent(document, path, owned)
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif path[-1] == "-":
        parent.append(value)
    else:
        parent.insert(_index(path[-1], len(parent), path), value)
    return document


def _replace(document: Any, path: list[str], value: Any, owned: set[int]) -> Any:
    document, parent = _parent(document, path, owned)
    parent[path[-1] if isinstance(parent, dict) else _index(path[-1], len(parent) - 1, path)] = value
    return document


def _remove(document: Any, path: list[str], owned: set[int]) -> Any:
    if not path:
        raise _failed("remove operation does not apply: the whole document cannot be removed")
    document, parent = _parent(document, path, owned)
    if isinstance(parent, list):
        del parent[_index(path[-1], len(parent) - 1, path)]
    elif path[-1] in parent:
        del parent[path[-1]]
    else:
        raise _missing(path)
    return document


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value


def _measure(value: Any) -> int:
    """Roughly the bytes of a value. Raises ApiError 422 for one that is nested too deep."""
    if too_deep(value):
        raise _failed(f"exceeded max depth {MAX_DEPTH}")
    return _size(value)


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 8 + sum(len(key) + _size(child) for key, child in value.items())
    if isinstance(value, list):
        return 8 + sum(_size(child) for child in value)
    return len(value) if isinstance(value, str) else 8
