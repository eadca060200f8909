"""Conditions in a status, as Kubernetes' controllers keep them. Pure."""

from __future__ import annotations

from typing import Any

from jota.aio.clock import rfc3339

Object = dict[str, Any]


def find(conditions: list[Object] | None, type_: str) -> Object | None:
    return next((c for c in conditions or () if c.get("type") == type_), None)


def put(
    conditions: list[Object], type_: str, status: str, reason: str, message: str, now: float, *, probed: bool = False
) -> list[Object]:
    """A new list with the condition set. The transition time moves only when the status changes; nothing changes when
    status, reason and message are the same. `probed`: it is of a kind (a Job's) that says when it was last looked at, too."""
    old = find(conditions, type_)
    if old and (old["status"], old.get("reason", ""), old.get("message", "")) == (status, reason, message):
        return conditions
    stamp = rfc3339(now)
    kept = old and old["status"] == status and old.get("lastTransitionTime")
    new = {"type": type_, "status": status, "lastTransitionTime": kept or stamp, "reason": reason, "message": message}
    if probed:
        new = {"type": type_, "status": status, "lastProbeTime": stamp, **new}
    return [*without(conditions, type_), new] if old is None else [new if c is old else c for c in conditions]


def without(conditions: list[Object], type_: str) -> list[Object]:
    return [c for c in conditions if c.get("type") != type_]
