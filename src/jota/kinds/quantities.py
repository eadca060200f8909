"""Quantities in their canonical text on every write: 1000m -> 1, 1024Mi -> 1Gi, 0.5 -> 500m (resource.Quantity's own form).

In: objects that hold resource lists, changed in place. What does not parse is left as it is, for `problem` to report.
"""

from __future__ import annotations

from typing import Any

from jota.kinds.shape import Object, part
from jota.meta.errors import FieldError, invalid
from jota.meta.quantity import FORMAT_ERROR, canonical, parse


def canonical_text(value: Any) -> Any:
    """One quantity as stored; what is not a quantity comes back unchanged."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return value
    try:
        return canonical(value)
    except ValueError:
        return value


def canonical_resources(owner: Object, *keys: str, only: str = "") -> None:
    """Rewrite the resource lists owner[key]; with `only`, just that field of each."""
    for key in keys:
        amounts = owner.get(key)
        if isinstance(amounts, dict):
            for name, value in amounts.items():
                if (not only or name == only) and value is not None:
                    amounts[name] = canonical_text(value)


def nanos(value: Any) -> int | None:
    """The exact amount times 10**9; None when it is not a quantity. Canonical texts are found in the parser's cache."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        return parse(value).nanos
    except ValueError:
        return None


def not_negative_quantity(value: Any, path: str) -> list[FieldError]:
    """Errors of one amount: it must parse and be zero or more."""
    amount = nanos(value)
    if amount is None:
        return [invalid(path, value, FORMAT_ERROR)]
    return [invalid(path, value, "must be greater than or equal to 0")] if amount < 0 else []


def not_negative_resources(owner: Object, key: str, path: str) -> list[FieldError]:
    """Errors of a whole resource list owner[key]."""
    errors: list[FieldError] = []
    for name, value in part(owner, key).items():
        errors += not_negative_quantity(value, f"{path}.{key}[{name}]")
    return errors
