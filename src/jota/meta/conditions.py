"""Status conditions: find and set entries of a `conditions` list by type. Values in, values out; the time is passed in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Condition = dict[str, Any]


def find(conditions: Iterable[Condition] | None, type: str) -> Condition | None:
    """The condition of this type, None when absent."""
    return next((c for c in conditions or () if c.get("type") == type), None)


def is_true(conditions: Iterable[Condition] | None, type: str) -> bool:
    """Whether the condition is there with status "True"."""
    found = find(conditions, type)
    return found is not None and found.get("status") == "True"


def set(
    conditions: list[Condition] | None,
    type: str,
    status: str,
    *,
    now: str,
    reason: str = "",
    message: str = "",
    observed_generation: int | None = None,
    **more: Any,
) -> list[Condition]:
    """A new list with this condition in place; the same list when nothing changes, so that no write is due.

    `now` is RFC 3339. lastTransitionTime moves only when `status` changes, as upstream's SetStatusCondition. `more` are
    fields of special conditions (lastUpdateTime of a Deployment, lastHeartbeatTime of a Node); they count as changes.
    """
    old = find(conditions, type)
    new: Condition = dict(old or {}) | {"type": type, "status": status} | more
    for field, value in (("reason", reason), ("message", message), ("observedGeneration", observed_generation)):
        if value not in ("", None):
            new[field] = value
        elif field != "observedGeneration":
            new.pop(field, None)
    if old is None or old.get("status") != status or not old.get("lastTransitionTime"):
        new["lastTransitionTime"] = now
    if conditions is not None and new == old:
        return conditions
    rest = list(conditions or ())
    if old is None:
        return [*rest, new]
    return [new if c is old else c for c in rest]


def remove(conditions: list[Condition] | None, type: str) -> list[Condition]:
    """The list without this type; the same list when it is not there."""
    if conditions is None:
        return []
    return [c for c in conditions if c.get("type") != type] if find(conditions, type) else conditions
