"""JSON merge patch (RFC 7386): null deletes, objects merge, everything else replaces. Pure; shares unchanged parts."""

from __future__ import annotations

from typing import Any


def apply(obj: Any, patch: Any) -> Any:
    """The patched value. The result may share parts with both arguments; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    out = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = apply(out.get(key), value)
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
