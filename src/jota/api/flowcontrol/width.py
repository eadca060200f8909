"""How many seats a request takes: one, but for lists, which take more the more objects they read (upstream's estimate)."""

from __future__ import annotations

from collections.abc import Callable

from jota.api.path import Target

PER_SEAT = 100
"""Objects that a list reads for one seat."""
WIDEST = 10
"""Seats at most."""


def seats(target: Target, params: dict[str, str], stored: Callable[[], int]) -> int:
    """`stored`: how many objects the collection has; asked only when it matters."""
    if target.verb == "watch":
        # what it begins with is a list; a watch from a given version begins with nothing
        if params.get("resourceVersion", "") not in ("", "0") and "sendInitialEvents" not in params:
            return 1
    elif target.verb != "list":
        return 1
    count = stored()
    limit = params.get("limit", "")
    if limit.isdigit() and len(limit) < 10 and int(limit) and "fieldSelector" not in params:
        # with a selector everything is read, however little is given; a label selector may stop early
        count = min(count, int(limit)) if "labelSelector" not in params else count
    return max(1, min(WIDEST, -(-count // PER_SEAT)))
