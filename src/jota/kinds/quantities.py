"""Quantities in their canonical text on every write: 1000m -> 1, 1024Mi -> 1Gi, 0.5 -> 500m (resource.Quantity's own form).

In: objects that hold resource lists, changed in place. What does not parse is left for validation to report.
"""

from __future__ import annotations

from typing import Any

from jota.kinds.shape import Object


def canonical_text(value: Any) -> Any:
    """One quantity; JSON numbers become text."""
    if type(value) is int or type(value) is float:
        value = str(value)
    return value


def canonical_resources(owner: Object, *keys: str, only: str = "") -> None:
    """Rewrite the resource lists owner[key]; with `only`, just that field of each."""
    for key in keys:
        amounts = owner.get(key)
        if isinstance(amounts, dict):
            for name, value in amounts.items():
                if (not only or name == only) and value is not None:
                    amounts[name] = canonical_text(value)
