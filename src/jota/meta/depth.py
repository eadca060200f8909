"""How deep a JSON value may be nested: deeper ones no encoder takes, and every recursive walk would have to fear them."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 200
"""Nesting of objects and lists; upstream's decoder allows 10,000, but no kind needs more than about 60."""


def too_deep(value: Any) -> bool:
    """Whether `value` is nested deeper than MAX_DEPTH. Does not recurse."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            return True
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        level = below
    return False
