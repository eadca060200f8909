"""JSON merge patch (RFC 7386): null deletes, objects merge, everything else replaces. Pure; shares unchanged parts."""

from __future__ import annotations

from typing import Any

from jota.meta.depth import MAX_DEPTH, too_deep
from jota.meta.errors import bad_request


def apply(obj: Any, patch: Any) -> Any:
    """The patched value. The result may share parts with both arguments; neither is changed.

    Raises ApiError 400 for a patch that is nested too deep."""
    if too_deep(patch):
        raise bad_request(f"error decoding patch: exceeded max depth {MAX_DEPTH}")
    return _merge(obj, patch)


def _merge(obj: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    out = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merge(out.get(key), value)
    return out


def diff(old: Any, new: Any) -> Any:
    """The smallest merge patch that makes `new` of `old` (objects; nulls inside `new` cannot be expressed)."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value or type(old[key]) is not type(value):
            patch[key] = diff(old[key], value)
    return patch
